//! The encoder: mel frames to the moments of latents.

use super::Config;
use super::blocks::{CausalConv, Downsample, Head, Middle, ResidualBlock, Slots, StreamState, blocks, moments};
use candle_core::{Result, Tensor};
use kinora_checkpoint::Weights;

type Load<T> = kinora_checkpoint::Result<T>;

pub(super) struct Encoder {
    conv_in: CausalConv,
    stages: Vec<(Vec<ResidualBlock>, Option<Downsample>)>,
    middle: Middle,
    head: Head,
}

impl Encoder {
    /// Reads everything below `weights`, which is `encoder`.
    pub(super) fn new(config: &Config, weights: &Weights) -> Load<Self> {
        let (slots, channels) = (Slots::default(), config.channels());
        let conv_in = CausalConv::new(&weights.pp("conv_in"), &slots, config.in_channels, config.base_channels)?;
        let (mut stages, mut inputs) = (Vec::new(), config.base_channels);
        for (stage, &outputs) in channels.iter().enumerate() {
            let weights = weights.pp("down").pp(stage);
            let blocks = blocks(&weights, &slots, [inputs, outputs], config.num_res_blocks)?;
            let is_last = stage + 1 == channels.len();
            let down = || Downsample::new(&weights.pp("downsample"), &slots, outputs);
            stages.push((blocks, if is_last { None } else { Some(down()?) }));
            inputs = outputs;
        }
        let middle = Middle::new(weights, &slots, inputs)?;
        let head = Head::new(weights, &slots, inputs, moments(config))?;
        Ok(Self { conv_in, stages, middle, head })
    }

    /// The next mel frames `[B, L, M, C]` → moments `[B, L', M', C']`: the clip's first frame is a latent alone, then each group of as many
    /// as the stages halve.
    pub(super) fn forward(&self, mel: Tensor, state: &mut StreamState) -> Result<Tensor> {
        let mut x = self.conv_in.forward(mel, state, None)?;
        for (blocks, down) in &self.stages {
            for block in blocks {
                x = block.forward(x, state)?;
            }
            if let Some(down) = down {
                x = down.forward(&x, state)?;
            }
        }
        let x = self.middle.forward(x, state)?;
        self.head.forward(&x, state)
    }
}

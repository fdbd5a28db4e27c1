//! The decoder: latents to mel frames.

use super::Config;
use super::blocks::{CausalConv, Head, Middle, ResidualBlock, Slots, StreamState, Upsample, blocks};
use candle_core::{Result, Tensor};
use kinora_checkpoint::Weights;

type Load<T> = kinora_checkpoint::Result<T>;

pub(super) struct Decoder {
    conv_in: CausalConv,
    middle: Middle,
    /// Lowest resolution first.
    stages: Vec<(Vec<ResidualBlock>, Option<Upsample>)>,
    head: Head,
}

impl Decoder {
    /// Reads everything below `weights`, which is `decoder`.
    pub(super) fn new(config: &Config, weights: &Weights) -> Load<Self> {
        let (slots, channels) = (Slots::default(), config.channels());
        let mut inputs = channels.last().copied().unwrap_or(config.base_channels);
        let conv_in = CausalConv::new(&weights.pp("conv_in"), &slots, config.latent_channels, inputs)?;
        let middle = Middle::new(weights, &slots, inputs)?;
        let mut stages = Vec::new();
        for (stage, &outputs) in channels.iter().enumerate().rev() {
            let weights = weights.pp("up").pp(stage);
            let blocks = blocks(&weights, &slots, [inputs, outputs], config.num_res_blocks + 1)?;
            let up = || Upsample::new(&weights.pp("upsample"), &slots, outputs);
            stages.push((blocks, if stage == 0 { None } else { Some(up()?) }));
            inputs = outputs;
        }
        let head = Head::new(weights, &slots, inputs, config.output_channels)?;
        Ok(Self { conv_in, middle, stages, head })
    }

    /// The next latents `[B, L, M, C]` → mel frames `[B, L', M', C']`: the clip's first latent is a frame alone, every other a group.
    pub(super) fn forward(&self, latents: Tensor, state: &mut StreamState) -> Result<Tensor> {
        let mut x = self.middle.forward(self.conv_in.forward(latents, state, None)?, state)?;
        for (blocks, up) in &self.stages {
            for block in blocks {
                x = block.forward(x, state)?;
            }
            if let Some(up) = up {
                x = up.forward(&x, state)?;
            }
        }
        self.head.forward(&x, state)
    }
}

//! The encoder: patched pixels to the mean and log variance of latents.

use super::blocks::{CausalLayer, Head, Middle, Pointwise, ResidualBlock};
use super::cache::{Slots, StreamState};
use super::resample::{Downsample, Shortcut};
use super::{Config, layer_weights};
use candle_core::{Result, Tensor};
use kinora_checkpoint::Weights;
use std::slice::from_ref;

type Load<T> = kinora_checkpoint::Result<T>;

pub(super) struct Encoder {
    conv: CausalLayer,
    stages: Vec<Stage>,
    middle: Middle,
    head: Head,
    to_latents: Pointwise,
}

impl Encoder {
    /// Reads `conv1` and everything below `encoder`.
    pub(super) fn new(config: &Config, weights: &Weights) -> Load<Self> {
        let slots = Slots::default();
        let moments = 2 * config.z_dim;
        let to_latents = Pointwise::new(&weights.pp("conv1"), moments, moments)?;
        let (weights, dims) = (weights.pp("encoder"), config.encoder_dims());
        let last = dims[dims.len() - 1];
        let stage = |(i, pair): (usize, &[usize])| Stage::new(config, &weights, &slots, i, pair[0], pair[1]);
        Ok(Self {
            conv: CausalLayer::new(&weights.pp("conv1"), &slots, config.in_channels, dims[0])?,
            stages: dims.windows(2).enumerate().map(stage).collect::<Load<_>>()?,
            middle: Middle::new(&weights.pp("middle"), &slots, last)?,
            head: Head::new(&weights.pp("head"), &slots, last, moments)?,
            to_latents,
        })
    }

    /// Encodes the next frames `[B, H, W, in_channels]`, which make one latent frame `[B, h, w, 2·z_dim]`.
    pub(super) fn forward(&self, frames: Vec<Tensor>, state: &mut StreamState) -> Result<Tensor> {
        let mut frames = frames;
        for (index, stage) in self.stages.iter().enumerate() {
            // Frame by frame, because the first convolution's results are large.
            let conv = if index == 0 { Some(&self.conv) } else { None };
            frames = stage.forward(&frames, conv, state)?;
        }
        let [x] = <[Tensor; 1]>::try_from(frames).map_err(|frames| {
            candle_core::Error::Msg(format!("the encoder made {} frames of one latent frame", frames.len()))
        })?;
        let x = self.middle.forward(x, state)?;
        self.to_latents.forward(&self.head.forward(&x, state)?)
    }
}

/// Residual blocks at one resolution, then downsampling to the next.
struct Stage {
    blocks: Vec<ResidualBlock>,
    downsample: Option<Downsample>,
    shortcut: Option<Shortcut>,
}

impl Stage {
    fn new(
        config: &Config,
        weights: &Weights,
        slots: &Slots,
        stage: usize,
        inputs: usize,
        outputs: usize,
    ) -> Load<Self> {
        let count = config.num_res_blocks;
        let layer = |index| layer_weights(config, weights, "downsamples", stage, count + 1, index);
        let block = |i| ResidualBlock::new(&layer(i), slots, if i == 0 { inputs } else { outputs }, outputs);
        let halves_frames = config.temperal_downsample.get(stage).copied();
        let shortcut = Shortcut {
            outputs,
            temporal: if halves_frames == Some(true) { 2 } else { 1 },
            spatial: if halves_frames.is_some() { 2 } else { 1 },
        };
        let downsample = |temporal| Downsample::new(&layer(count), slots, outputs, temporal);
        Ok(Self {
            blocks: (0..count).map(block).collect::<Load<_>>()?,
            downsample: halves_frames.map(downsample).transpose()?,
            shortcut: config.is_residual.then_some(shortcut),
        })
    }

    /// Frames `[B, H, W, C]` → as many or half as many `[B, H', W', outputs]`; `conv` comes first, if there is one.
    fn forward(&self, frames: &[Tensor], conv: Option<&CausalLayer>, state: &mut StreamState) -> Result<Vec<Tensor>> {
        let halves_frames = self.downsample.as_ref().is_some_and(Downsample::halves_frames);
        let count = if halves_frames && !state.is_first() { 2 } else { 1 };
        frames.chunks(count).map(|frames| self.one(frames, conv, state)).collect()
    }

    /// Computes one frame of the result from as many frames as make one.
    fn one(&self, frames: &[Tensor], conv: Option<&CausalLayer>, state: &mut StreamState) -> Result<Tensor> {
        let mut inputs = Vec::with_capacity(frames.len());
        for frame in frames {
            inputs.push(match conv {
                Some(conv) => conv.forward(from_ref(frame), state, None)?,
                None => frame.clone(),
            });
        }
        let skipped = self.shortcut.as_ref().map(|shortcut| shortcut.average(&inputs)).transpose()?;
        let mut outputs = Vec::with_capacity(inputs.len());
        for x in inputs {
            let x = self.blocks.iter().try_fold(x, |x, block| block.forward(x, state))?;
            outputs.push(match &self.downsample {
                Some(downsample) => downsample.reduce(&x)?,
                None => x,
            });
        }
        let x = match &self.downsample {
            Some(downsample) => downsample.merge(outputs, state)?,
            None => outputs.remove(0),
        };
        match skipped {
            Some(skipped) => x + skipped,
            None => Ok(x),
        }
    }
}

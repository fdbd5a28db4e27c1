//! The encoder: patched pixels to the mean and log variance of latents.

use super::blocks::{Head, Middle, ResidualBlock, causal_conv};
use super::cache::StreamState;
use super::resample::{Downsample, Shortcut};
use super::{Config, layer_weights};
use candle_core::{Result, Tensor};
use kinora_checkpoint::Weights;
use kinora_nn::CausalConv3d;

type Load<T> = kinora_checkpoint::Result<T>;

pub(super) struct Encoder {
    conv: CausalConv3d,
    stages: Vec<Stage>,
    middle: Middle,
    head: Head,
}

impl Encoder {
    pub(super) fn new(config: &Config, weights: &Weights) -> Load<Self> {
        let dims = config.encoder_dims();
        let last = dims[dims.len() - 1];
        let stages = dims.windows(2).enumerate();
        Ok(Self {
            conv: causal_conv(&weights.pp("conv1"), config.in_channels, dims[0])?,
            stages: stages.map(|(i, pair)| Stage::new(config, weights, i, pair[0], pair[1])).collect::<Load<_>>()?,
            middle: Middle::new(&weights.pp("middle"), last)?,
            head: Head::new(&weights.pp("head"), last, 2 * config.z_dim)?,
        })
    }

    /// The next chunk `x [B, in_channels, F, H, W]` → `[B, 2·z_dim, 1, h, w]`.
    pub(super) fn forward(&self, x: &Tensor, state: &mut StreamState) -> Result<Tensor> {
        let mut x = self.conv.forward(x, state.slot())?;
        for stage in &self.stages {
            x = stage.forward(x, state)?;
        }
        self.head.forward(&self.middle.forward(&x, state)?, state)
    }
}

/// Residual blocks at one resolution, then down to the next.
struct Stage {
    blocks: Vec<ResidualBlock>,
    downsample: Option<Downsample>,
    shortcut: Option<Shortcut>,
}

impl Stage {
    fn new(config: &Config, weights: &Weights, stage: usize, inputs: usize, outputs: usize) -> Load<Self> {
        let count = config.num_res_blocks;
        let layer = |index| layer_weights(config, weights, "downsamples", stage, count + 1, index);
        let block = |i| ResidualBlock::new(&layer(i), if i == 0 { inputs } else { outputs }, outputs);
        let halves_frames = config.temperal_downsample.get(stage).copied();
        let shortcut = Shortcut {
            outputs,
            temporal: if halves_frames == Some(true) { 2 } else { 1 },
            spatial: if halves_frames.is_some() { 2 } else { 1 },
        };
        Ok(Self {
            blocks: (0..count).map(block).collect::<Load<_>>()?,
            downsample: halves_frames.map(|temporal| Downsample::new(&layer(count), outputs, temporal)).transpose()?,
            shortcut: config.is_residual.then_some(shortcut),
        })
    }

    fn forward(&self, mut x: Tensor, state: &mut StreamState) -> Result<Tensor> {
        let skipped = self.shortcut.as_ref().map(|shortcut| shortcut.average(&x)).transpose()?;
        for block in &self.blocks {
            x = block.forward(&x, state)?;
        }
        if let Some(downsample) = &self.downsample {
            x = downsample.forward(&x, state)?;
        }
        match skipped {
            Some(skipped) => x + skipped,
            None => Ok(x),
        }
    }
}

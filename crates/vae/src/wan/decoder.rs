//! The decoder: latents to patched pixels.

use super::blocks::{Head, Middle, ResidualBlock, causal_conv};
use super::cache::StreamState;
use super::resample::{Shortcut, Upsample};
use super::{Config, layer_weights};
use candle_core::{Result, Tensor};
use kinora_checkpoint::Weights;
use kinora_nn::CausalConv3d;

type Load<T> = kinora_checkpoint::Result<T>;

pub(super) struct Decoder {
    conv: CausalConv3d,
    middle: Middle,
    stages: Vec<Stage>,
    head: Head,
}

impl Decoder {
    pub(super) fn new(config: &Config, weights: &Weights) -> Load<Self> {
        let dims = config.decoder_dims();
        let (first, last) = (dims[0].0, dims[dims.len() - 1].1);
        let stages = dims.iter().enumerate();
        Ok(Self {
            conv: causal_conv(&weights.pp("conv1"), config.z_dim, first)?,
            middle: Middle::new(&weights.pp("middle"), first)?,
            stages: stages.map(|(i, &(from, to))| Stage::new(config, weights, i, from, to)).collect::<Load<_>>()?,
            head: Head::new(&weights.pp("head"), last, config.out_channels)?,
        })
    }

    /// The next latent frame `z [B, z_dim, 1, h, w]` → `[B, out_channels, F, H, W]`.
    pub(super) fn forward(&self, z: &Tensor, state: &mut StreamState) -> Result<Tensor> {
        let x = self.conv.forward(z, state.slot())?;
        let mut x = self.middle.forward(&x, state)?;
        for stage in &self.stages {
            x = stage.forward(x, state)?;
        }
        self.head.forward(&x, state)
    }
}

/// Residual blocks at one resolution, then up to the next.
struct Stage {
    blocks: Vec<ResidualBlock>,
    upsample: Option<Upsample>,
    shortcut: Option<Shortcut>,
}

impl Stage {
    fn new(config: &Config, weights: &Weights, stage: usize, inputs: usize, outputs: usize) -> Load<Self> {
        let count = config.num_res_blocks + 1;
        let layer = |index| layer_weights(config, weights, "upsamples", stage, count + 1, index);
        let block = |i| ResidualBlock::new(&layer(i), if i == 0 { inputs } else { outputs }, outputs);
        let doubles_frames = config.temperal_downsample.iter().rev().nth(stage).copied();
        let upsampled = if config.is_residual { outputs } else { outputs / 2 };
        let upsample = |temporal| Upsample::new(&layer(count), outputs, upsampled, temporal);
        let shortcut = |temporal| Shortcut { outputs, temporal: if temporal { 2 } else { 1 }, spatial: 2 };
        Ok(Self {
            blocks: (0..count).map(block).collect::<Load<_>>()?,
            upsample: doubles_frames.map(upsample).transpose()?,
            shortcut: doubles_frames.filter(|_| config.is_residual).map(shortcut),
        })
    }

    fn forward(&self, mut x: Tensor, state: &mut StreamState) -> Result<Tensor> {
        // Kept only where a shortcut needs it: at full resolution it is as large as everything else.
        let input = self.shortcut.as_ref().map(|shortcut| (shortcut, x.clone()));
        for block in &self.blocks {
            x = block.forward(&x, state)?;
        }
        if let Some(upsample) = &self.upsample {
            x = upsample.forward(x, state)?;
        }
        match input {
            Some((shortcut, input)) => x + shortcut.repeat(&input, state.is_first())?,
            None => Ok(x),
        }
    }
}

//! The decoder: latents to patched pixels. Every frame goes through all stages before the next one, so that only one frame
//! (and the causal caches) is held at full resolution.

use super::blocks::{CausalLayer, Head, Middle, Pointwise, ResidualBlock};
use super::cache::{Slots, StreamState};
use super::resample::{Shortcut, Upsample};
use super::windows::{Windows, doubled};
use super::{Config, layer_weights};
use crate::window::crop;
use candle_core::{Result, Tensor};
use kinora_checkpoint::Weights;

type Load<T> = kinora_checkpoint::Result<T>;

pub(super) struct Decoder {
    from_latents: Pointwise,
    conv: CausalLayer,
    middle: Middle,
    stages: Vec<Stage>,
    head: Head,
}

impl Decoder {
    /// Reads `conv2` and everything below `decoder`.
    pub(super) fn new(config: &Config, weights: &Weights) -> Load<Self> {
        let slots = Slots::default();
        let from_latents = Pointwise::new(&weights.pp("conv2"), config.z_dim, config.z_dim)?;
        let (weights, dims) = (weights.pp("decoder"), config.decoder_dims());
        let (first, last) = (dims[0].0, dims[dims.len() - 1].1);
        let stage = |(i, &(from, to))| Stage::new(config, &weights, &slots, i, from, to);
        Ok(Self {
            from_latents,
            conv: CausalLayer::new(&weights.pp("conv1"), &slots, config.z_dim, first)?,
            middle: Middle::new(&weights.pp("middle"), &slots, first)?,
            stages: dims.iter().enumerate().map(stage).collect::<Load<_>>()?,
            head: Head::new(&weights.pp("head"), &slots, last, config.out_channels)?,
        })
    }

    /// Decodes the next latent frame `z [B, h, w, z_dim]` and returns the tile of `windows`, which must be the same for all
    /// frames of a stream, of its frames `[B, H, W, out_channels]`.
    pub(super) fn forward(&self, z: &Tensor, windows: &Windows, state: &mut StreamState) -> Result<Vec<Tensor>> {
        let x = self.conv.forward(&[self.from_latents.forward(z)?], state, None)?;
        let (_, h, w, _) = x.dims4()?;
        // Its attention sees the whole frame, at the lowest resolution.
        let x = crop(self.middle.forward(x, state)?, &[0..h, 0..w], &windows.stages[0])?;
        let mut frames = Vec::new();
        self.finish(&self.stages, x, windows, state, &mut frames)?;
        Ok(frames)
    }

    /// Takes a frame through the remaining `stages`.
    fn finish(
        &self,
        stages: &[Stage],
        x: Tensor,
        windows: &Windows,
        state: &mut StreamState,
        out: &mut Vec<Tensor>,
    ) -> Result<()> {
        let at = self.stages.len() - stages.len();
        let Some((stage, rest)) = stages.split_first() else {
            out.push(crop(self.head.forward(&x, state)?, &windows.stages[at - 1], &windows.out)?);
            return Ok(());
        };
        // Kept only where a shortcut needs it.
        let input = stage.shortcut.as_ref().map(|_| x.clone());
        let x = stage.blocks.iter().try_fold(x, |x, block| block.forward(x, state))?;
        let Some(upsample) = &stage.upsample else { return self.finish(rest, x, windows, state, out) };
        let frames = upsample.frames(x, state)?;
        // The clip's first frame stays alone; to the shortcut it is the last of those that another would become.
        let absent = upsample.factor() - frames.len();
        for (index, frame) in frames.into_iter().enumerate() {
            let enlarged = match (&stage.shortcut, &input) {
                (Some(shortcut), Some(input)) => {
                    upsample.enlarge(&frame, Some(&shortcut.repeat(input, absent + index)?))?
                }
                _ => upsample.enlarge(&frame, None)?,
            };
            drop(frame); // before the next stage needs memory
            let enlarged = crop(enlarged, &doubled(&windows.stages[at]), &windows.stages[at + 1])?;
            self.finish(rest, enlarged, windows, state, out)?;
        }
        Ok(())
    }
}

/// Residual blocks at one resolution, then upsampling to the next.
struct Stage {
    blocks: Vec<ResidualBlock>,
    upsample: Option<Upsample>,
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
        let count = config.num_res_blocks + 1;
        let layer = |index| layer_weights(config, weights, "upsamples", stage, count + 1, index);
        let block = |i| ResidualBlock::new(&layer(i), slots, if i == 0 { inputs } else { outputs }, outputs);
        let doubles_frames = config.temperal_downsample.iter().rev().nth(stage).copied();
        let upsampled = if config.is_residual { outputs } else { outputs / 2 };
        let upsample = |temporal| Upsample::new(&layer(count), slots, outputs, upsampled, temporal);
        let shortcut = |temporal| Shortcut { outputs, temporal: if temporal { 2 } else { 1 }, spatial: 2 };
        Ok(Self {
            blocks: (0..count).map(block).collect::<Load<_>>()?,
            upsample: doubles_frames.map(upsample).transpose()?,
            shortcut: doubles_frames.filter(|_| config.is_residual).map(shortcut),
        })
    }
}

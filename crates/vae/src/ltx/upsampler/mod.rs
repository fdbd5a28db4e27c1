//! [`LatentUpsampler`]: networks that enlarge the latents of LTX-2.x between two stages of denoising
//! (<https://github.com/Lightricks/LTX-2/tree/400fd31054597515f47125691032c04b1c3ee24e/packages/ltx-core/src/ltx_core/model/upsampler>).
//!
//! Convolutions see zeros around the clip. A group norm averages over all frames, so that the clip is computed as a whole: its
//! latents are small. Frames are `[B, H, W, C]`.

mod config;
mod layers;

use crate::{Error, LatentFormat, Result};
use candle_core::{DType, Device, Tensor};
pub use config::{UpsamplerConfig, Upsampling, upsampler_names};
use kinora_checkpoint::Weights;
use layers::{Conv, GroupNorm, ResidualBlock, activate, blurred, shuffled};

/// A network that enlarges latents.
pub struct LatentUpsampler {
    initial: Conv,
    initial_norm: GroupNorm,
    before: Vec<ResidualBlock>,
    enlarge: Conv,
    blur: Option<Tensor>,
    after: Vec<ResidualBlock>,
    last: Conv,
    upsampling: Upsampling,
    channels: usize,
    device: Device,
    dtype: DType,
}

impl LatentUpsampler {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A configuration that cannot be built; parameters that are missing or have another shape.
    pub fn new(config: &UpsamplerConfig, weights: &Weights) -> Result<Self> {
        config.validate()?;
        let (channels, mid) = (config.channels, config.mid_channels);
        let upsampler = weights.pp("upsampler");
        let (enlarge, blur) = match config.upsampling {
            Upsampling::Spatial => (Conv::shuffled(&upsampler.pp(0), mid, 1, 4)?, None),
            Upsampling::Temporal => (Conv::shuffled(&upsampler.pp(0), mid, 3, 2)?, None),
            Upsampling::Rational { up, .. } => {
                let kernel = upsampler.pp("blur_down").get_dtype("kernel", (1, 1, 5, 5), DType::F32)?;
                (Conv::shuffled(&upsampler.pp("conv"), mid, 1, up * up)?, Some(kernel))
            }
        };
        let blocks = |name: &str| -> kinora_checkpoint::Result<Vec<ResidualBlock>> {
            (0..config.blocks).map(|index| ResidualBlock::new(&weights.pp(name).pp(index), mid)).collect()
        };
        Ok(Self {
            initial: Conv::new(&weights.pp("initial_conv"), channels, mid)?,
            initial_norm: GroupNorm::new(&weights.pp("initial_norm"), mid)?,
            before: blocks("res_blocks")?,
            enlarge,
            blur,
            after: blocks("post_upsample_res_blocks")?,
            last: Conv::new(&weights.pp("final_conv"), mid, channels)?,
            upsampling: config.upsampling,
            channels,
            device: weights.device().clone(),
            dtype: weights.dtype(),
        })
    }

    /// Enlarges normalised latents, as diffusion models see them: f32 `[B, C, F, h, w]` → `[B, C, F', h', w']`.
    ///
    /// # Errors
    /// As [`LatentUpsampler::forward`].
    pub fn upsample(&self, format: &LatentFormat, latents: &Tensor) -> Result<Tensor> {
        Ok(format.normalise(&self.forward(&format.denormalise(latents)?)?)?)
    }

    /// Enlarges latents as the autoencoder makes them: `[B, C, F, h, w]` → f32 `[B, C, F', h', w']`.
    ///
    /// # Errors
    /// Latents of another shape; or whatever candle fails on.
    pub fn forward(&self, latents: &Tensor) -> Result<Tensor> {
        let shape = latents.dims();
        if !matches!(*shape, [_, c, _, _, _] if c == self.channels) || shape.contains(&0) {
            let expected = format!("[B, {}, F, h, w]", self.channels);
            return Err(Error::Shape { what: "the latents", found: shape.to_vec(), expected });
        }
        let x = latents.to_device(&self.device)?.to_dtype(self.dtype)?.permute((2, 0, 3, 4, 1))?; // [F, B, h, w, C]
        let frames =
            (0..shape[2]).map(|f| x.narrow(0, f, 1)?.squeeze(0)?.contiguous()).collect::<candle_core::Result<_>>()?;
        let mut frames = self.initial.forward(frames)?;
        self.initial_norm.apply(&mut frames)?;
        activate(&mut frames)?;
        for block in &self.before {
            frames = block.forward(frames)?;
        }
        frames = self.enlarged(frames)?;
        for block in &self.after {
            frames = block.forward(frames)?;
        }
        let frames = self.last.forward(frames)?;
        Ok(Tensor::stack(&frames, 0)?.permute((1, 4, 0, 2, 3))?.to_dtype(DType::F32)?.contiguous()?)
    }

    fn enlarged(&self, frames: Vec<Tensor>) -> candle_core::Result<Vec<Tensor>> {
        let frames = self.enlarge.forward(frames)?;
        match self.upsampling {
            Upsampling::Spatial => frames.iter().map(|x| shuffled(x, 2)).collect(),
            Upsampling::Rational { up, down } => frames
                .iter()
                .map(|x| match &self.blur {
                    Some(kernel) if down > 1 => blurred(&shuffled(x, up)?, kernel, down),
                    _ => shuffled(x, up),
                })
                .collect(),
            Upsampling::Temporal => {
                let mut halves = Vec::with_capacity(2 * frames.len());
                for x in &frames {
                    let outputs = x.dim(3)? / 2;
                    for first in [0, outputs] {
                        halves.push(x.narrow(3, first, outputs)?.force_contiguous()?);
                    }
                }
                halves.remove(0); // the first latent frame is one pixel frame
                Ok(halves)
            }
        }
    }
}

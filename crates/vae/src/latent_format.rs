//! [`LatentFormat`]: how a diffusion model's latents relate to pixels and to what its autoencoder produces.

use candle_core::{DType, Result, Tensor};

/// Size and scale of an autoencoder's latents.
///
/// Diffusion models see *normalised* latents, `(z - mean) / std` per channel.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentFormat {
    /// Channels of a latent.
    pub channels: usize,
    /// Pixel frames per latent frame, but for the first latent frame, which is one pixel frame.
    pub temporal_factor: usize,
    /// Pixels per latent, in each of height and width.
    pub spatial_factor: usize,
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel.
    pub std: Vec<f32>,
}

impl LatentFormat {
    /// Normalises the autoencoder's own latents `z [B, C, F, h, w]`, f32.
    pub fn normalise(&self, z: &Tensor) -> Result<Tensor> {
        let (mean, std) = (self.per_channel(&self.mean, z)?, self.per_channel(&self.std, z)?);
        z.to_dtype(DType::F32)?.broadcast_sub(&mean)?.broadcast_div(&std)
    }

    /// Computes the inverse of [`LatentFormat::normalise`], f32.
    pub fn denormalise(&self, latents: &Tensor) -> Result<Tensor> {
        let (mean, std) = (self.per_channel(&self.mean, latents)?, self.per_channel(&self.std, latents)?);
        latents.to_dtype(DType::F32)?.broadcast_mul(&std)?.broadcast_add(&mean)
    }

    /// Returns the latent frames of a clip; pixel frames at the end that fill no latent frame do not count.
    pub fn latent_frames(&self, pixel_frames: usize) -> usize {
        if pixel_frames == 0 { 0 } else { (pixel_frames - 1) / self.temporal_factor + 1 }
    }

    /// Returns the pixel frames that so many latent frames decode to.
    pub fn pixel_frames(&self, latent_frames: usize) -> usize {
        if latent_frames == 0 { 0 } else { (latent_frames - 1) * self.temporal_factor + 1 }
    }

    fn per_channel(&self, values: &[f32], like: &Tensor) -> Result<Tensor> {
        Tensor::new(values, like.device())?.reshape((1, self.channels, 1, 1, 1))
    }
}

//! Latents ↔ tokens: a convolution whose kernel is its stride is a linear layer over patches.

use super::WanConfig;
use candle_core::{Result, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::Epilogue;
use kinora_nn::Linear;

/// A convolution over patches that do not overlap.
pub(super) struct PatchEmbedding {
    projection: Linear,
    patch_size: [usize; 3],
}

impl PatchEmbedding {
    /// Reads the weights for latents of `channels`.
    pub(super) fn new(config: &WanConfig, channels: usize, weights: &Weights) -> crate::Result<Self> {
        let ([pt, ph, pw], dim) = (config.patch_size, config.dim());
        let projection = Linear::of_patches(weights, [dim, channels, pt, ph, pw])?;
        Ok(Self { projection, patch_size: config.patch_size })
    }

    /// `[B, C, F, H, W]` → `[B, L, dim]`, plus `added` of that shape.
    pub(super) fn forward(&self, latents: &Tensor, added: Option<&Tensor>) -> Result<Tensor> {
        self.projection
            .forward_then(&patchify(latents, self.patch_size)?, added.map_or(Epilogue::None, Epilogue::Residual))
    }
}

/// `x [B, C, F, H, W]` → `[B, L, C·pt·ph·pw]`, tokens in the order frames, rows, columns.
fn patchify(x: &Tensor, [pt, ph, pw]: [usize; 3]) -> Result<Tensor> {
    let (b, c, f, h, w) = x.dims5()?;
    let (f, h, w) = (f / pt, h / ph, w / pw);
    x.reshape(vec![b, c, f, pt, h, ph, w, pw])? // [B, C, f, pt, h, ph, w, pw]
        .permute(vec![0, 2, 4, 6, 1, 3, 5, 7])? // [B, f, h, w, C, pt, ph, pw]
        .reshape((b, f * h * w, c * pt * ph * pw))
}

/// `x [B, f·h·w, pt·ph·pw·C]` → `[B, C, f·pt, h·ph, w·pw]`; unlike in [`patchify`], channels vary fastest.
pub(super) fn unpatchify(x: &Tensor, [f, h, w]: [usize; 3], [pt, ph, pw]: [usize; 3]) -> Result<Tensor> {
    let (b, _, width) = x.dims3()?;
    let c = width / (pt * ph * pw);
    x.reshape(vec![b, f, h, w, pt, ph, pw, c])? // [B, f, h, w, pt, ph, pw, C]
        .permute(vec![0, 7, 1, 4, 2, 5, 3, 6])? // [B, C, f, pt, h, ph, w, pw]
        .reshape((b, c, f * pt, h * ph, w * pw))
}

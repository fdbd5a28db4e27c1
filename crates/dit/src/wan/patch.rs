//! Latents ↔ tokens: a convolution whose kernel is its stride is a linear layer over patches.

use candle_core::{Result, Tensor};

/// `x [B, C, F, H, W]` → `[B, L, C·pt·ph·pw]`, tokens in the order frames, rows, columns.
pub(super) fn patchify(x: &Tensor, [pt, ph, pw]: [usize; 3]) -> Result<Tensor> {
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

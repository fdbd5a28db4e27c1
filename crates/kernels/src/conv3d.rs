//! 3-D convolution (and 2-D, as a kernel of one temporal tap).

use candle_core::{Result, Tensor};

/// Strides and zero padding of [`conv3d`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv3dOptions {
    /// Strides over frames, rows, columns.
    pub stride: [usize; 3],
    /// Zeros before and after, over frames, rows, columns.
    pub padding: [(usize, usize); 3],
}

impl Default for Conv3dOptions {
    fn default() -> Self {
        Self { stride: [1; 3], padding: [(0, 0); 3] }
    }
}

/// 3-D convolution of `x [B, C, F, H, W]` with `weight [O, C, kf, kh, kw]` and `bias [O]` → `[B, O, F', H', W']`.
pub fn conv3d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, options: Conv3dOptions) -> Result<Tensor> {
    crate::reference::conv3d(x, weight, bias, options)
}

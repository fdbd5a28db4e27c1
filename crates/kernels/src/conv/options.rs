//! The geometry of a convolution over frames.

/// Stride, padding and upsampling of a [`FrameConv`](crate::FrameConv), the same for rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameConvOptions {
    /// Rows and columns from one position to the next.
    pub stride: usize,
    /// Zeros before and after.
    pub padding: (usize, usize),
    /// Doubles rows and columns first, by repeating pixels (nearest-exact).
    pub upsample: bool,
    /// Continues the frame by its mirror image, without its outermost pixels, and not by zeros. Only a kernel of 3×3 with a
    /// stride and a padding of 1 can, on frames of at least 2×2.
    pub reflect: bool,
}

impl Default for FrameConvOptions {
    fn default() -> Self {
        Self { stride: 1, padding: (0, 0), upsample: false, reflect: false }
    }
}

//! What is computed with a product before it is written, and with its input before it is read.

use candle_core::Tensor;

/// A function of each result `y`, computed in f32 before the result is written.
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// `y`.
    None,
    /// `gelu(y)`, tanh approximation.
    GeluTanh,
    /// `y · sigmoid(y)`.
    Silu,
    /// `y · other`; `other` has the result's shape and dtype.
    Product(&'a Tensor),
    /// `x + y`; `x` has the result's shape and dtype.
    Residual(&'a Tensor),
    /// `x + y · gate`; `x [B, L, N]` has the result's shape and dtype, `gate` is `[1|B, 1|L, N]`.
    GatedResidual {
        /// The tensor that the gated result is added to.
        x: &'a Tensor,
        /// The gate.
        gate: &'a Tensor,
    },
}

/// A function of the input, computed in f32 before the product; its result has the input's dtype. Where weights are
/// quantised for a GPU, the result is quantised in the same pass.
#[derive(Clone, Copy)]
pub enum Prologue<'a> {
    /// The input.
    None,
    /// [`gelu_tanh`](crate::gelu_tanh).
    GeluTanh,
    /// [`layer_norm`](crate::layer_norm).
    LayerNorm {
        /// Weight and bias `[K]`.
        affine: Option<(&'a Tensor, &'a Tensor)>,
        /// Added to the variance.
        eps: f64,
    },
    /// [`layer_norm_modulate`](crate::layer_norm_modulate) of `x [B, L, K]`.
    LayerNormModulate {
        /// `[1|B, 1|L, K]`, as the scale.
        shift: &'a Tensor,
        /// See `shift`.
        scale: &'a Tensor,
        /// Added to the variance.
        eps: f64,
    },
    /// [`rms_norm_modulate`](crate::rms_norm_modulate) of `x [B, L, K]`.
    RmsNormModulate {
        /// Shift and scale, `[1|B, 1|L, K]`.
        modulation: Option<(&'a Tensor, &'a Tensor)>,
        /// Added to the mean of the squares.
        eps: f64,
    },
}

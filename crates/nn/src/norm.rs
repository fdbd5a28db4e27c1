//! Norms; their parameters stay f32 whatever the model's dtype.

use candle_core::{DType, Result, Shape, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::Prologue;

/// Layer norm over the last axis, with or without affine parameters.
pub struct LayerNorm {
    affine: Option<(Tensor, Tensor)>,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias` `[dim]`.
    pub fn affine(weights: &Weights, dim: usize, eps: f64) -> kinora_checkpoint::Result<Self> {
        let weight = weights.get_dtype("weight", dim, DType::F32)?;
        Ok(Self { affine: Some((weight, weights.get_dtype("bias", dim, DType::F32)?)), eps })
    }

    /// Returns a norm without parameters.
    pub fn plain(eps: f64) -> Self {
        Self { affine: None, eps }
    }

    /// Returns the norm as the prologue of a linear layer.
    pub fn prologue(&self) -> Prologue<'_> {
        Prologue::LayerNorm { affine: self.affine.as_ref().map(|(weight, bias)| (weight, bias)), eps: self.eps }
    }

    /// `x [.., dim]` → the same shape and dtype.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let affine = self.affine.as_ref();
        kinora_kernels::layer_norm(x, affine.map(|(w, _)| w), affine.map(|(_, b)| b), self.eps)
    }
}

/// RMS norm over the last axis, `weight [dim]`.
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// Reads `weight [dim]`.
    pub fn new(weights: &Weights, dim: usize, eps: f64) -> kinora_checkpoint::Result<Self> {
        Ok(Self { weight: weights.get_dtype("weight", dim, DType::F32)?, eps })
    }

    /// `x [.., dim]` → the same shape and dtype.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        kinora_kernels::rms_norm(x, &self.weight, self.eps)
    }

    /// Computes [`RmsNorm::forward`] over all heads of `x [B, L, N, D]` together and rotates them by the angles of `cos`,
    /// `sin`, f32 `[L, D/2]`, in one pass.
    pub fn forward_rope(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        kinora_kernels::rms_norm_rope(x, &self.weight, self.eps, cos, sin)
    }

    /// Computes [`RmsNorm::forward`] over all heads of `x [B, L, N, D]` together and rotates each head's first half with its
    /// second, by angles of its own of `cos`, `sin`, f32 `[L, N·D/2]`, in one pass.
    pub fn forward_rope_split(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        kinora_kernels::rms_norm_rope_split(x, &self.weight, self.eps, cos, sin)
    }
}

/// The Wan VAE's RMS norm over channels.
pub struct ChannelRmsNorm {
    gamma: Tensor,
}

impl ChannelRmsNorm {
    /// Reads `gamma`, whose `shape` is `[C, 1, 1]` or `[C, 1, 1, 1]`, depending on the layer.
    pub fn new(weights: &Weights, shape: impl Into<Shape>) -> kinora_checkpoint::Result<Self> {
        Ok(Self { gamma: weights.get_dtype("gamma", shape, DType::F32)?.flatten_all()? })
    }

    /// `x [.., C]` → the same shape and dtype.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        kinora_kernels::channel_rms_norm(x, &self.gamma)
    }

    /// Computes `silu(norm(x))` in one pass.
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        kinora_kernels::channel_rms_norm_silu(x, &self.gamma)
    }
}

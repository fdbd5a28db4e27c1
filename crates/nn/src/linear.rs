//! [`Linear`], which hides how its weights are stored.

use candle_core::{DType, Result, Tensor};
use kinora_checkpoint::Weights;

/// A linear layer, `weight [out, in]`, `bias [out]`.
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` and `bias` below `weights`.
    pub fn new(weights: &Weights, inputs: usize, outputs: usize) -> kinora_checkpoint::Result<Self> {
        let bias = Some(weights.get("bias", outputs)?);
        Ok(Self { weight: weights.get("weight", (outputs, inputs))?, bias })
    }

    /// Like [`Linear::new`], in a dtype of the caller's choice (the timestep's embedding stays f32).
    pub fn with_dtype(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        dtype: DType,
    ) -> kinora_checkpoint::Result<Self> {
        let bias = Some(weights.get_dtype("bias", outputs, dtype)?);
        Ok(Self { weight: weights.get_dtype("weight", (outputs, inputs), dtype)?, bias })
    }

    /// Reads `weight` only.
    pub fn no_bias(weights: &Weights, inputs: usize, outputs: usize) -> kinora_checkpoint::Result<Self> {
        Ok(Self { weight: weights.get("weight", (outputs, inputs))?, bias: None })
    }

    /// `x [.., in]` → `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        kinora_kernels::linear(x, &self.weight, self.bias.as_ref())
    }
}

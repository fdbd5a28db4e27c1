//! [`Linear`], which hides how its weights are stored.

use candle_core::{DType, Result, Shape, Tensor};
use kinora_checkpoint::{Quant, Weights};
use kinora_kernels::{Epilogue, Layer, LinearWeight, Prologue, linear, linear_after, linear_each, mlp};

/// A linear layer, `weight [out, in]`, `bias [out]`.
pub struct Linear {
    weight: LinearWeight,
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` and `bias` below `weights`, quantised as the view asks for.
    pub fn new(weights: &Weights, inputs: usize, outputs: usize) -> kinora_checkpoint::Result<Self> {
        Self::with_dtype(weights, inputs, outputs, weights.dtype())
    }

    /// Reads like [`Linear::new`], in another dtype than the model's (the timestep's embedding stays f32).
    pub fn with_dtype(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        dtype: DType,
    ) -> kinora_checkpoint::Result<Self> {
        let bias = Some(weights.get_dtype("bias", outputs, DType::F32)?);
        Ok(Self { weight: packed(weights, (outputs, inputs), dtype)?, bias })
    }

    /// Reads `weight` only.
    pub fn no_bias(weights: &Weights, inputs: usize, outputs: usize) -> kinora_checkpoint::Result<Self> {
        Ok(Self { weight: packed(weights, (outputs, inputs), weights.dtype())?, bias: None })
    }

    /// Reads a convolution whose kernel equals its stride, which is a linear layer over patches:
    /// `weight [out, C, kf, kh, kw]`, where `in` is the product of the last four sizes. It is never quantised.
    pub fn of_patches(weights: &Weights, kernel: [usize; 5]) -> kinora_checkpoint::Result<Self> {
        let weight = matrix(weights, kernel.to_vec(), weights.dtype())?.flatten_from(1)?;
        let bias = Some(weights.get_dtype("bias", kernel[0], DType::F32)?);
        Ok(Self { weight: LinearWeight::new(&weight)?, bias })
    }

    /// `x [.., in]` → `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_then(x, Epilogue::None)
    }

    /// Computes [`Linear::forward`] of the prologue's result.
    pub fn forward_after(&self, x: &Tensor, prologue: Prologue) -> Result<Tensor> {
        linear_after(x, prologue, self.layer(), Epilogue::None)
    }

    /// Computes [`Linear::forward_after`] of several layers over the same `x`.
    pub fn forward_each<const COUNT: usize>(
        layers: [&Self; COUNT],
        x: &Tensor,
        prologue: Prologue,
    ) -> Result<Vec<Tensor>> {
        linear_each(x, prologue, &layers.map(Self::layer))
    }

    /// Computes [`Linear::forward_after`] of the first of two layers, GELU (tanh approximation), and
    /// [`Linear::forward_then`] of the second.
    pub fn mlp(layers: [&Self; 2], x: &Tensor, prologue: Prologue, epilogue: Epilogue) -> Result<Tensor> {
        mlp(x, prologue, layers.map(Self::layer), epilogue)
    }

    /// Computes [`Linear::forward`] and the epilogue, in one pass over the result.
    pub fn forward_then(&self, x: &Tensor, epilogue: Epilogue) -> Result<Tensor> {
        linear(x, &self.weight, self.bias.as_ref(), epilogue)
    }
}

impl Linear {
    fn layer(&self) -> Layer<'_> {
        (&self.weight, self.bias.as_ref())
    }
}

/// The tensor `weight`, as the kernels read it.
fn packed(weights: &Weights, shape: (usize, usize), dtype: DType) -> kinora_checkpoint::Result<LinearWeight> {
    let matrix = matrix(weights, shape, dtype)?;
    Ok(match weights.quant() {
        None if matrix.dtype() == dtype => LinearWeight::for_own_dtype(&matrix)?,
        None => LinearWeight::new(&matrix)?,
        Some(quant) => {
            let packed = match quant {
                Quant::Int8 => LinearWeight::int8(&matrix)?,
                Quant::Fp8 => LinearWeight::fp8(&matrix)?,
            };
            // A byte per weight, and a scale and a sum per output.
            weights.kept_in("weight", shape.0 * (shape.1 + 8), packed.tensors());
            packed
        }
    })
}

/// The tensor `weight`. 16-bit weights of an f32 model on the CPU stay 16 bits wide: the kernel widens them, and the
/// numbers are the same.
fn matrix(weights: &Weights, shape: impl Into<Shape>, dtype: DType) -> kinora_checkpoint::Result<Tensor> {
    let shape = shape.into();
    if dtype == DType::F32 && weights.device().is_cpu() {
        let stored = weights.get_stored("weight", shape.clone())?;
        if matches!(stored.dtype(), DType::F32 | DType::BF16 | DType::F16) {
            return Ok(stored);
        }
    }
    weights.get_dtype("weight", shape, dtype)
}

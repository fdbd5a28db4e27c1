//! [`Linear`], which hides how its weights are stored.

use candle_core::{DType, Device, Result, Shape, Tensor};
use kinora_checkpoint::{LowRank, Quant, StoredMatrix, Weights};
use kinora_formats::Format;
use kinora_kernels::{Epilogue, Layer, LinearWeight, Prologue, Side, linear_after, linear_each, mlp};

/// A linear layer, `weight [out, in]`, `bias [out]`.
pub struct Linear {
    weight: LinearWeight,
    bias: Option<Tensor>,
    /// Changes of a weight that stays as it is stored.
    sides: Vec<Side>,
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
        Self::read(weights, (outputs, inputs), dtype, bias)
    }

    /// Reads `weight` only.
    pub fn no_bias(weights: &Weights, inputs: usize, outputs: usize) -> kinora_checkpoint::Result<Self> {
        Self::read(weights, (outputs, inputs), weights.dtype(), None)
    }

    /// Reads a convolution whose kernel equals its stride, which is a linear layer over patches:
    /// `weight [out, C, kf, kh, kw]`, where `in` is the product of the last four sizes. It is never quantised.
    pub fn of_patches(weights: &Weights, kernel: [usize; 5]) -> kinora_checkpoint::Result<Self> {
        let weight = matrix(weights, kernel.to_vec(), weights.dtype())?.flatten_from(1)?;
        let bias = Some(weights.get_dtype("bias", kernel[0], DType::F32)?);
        Ok(Self { weight: LinearWeight::new(&weight)?, bias, sides: Vec::new() })
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
        linear_after(x, Prologue::None, self.layer(), epilogue)
    }

    fn layer(&self) -> Layer<'_> {
        Layer { weight: &self.weight, bias: self.bias.as_ref(), sides: &self.sides }
    }

    /// Reads the tensor `weight` as the kernels read it, in the form in which it is stored, if it [`stays`] so, and changes of it
    /// that stay beside it.
    fn read(
        weights: &Weights,
        shape: (usize, usize),
        dtype: DType,
        bias: Option<Tensor>,
    ) -> kinora_checkpoint::Result<Self> {
        let low_rank = weights.low_rank("weight", dtype)?;
        let weights = low_rank.as_ref().map_or(weights, |low_rank| &low_rank.unchanged);
        let stored = if stays(weights) { stored(weights, shape)? } else { None };
        let weight = match stored {
            Some(weight) => weight,
            None => packed(weights, shape, dtype)?,
        };
        let mut sides = Vec::new();
        if let Some(LowRank { pairs, bytes, .. }) = &low_rank {
            for (down, up) in pairs {
                let side = |side: &Tensor| LinearWeight::new(&side.to_dtype(dtype)?.to_device(weights.device())?);
                sides.push([side(down)?, side(up)?]);
            }
            weights.also_keeps("weight", *bytes, sides.iter().flatten().flat_map(LinearWeight::tensors).collect());
        }
        Ok(Self { weight, bias, sides })
    }
}

/// Whether a matrix that is stored in eight bits or fewer stays so. Those that are to be quantised to eight bits are, unless they
/// are in those eight bits already, or are in blocks on a CPU: then inputs only are.
fn stays(weights: &Weights) -> bool {
    let format = || weights.stored_format("weight");
    match (weights.target(), weights.quant()) {
        (Device::Metal(_), _) | (Device::Cpu, Some(Quant::Fp8)) => false,
        (_, None) => true,
        (Device::Cpu, Some(Quant::Int8)) => matches!(format(), Some(Format::Blocks(_))),
        (Device::Cuda(_), Some(Quant::Int8)) => format() == Some(Format::I8),
        (Device::Cuda(_), Some(Quant::Fp8)) => format() == Some(Format::F8E4m3),
    }
}

/// The tensor `weight` in the form in which it is stored; none if that is a dtype of tensors, or there is no kernel for it.
fn stored(weights: &Weights, (outputs, inputs): (usize, usize)) -> kinora_checkpoint::Result<Option<LinearWeight>> {
    let matrix = match weights.matrix("weight", [outputs, inputs])? {
        Some(StoredMatrix::Matrix(matrix)) => matrix,
        Some(StoredMatrix::Placeholder(zeros)) => return Ok(Some(LinearWeight::new(&zeros)?)),
        None => return Ok(None),
    };
    let bytes = matrix.memory();
    let weight = LinearWeight::stored(matrix, weights.device(), weights.exact())?;
    if let Some(weight) = &weight {
        weights.kept_in("weight", bytes, &weight.form(), weight.tensors());
    }
    Ok(weight)
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
            weights.kept_in("weight", shape.0 * (shape.1 + 8), &packed.form(), packed.tensors());
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

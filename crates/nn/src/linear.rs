//! [`Linear`], which hides how its weights are stored.

use candle_core::{DType, Device, Result, Shape, Tensor};
use kinora_checkpoint::{LowRank, Quant, StoredMatrix, Weights};
use kinora_formats::Format;
use kinora_kernels::{
    Epilogue, Layer, LinearWeight, Prologue, gelu_tanh, linear, linear_after, linear_each, mlp, silu,
};

/// A linear layer, `weight [out, in]`, `bias [out]`.
pub struct Linear {
    weight: LinearWeight,
    bias: Option<Tensor>,
    /// Pairs of layers, `[r, in]` and `[out, r]`, whose results are added: changes of a weight that stays as it is stored.
    sides: Vec<[LinearWeight; 2]>,
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
        if self.sides.is_empty() {
            return linear_after(x, prologue, self.layer(), Epilogue::None);
        }
        self.forward(&prologue.apply(x)?)
    }

    /// Computes [`Linear::forward_after`] of several layers over the same `x`.
    pub fn forward_each<const COUNT: usize>(
        layers: [&Self; COUNT],
        x: &Tensor,
        prologue: Prologue,
    ) -> Result<Vec<Tensor>> {
        if layers.iter().all(|layer| layer.sides.is_empty()) {
            return linear_each(x, prologue, &layers.map(Self::layer));
        }
        let x = prologue.apply(x)?;
        layers.iter().map(|layer| layer.forward(&x)).collect()
    }

    /// Computes [`Linear::forward_after`] of the first of two layers, GELU (tanh approximation), and
    /// [`Linear::forward_then`] of the second.
    pub fn mlp(layers: [&Self; 2], x: &Tensor, prologue: Prologue, epilogue: Epilogue) -> Result<Tensor> {
        if layers.iter().all(|layer| layer.sides.is_empty()) {
            return mlp(x, prologue, layers.map(Self::layer), epilogue);
        }
        let [first, second] = layers;
        second.forward_then(&first.forward_then(&prologue.apply(x)?, Epilogue::GeluTanh)?, epilogue)
    }

    /// Computes [`Linear::forward`] and the epilogue, in one pass over the result.
    pub fn forward_then(&self, x: &Tensor, epilogue: Epilogue) -> Result<Tensor> {
        let (weight, bias) = self.layer();
        let Some((first, rest)) = self.sides.split_first() else { return linear(x, weight, bias, epilogue) };
        // What the sides make goes through the epilogue, too: those that add or multiply are linear.
        let mut sum = match epilogue {
            Epilogue::None | Epilogue::GeluTanh | Epilogue::Silu => side(x, first, Epilogue::None)?,
            with_operands => side(x, first, with_operands)?,
        };
        for pair in rest {
            sum = match epilogue {
                Epilogue::Product(other) | Epilogue::GatedResidual { gate: other, .. } => {
                    side(x, pair, Epilogue::GatedResidual { x: &sum, gate: other })?
                }
                _ => side(x, pair, Epilogue::Residual(&sum))?,
            };
        }
        match epilogue {
            Epilogue::None | Epilogue::Residual(_) => linear(x, weight, bias, Epilogue::Residual(&sum)),
            Epilogue::GeluTanh => gelu_tanh(&linear(x, weight, bias, Epilogue::Residual(&sum))?),
            Epilogue::Silu => silu(&linear(x, weight, bias, Epilogue::Residual(&sum))?),
            Epilogue::Product(gate) | Epilogue::GatedResidual { gate, .. } => {
                linear(x, weight, bias, Epilogue::GatedResidual { x: &sum, gate })
            }
        }
    }

    fn layer(&self) -> Layer<'_> {
        (&self.weight, self.bias.as_ref())
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

/// `up·(down·x)`, then the epilogue.
fn side(x: &Tensor, [down, up]: &[LinearWeight; 2], then: Epilogue) -> Result<Tensor> {
    linear(&linear(x, down, None, Epilogue::None)?, up, None, then)
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

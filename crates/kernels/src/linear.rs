//! Linear layers over weights that are packed or quantised once.

mod epilogue;
mod side;

pub use epilogue::{Epilogue, Prologue};
pub use side::Side;

use crate::cuda::{Quantisation, QuantisedWeight, StoredWeight};
use crate::elementwise::check_modulation;
use crate::norm::check_parameter;
use crate::profile::{Work, timed};
use crate::{cpu, cuda, gelu_tanh, layer_norm, layer_norm_modulate, on_cuda, reference, rms_norm_modulate};
use candle_core::{D, DType, Device, Result, Tensor, bail};
use kinora_formats::Matrix;

/// The weights `[N, K]` of a linear layer, as its kernels read them.
///
/// On the CPU they are packed in their own dtype: 16-bit weights stay 16 bits wide and are widened in registers, exactly.
/// Elsewhere they are a tensor, quantised, or as their file stores them.
pub struct LinearWeight {
    outputs: usize,
    inputs: usize,
    storage: Storage,
}

impl<'a> Layer<'a> {
    /// A layer with nothing beside its weights.
    pub fn new(weight: &'a LinearWeight, bias: Option<&'a Tensor>) -> Self {
        Self { weight, bias, sides: &[] }
    }
}

enum Storage {
    Tensor(Tensor),
    Packed(cpu::Packed),
    Quantised(QuantisedWeight),
    Stored(StoredWeight),
}

/// A linear layer.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// `[N, K]`.
    pub weight: &'a LinearWeight,
    /// `[N]`.
    pub bias: Option<&'a Tensor>,
    /// What is added to the products.
    pub sides: &'a [Side],
}

impl LinearWeight {
    /// Packs `weight [N, K]`, which is f32, bf16 or f16. A broadcast scalar, the placeholder of absent weights, stays one.
    pub fn new(weight: &Tensor) -> Result<Self> {
        Self::pack(weight, cpu::Packed::new)
    }

    /// Packs `weight [N, K]` for inputs of its own dtype: where the CPU multiplies bf16 faster than f32, it does so, and
    /// rounds inputs of another dtype to bf16.
    pub fn for_own_dtype(weight: &Tensor) -> Result<Self> {
        Self::pack(weight, cpu::Packed::for_own_dtype)
    }

    /// Quantises `weight [N, K]` to 8-bit whole numbers, with one scale per output; inputs are quantised as they come, with
    /// one scale per row. Applies to the CPU, and to CUDA devices if both sizes are multiples of 16; elsewhere, weights
    /// stay as they are.
    pub fn int8(weight: &Tensor) -> Result<Self> {
        match Self::quantised(weight, Quantisation::Int8)? {
            Some(quantised) => Ok(quantised),
            None => Self::pack(weight, cpu::Packed::int8),
        }
    }

    /// Quantises `weight [N, K]` to 8-bit floating point (e4m3), with one scale per output; inputs are quantised as they
    /// come, with one scale per row. Applies to CUDA devices if both sizes are multiples of 16; elsewhere, weights stay as
    /// they are.
    pub fn fp8(weight: &Tensor) -> Result<Self> {
        match Self::quantised(weight, Quantisation::E4m3)? {
            Some(quantised) => Ok(quantised),
            None => Self::new(weight),
        }
    }

    /// Quantises weights on a CUDA device, if their sizes allow it.
    fn quantised(weight: &Tensor, quantisation: Quantisation) -> Result<Option<Self>> {
        if !weight.device().is_cuda() || weight.stride().iter().all(|&stride| stride == 0) {
            return Ok(None);
        }
        let (outputs, inputs) = weight.dims2()?;
        let quantised = QuantisedWeight::new(weight, quantisation)?;
        Ok(quantised.map(|quantised| Self { outputs, inputs, storage: Storage::Quantised(quantised) }))
    }

    /// Takes `weight [N, K]` as a file stores it, for products on `device`: it is never widened as a whole. Returns none where
    /// there is no kernel for it: on a device that is neither a CPU nor of CUDA, or there with sizes that are no multiples of 8.
    ///
    /// Without `exact`, inputs may be quantised to eight bits as they come: for ggml's blocks on a CPU, with one scale per 256 of a
    /// row; for e4m3 and int8 with one scale for all or per output on CUDA devices that multiply them, with one scale per row.
    /// Otherwise products are of f32 on a CPU, and elsewhere of the input's dtype.
    pub fn stored(weight: Matrix, device: &Device, exact: bool) -> Result<Option<Self>> {
        let (outputs, inputs) = (weight.rows(), weight.columns());
        let quantised = device.is_cuda() && !exact;
        let quantised = if quantised { QuantisedWeight::stored(&weight, device)? } else { None };
        let storage = match (device, quantised) {
            (Device::Cpu, _) => Some(Storage::Packed(cpu::Packed::stored(weight, exact)?)),
            (Device::Cuda(_), Some(quantised)) => Some(Storage::Quantised(quantised)),
            (Device::Cuda(_), None) => StoredWeight::new(&weight, device)?.map(Storage::Stored),
            (Device::Metal(_), _) => None,
        };
        Ok(storage.map(|storage| Self { outputs, inputs, storage }))
    }

    fn pack(weight: &Tensor, pack: impl Fn(&Tensor) -> Result<cpu::Packed>) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let placeholder = weight.stride().iter().all(|&stride| stride == 0);
        let storage = if cpu::supports(weight) && !placeholder {
            Storage::Packed(pack(weight)?)
        } else {
            Storage::Tensor(weight.clone())
        };
        Ok(Self { outputs, inputs, storage })
    }

    /// Returns the tensors that hold the weights; none if they are packed for the CPU.
    pub fn tensors(&self) -> Vec<Tensor> {
        match &self.storage {
            Storage::Tensor(weight) => vec![weight.clone()],
            Storage::Packed(_) => Vec::new(),
            Storage::Quantised(quantised) => quantised.tensors(),
            Storage::Stored(stored) => stored.tensors(),
        }
    }

    /// Returns what tells how [`LinearWeight::tensors`] are read: where it and their shapes are the same, those of one weight can
    /// be overwritten with those of another.
    pub fn form(&self) -> String {
        match &self.storage {
            Storage::Tensor(_) | Storage::Packed(_) => String::new(),
            Storage::Quantised(quantised) => format!("{:?}", quantised.quantisation()),
            Storage::Stored(stored) => stored.form(),
        }
    }

    /// `N`.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `K`.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Whether the weights are quantised on a GPU, and inputs will be.
    fn is_quantised(&self) -> bool {
        matches!(self.storage, Storage::Quantised(_))
    }

    /// Returns the operator's name in profiles, and its operations for `elements` of input and `outputs`.
    fn work(&self, elements: usize, outputs: usize) -> (&'static str, Work) {
        let operations = 2.0 * elements as f64 * outputs as f64;
        match &self.storage {
            Storage::Packed(packed) if packed.is_int8() => ("linear int8", Work::Int8(operations)),
            Storage::Packed(packed) if packed.is_bf16() => ("linear bf16", Work::Bf16(operations)),
            Storage::Quantised(quantised) => match quantised.quantisation() {
                Quantisation::Int8 => ("linear int8", Work::Int8(operations)),
                Quantisation::E4m3 => ("linear fp8", Work::F32(operations)),
            },
            _ => ("linear", Work::F32(operations)),
        }
    }
}

/// `x [.., K] · weightᵀ [N, K] + bias [N]`, then the epilogue → `[.., N]` in `x`'s dtype; sums are f32.
pub fn linear(x: &Tensor, weight: &LinearWeight, bias: Option<&Tensor>, epilogue: Epilogue) -> Result<Tensor> {
    let shape = result_shape(x, weight, bias, epilogue)?;
    let (name, work) = weight.work(x.elem_count(), weight.outputs);
    timed(name, work, || match &weight.storage {
        Storage::Packed(packed) if cpu::supports(x) => cpu::linear(x, packed, bias, &[], epilogue, shape),
        Storage::Packed(_) => bail!("linear: x is {:?} on {:?}, weight on the CPU", x.dtype(), x.device().location()),
        Storage::Quantised(weight) => {
            cuda::linear_quantised(x, &weight.quantise(x, Prologue::None)?, weight, bias, epilogue)
        }
        Storage::Tensor(weight) => {
            on_cuda!(x, cuda::linear(x, weight, bias, epilogue));
            reference::linear(x, weight, bias, epilogue)
        }
        Storage::Stored(weight) => {
            on_cuda!(x, cuda::linear_stored(x, weight, bias, epilogue));
            reference::linear(x, &weight.values(x.dtype())?, bias, epilogue)
        }
    })
}

/// Computes [`linear`] of the prologue's result.
pub fn linear_after(x: &Tensor, prologue: Prologue, layer: Layer, epilogue: Epilogue) -> Result<Tensor> {
    if let Some(mut results) = quantised_each(x, prologue, &[layer], epilogue)? {
        return Ok(results.remove(0));
    }
    side::linear(&prologue.apply(x)?, layer, epilogue)
}

/// Computes [`linear_after`] for several layers over the same prologue's result.
pub fn linear_each(x: &Tensor, prologue: Prologue, layers: &[Layer]) -> Result<Vec<Tensor>> {
    if let Some(results) = quantised_each(x, prologue, layers, Epilogue::None)? {
        return Ok(results);
    }
    let x = prologue.apply(x)?;
    layers.iter().map(|&layer| side::linear(&x, layer, Epilogue::None)).collect()
}

/// Computes [`linear_after`], GELU (tanh approximation), and another linear layer with an epilogue.
pub fn mlp(x: &Tensor, prologue: Prologue, [first, second]: [Layer; 2], epilogue: Epilogue) -> Result<Tensor> {
    let quantised = |layer: Layer| layer.weight.is_quantised() && layer.sides.is_empty();
    let (after, before) = if quantised(first) && quantised(second) {
        (Epilogue::None, Prologue::GeluTanh) // in the pass that quantises, it costs nothing
    } else {
        (Epilogue::GeluTanh, Prologue::None)
    };
    linear_after(&linear_after(x, prologue, first, after)?, before, second, epilogue)
}

/// Computes layers over the prologue's result, if all weights are quantised for a GPU, in the same way, and there is nothing
/// beside them.
fn quantised_each(x: &Tensor, prologue: Prologue, layers: &[Layer], epilogue: Epilogue) -> Result<Option<Vec<Tensor>>> {
    let quantised = layers.iter().map(|&Layer { weight, bias, sides }| match &weight.storage {
        Storage::Quantised(matrix) if sides.is_empty() => Some((weight, matrix, bias)),
        _ => None,
    });
    let Some(quantised) = quantised.collect::<Option<Vec<_>>>() else { return Ok(None) };
    let Some(&(first, matrix, _)) = quantised.first() else { return Ok(None) };
    if quantised.iter().any(|(_, other, _)| other.quantisation() != matrix.quantisation()) {
        return Ok(None);
    }
    for layer in layers {
        result_shape(x, layer.weight, layer.bias, epilogue)?;
    }
    prologue.check(x)?;
    let applied;
    let (x, prologue) = if QuantisedWeight::quantises_after(x, prologue) {
        (x, prologue)
    } else {
        applied = prologue.apply(x)?;
        (&applied, Prologue::None)
    };
    let (name, work) = first.work(x.elem_count(), quantised.iter().map(|(weight, ..)| weight.outputs).sum());
    timed(name, work, || {
        let rows = matrix.quantise(x, prologue)?;
        let layer = |(_, matrix, bias)| cuda::linear_quantised(x, &rows, matrix, bias, epilogue);
        quantised.into_iter().map(layer).collect::<Result<Vec<_>>>().map(Some)
    })
}

/// Checks the operands and returns the shape of the result.
fn result_shape(x: &Tensor, weight: &LinearWeight, bias: Option<&Tensor>, epilogue: Epilogue) -> Result<Vec<usize>> {
    let (outputs, inputs) = (weight.outputs, weight.inputs);
    if x.dims().last() != Some(&inputs) || inputs == 0 {
        bail!("linear: x {:?} does not fit weight [{outputs}, {inputs}]", x.dims());
    }
    if let Some(bias) = bias
        && bias.dims() != [outputs]
    {
        bail!("linear: bias {:?} does not fit weight [{outputs}, {inputs}]", bias.dims());
    }
    let mut shape = x.dims().to_vec();
    shape[x.rank() - 1] = outputs;
    epilogue.check(&shape, x.dtype())?;
    Ok(shape)
}

impl Prologue<'_> {
    /// Computes the prologue alone.
    ///
    /// # Errors
    /// Operands that do not fit `x`.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::None => Ok(x.clone()),
            Self::GeluTanh => gelu_tanh(x),
            Self::LayerNorm { affine, eps } => layer_norm(x, affine.map(|(w, _)| w), affine.map(|(_, b)| b), eps),
            Self::LayerNormModulate { shift, scale, eps } => layer_norm_modulate(x, shift, scale, eps),
            Self::RmsNormModulate { modulation, eps } => rms_norm_modulate(x, modulation, eps),
        }
    }

    fn check(self, x: &Tensor) -> Result<()> {
        match self {
            Self::None
            | Self::GeluTanh
            | Self::LayerNorm { affine: None, .. }
            | Self::RmsNormModulate { modulation: None, .. } => Ok(()),
            Self::RmsNormModulate { modulation: Some((shift, scale)), .. } => {
                check_modulation("rms_norm_modulate", x, &[shift, scale])
            }
            Self::LayerNorm { affine: Some((weight, bias)), .. } => {
                let channels = x.dim(D::Minus1)?;
                check_parameter("layer_norm", weight, x, channels)?;
                check_parameter("layer_norm", bias, x, channels)
            }
            Self::LayerNormModulate { shift, scale, .. } => check_modulation("layer_norm_modulate", x, &[shift, scale]),
        }
    }
}

impl Epilogue<'_> {
    fn check(self, shape: &[usize], dtype: DType) -> Result<()> {
        if let Self::Product(operand) | Self::Residual(operand) | Self::GatedResidual { x: operand, .. } = self
            && (operand.dims() != shape || operand.dtype() != dtype)
        {
            let operand = (operand.dtype(), operand.dims());
            bail!("linear: operand {operand:?} does not fit the result {:?}", (dtype, shape));
        }
        match self {
            Self::GatedResidual { x, gate } => check_modulation("linear", x, &[gate]),
            _ => Ok(()),
        }
    }
}

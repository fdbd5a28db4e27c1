//! Dense linear layers over weights that are packed once.

#[cfg(feature = "cuda")]
use crate::cuda;
use crate::elementwise::check_modulation;
#[cfg(feature = "cuda")]
use crate::norm::check_parameter;
use crate::profile::{Work, timed};
use crate::{cpu, gelu_tanh, layer_norm, layer_norm_modulate, on_cuda, reference};
#[cfg(feature = "cuda")]
use candle_core::D;
use candle_core::{DType, Result, Tensor, bail};

/// The weights `[N, K]` of a linear layer, as its kernels read them.
///
/// On the CPU they are packed when they are made, in the dtype that they come in: 16-bit weights stay 16 bits wide and
/// are widened in registers, exactly. Elsewhere they are a tensor.
pub struct LinearWeight {
    outputs: usize,
    inputs: usize,
    storage: Storage,
}

enum Storage {
    Tensor(Tensor),
    Packed(cpu::Packed),
    #[cfg(feature = "cuda")]
    Rounded(cuda::Rounded),
}

/// What is done to each result `y` before it is written, in f32.
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// Nothing.
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
        /// What the gated result is added to.
        x: &'a Tensor,
        /// The gate.
        gate: &'a Tensor,
    },
}

/// What is done to an input first, in f32; the result has the input's dtype. Where weights are rounded for a GPU, so is that
/// result, in the same pass.
#[derive(Clone, Copy)]
pub enum Prologue<'a> {
    /// Nothing.
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
}

/// A linear layer: its weights, and its bias `[N]` where it has one.
pub type Layer<'a> = (&'a LinearWeight, Option<&'a Tensor>);

impl LinearWeight {
    /// Packs `weight [N, K]`, which is f32, bf16 or f16. A broadcast scalar, which stands for weights that are not there,
    /// stays one.
    pub fn new(weight: &Tensor) -> Result<Self> {
        Self::pack(weight, cpu::Packed::new)
    }

    /// The same, for inputs of the weights' own dtype: where the CPU multiplies bf16 faster than f32, it does that, and rounds
    /// inputs of another dtype.
    pub fn for_own_dtype(weight: &Tensor) -> Result<Self> {
        Self::pack(weight, cpu::Packed::for_own_dtype)
    }

    /// Rounds `weight [N, K]` to 8 bits, with one scale per output; inputs will be rounded too, with one scale per row.
    /// On the CPU, and on CUDA devices where both sizes are multiples of 16; elsewhere, weights stay as they are.
    pub fn int8(weight: &Tensor) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if let Some(rounded) = Self::rounded(weight, cuda::Rounding::Int8)? {
            return Ok(rounded);
        }
        Self::pack(weight, cpu::Packed::int8)
    }

    /// Rounds `weight [N, K]` to 8-bit floating point (e4m3), with one scale per output; inputs will be rounded too, with
    /// one scale per row. On CUDA devices where both sizes are multiples of 16; elsewhere, weights stay as they are.
    pub fn fp8(weight: &Tensor) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if let Some(rounded) = Self::rounded(weight, cuda::Rounding::E4m3)? {
            return Ok(rounded);
        }
        Self::new(weight)
    }

    #[cfg(feature = "cuda")]
    fn rounded(weight: &Tensor, rounding: cuda::Rounding) -> Result<Option<Self>> {
        if !weight.device().is_cuda() || weight.stride().iter().all(|&stride| stride == 0) {
            return Ok(None);
        }
        let (outputs, inputs) = weight.dims2()?;
        let rounded = cuda::Rounded::new(weight, rounding)?;
        Ok(rounded.map(|rounded| Self { outputs, inputs, storage: Storage::Rounded(rounded) }))
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

    /// What it is kept in, where that is tensors.
    pub fn tensors(&self) -> Vec<Tensor> {
        match &self.storage {
            Storage::Tensor(weight) => vec![weight.clone()],
            Storage::Packed(_) => Vec::new(),
            #[cfg(feature = "cuda")]
            Storage::Rounded(rounded) => rounded.tensors(),
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

    /// Whether operands are rounded to 8 bits on a GPU.
    fn is_rounded(&self) -> bool {
        !matches!(self.storage, Storage::Tensor(_) | Storage::Packed(_))
    }

    /// What profiles call it, and in which arithmetic it does how many operations for `elements` of input and `outputs`.
    fn work(&self, elements: usize, outputs: usize) -> (&'static str, Work) {
        let operations = 2.0 * elements as f64 * outputs as f64;
        match &self.storage {
            Storage::Packed(packed) if packed.is_int8() => ("linear int8", Work::Int8(operations)),
            Storage::Packed(packed) if packed.is_bf16() => ("linear bf16", Work::Bf16(operations)),
            #[cfg(feature = "cuda")]
            Storage::Rounded(rounded) if rounded.rounding() == cuda::Rounding::Int8 => {
                ("linear int8", Work::Int8(operations))
            }
            #[cfg(feature = "cuda")]
            Storage::Rounded(_) => ("linear fp8", Work::F32(operations)),
            _ => ("linear", Work::F32(operations)),
        }
    }
}

/// `x [.., K] · weightᵀ [N, K] + bias [N]`, then the epilogue → `[.., N]` in `x`'s dtype; sums are f32.
pub fn linear(x: &Tensor, weight: &LinearWeight, bias: Option<&Tensor>, epilogue: Epilogue) -> Result<Tensor> {
    let shape = result_shape(x, (weight, bias), epilogue)?;
    let (name, work) = weight.work(x.elem_count(), weight.outputs);
    timed(name, work, || match &weight.storage {
        Storage::Packed(packed) if cpu::supports(x) => cpu::linear(x, packed, bias, epilogue, shape),
        Storage::Packed(_) => bail!("linear: x is {:?} on {:?}, weight on the CPU", x.dtype(), x.device().location()),
        #[cfg(feature = "cuda")]
        Storage::Rounded(weight) => cuda::linear_rounded(x, &weight.round(x, Prologue::None)?, weight, bias, epilogue),
        Storage::Tensor(weight) => {
            on_cuda!(x, cuda::linear(x, weight, bias, epilogue));
            reference::linear(x, weight, bias, epilogue)
        }
    })
}

/// [`linear`] of the prologue's result.
pub fn linear_after(x: &Tensor, prologue: Prologue, layer: Layer, epilogue: Epilogue) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(mut results) = rounded_each(x, prologue, &[layer], epilogue)? {
        return Ok(results.remove(0));
    }
    linear(&prologue.apply(x)?, layer.0, layer.1, epilogue)
}

/// [`linear_after`] of several layers over the same result.
pub fn linear_each(x: &Tensor, prologue: Prologue, layers: &[Layer]) -> Result<Vec<Tensor>> {
    #[cfg(feature = "cuda")]
    if let Some(results) = rounded_each(x, prologue, layers, Epilogue::None)? {
        return Ok(results);
    }
    let x = prologue.apply(x)?;
    layers.iter().map(|&(weight, bias)| linear(&x, weight, bias, Epilogue::None)).collect()
}

/// [`linear_after`], GELU (tanh approximation), and another linear layer with an epilogue.
pub fn mlp(x: &Tensor, prologue: Prologue, [first, second]: [Layer; 2], epilogue: Epilogue) -> Result<Tensor> {
    let (after, before) = if first.0.is_rounded() && second.0.is_rounded() {
        (Epilogue::None, Prologue::GeluTanh) // in the pass that rounds, it costs nothing
    } else {
        (Epilogue::GeluTanh, Prologue::None)
    };
    linear_after(&linear_after(x, prologue, first, after)?, before, second, epilogue)
}

/// Layers over the prologue's result, where all weights are rounded for a GPU, and in the same way.
#[cfg(feature = "cuda")]
fn rounded_each(x: &Tensor, prologue: Prologue, layers: &[Layer], epilogue: Epilogue) -> Result<Option<Vec<Tensor>>> {
    let rounded = layers.iter().map(|&(weight, bias)| match &weight.storage {
        Storage::Rounded(matrix) => Some((weight, matrix, bias)),
        _ => None,
    });
    let Some(rounded) = rounded.collect::<Option<Vec<_>>>() else { return Ok(None) };
    let Some(&(first, matrix, _)) = rounded.first() else { return Ok(None) };
    if rounded.iter().any(|(_, other, _)| other.rounding() != matrix.rounding()) {
        return Ok(None);
    }
    for &layer in layers {
        result_shape(x, layer, epilogue)?;
    }
    prologue.check(x)?;
    let applied;
    let (x, prologue) = if cuda::Rounded::rounds_after(x, prologue) {
        (x, prologue)
    } else {
        applied = prologue.apply(x)?;
        (&applied, Prologue::None)
    };
    let (name, work) = first.work(x.elem_count(), rounded.iter().map(|(weight, ..)| weight.outputs).sum());
    timed(name, work, || {
        let rows = matrix.round(x, prologue)?;
        let layer = |(_, matrix, bias)| cuda::linear_rounded(x, &rows, matrix, bias, epilogue);
        rounded.into_iter().map(layer).collect::<Result<Vec<_>>>().map(Some)
    })
}

/// The shape of the result, if everything fits.
fn result_shape(x: &Tensor, (weight, bias): Layer, epilogue: Epilogue) -> Result<Vec<usize>> {
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
    fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::None => Ok(x.clone()),
            Self::GeluTanh => gelu_tanh(x),
            Self::LayerNorm { affine, eps } => layer_norm(x, affine.map(|(w, _)| w), affine.map(|(_, b)| b), eps),
            Self::LayerNormModulate { shift, scale, eps } => layer_norm_modulate(x, shift, scale, eps),
        }
    }

    #[cfg(feature = "cuda")]
    fn check(self, x: &Tensor) -> Result<()> {
        match self {
            Self::None | Self::GeluTanh | Self::LayerNorm { affine: None, .. } => Ok(()),
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

//! Dense linear layers over weights that are packed once.

#[cfg(feature = "cuda")]
use crate::cuda;
use crate::elementwise::check_modulation;
use crate::profile::{Work, timed};
use crate::{cpu, on_cuda, reference};
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

impl LinearWeight {
    /// Packs `weight [N, K]`, which is f32, bf16 or f16. A broadcast scalar, which stands for weights that are not there,
    /// stays one.
    pub fn new(weight: &Tensor) -> Result<Self> {
        Self::pack(weight, cpu::Packed::new)
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

    /// `N`.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `K`.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// What profiles call it, and in which arithmetic it does so many operations.
    fn work(&self, operations: f64) -> (&'static str, Work) {
        match &self.storage {
            Storage::Packed(packed) if packed.is_int8() => ("linear int8", Work::Int8(operations)),
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
    let operations = 2.0 * x.elem_count() as f64 * outputs as f64;
    let (name, work) = weight.work(operations);
    timed(name, work, || match &weight.storage {
        Storage::Packed(packed) if cpu::supports(x) => cpu::linear(x, packed, bias, epilogue, shape),
        Storage::Packed(_) => bail!("linear: x is {:?} on {:?}, weight on the CPU", x.dtype(), x.device().location()),
        #[cfg(feature = "cuda")]
        Storage::Rounded(weight) => cuda::linear_rounded(x, &weight.round_input(x)?, weight, bias, epilogue),
        Storage::Tensor(weight) => {
            on_cuda!(x, cuda::linear(x, weight, bias, epilogue));
            reference::linear(x, weight, bias, epilogue)
        }
    })
}

/// [`linear`] of one `x` with several weights and biases: where they are rounded for a GPU, it is rounded once.
pub fn linear_each<const COUNT: usize>(
    x: &Tensor,
    layers: [(&LinearWeight, Option<&Tensor>); COUNT],
) -> Result<Vec<Tensor>> {
    #[cfg(feature = "cuda")]
    if let Some(results) = rounded_each(x, &layers)? {
        return Ok(results);
    }
    layers.into_iter().map(|(weight, bias)| linear(x, weight, bias, Epilogue::None)).collect()
}

/// [`linear_each`] where all weights are rounded for a GPU in the same way, and fit `x`.
#[cfg(feature = "cuda")]
fn rounded_each(x: &Tensor, layers: &[(&LinearWeight, Option<&Tensor>)]) -> Result<Option<Vec<Tensor>>> {
    let rounded = layers.iter().map(|(weight, bias)| match &weight.storage {
        Storage::Rounded(matrix) if x.dims().last() == Some(&weight.inputs) => Some((*weight, matrix, *bias)),
        _ => None,
    });
    let Some(rounded) = rounded.collect::<Option<Vec<_>>>() else { return Ok(None) };
    let Some((first, matrix, _)) = rounded.first() else { return Ok(None) };
    if rounded.iter().any(|(_, other, _)| other.rounding() != matrix.rounding()) {
        return Ok(None);
    }
    let outputs: usize = rounded.iter().map(|(weight, ..)| weight.outputs).sum();
    let (name, work) = first.work(2.0 * x.elem_count() as f64 * outputs as f64);
    timed(name, work, || {
        let rows = matrix.round_input(x)?;
        let layer = |(_, matrix, bias)| cuda::linear_rounded(x, &rows, matrix, bias, Epilogue::None);
        rounded.into_iter().map(layer).collect::<Result<Vec<_>>>().map(Some)
    })
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

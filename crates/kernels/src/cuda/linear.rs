//! Linear layers on cuBLASLt (<https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api>): dense, over weights as files store
//! them, and with both operands quantised to 8 bits.

mod plan;
mod stored;

pub use stored::StoredWeight;

use super::elementwise::{Norm, broadcast};
use super::module::{Argument, Kernel, grid};
use super::{Operand, address, dense, device_of, parameter, suffix, uninitialised};
use crate::{Epilogue, Prologue};
use candle_core::{CudaDevice, D, DType, Device, Result, Tensor, bail};
use kinora_formats::{Format, Matrix, Scales as StoredScales};
use plan::{Activation, Operands, Plan, Planned, Product, Scales, multiply, plan};

/// How operands are quantised to 8 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quantisation {
    /// Floating point, 4 bits of exponent and 3 of mantissa; compute capability 8.9 on.
    E4m3,
    /// Whole numbers to ±127.
    Int8,
}

/// Weights `[N, K]` quantised to 8 bits, with one scale per output.
pub struct QuantisedWeight {
    data: Tensor,
    scales: Tensor,
    quantisation: Quantisation,
}

impl QuantisedWeight {
    /// Quantises `weight [N, K]`; returns none if the sizes are no multiples of 16, which the products need.
    pub fn new(weight: &Tensor, quantisation: Quantisation) -> Result<Option<Self>> {
        let (outputs, inputs) = weight.dims2()?;
        if !fits_products(outputs, inputs) {
            return Ok(None);
        }
        let QuantisedRows { data, scales } = quantise(weight, false, quantisation)?;
        Ok(Some(Self { data, scales, quantisation }))
    }

    /// Takes `matrix` as its file stores it, if these are such numbers, scaled as the products scale them, and this GPU has
    /// products of them.
    pub fn stored(matrix: &Matrix, device: &Device) -> Result<Option<Self>> {
        let (rows, columns) = (matrix.rows(), matrix.columns());
        let quantisation = match matrix.format() {
            Format::F8E4m3 if super::built_for() >= (8, 9) => Quantisation::E4m3,
            Format::I8 => Quantisation::Int8,
            _ => return Ok(None),
        };
        let scales = match matrix.scales() {
            StoredScales::None => vec![1.0; rows],
            StoredScales::Whole(scale) => vec![*scale; rows],
            StoredScales::Rows(scales) => scales.clone(),
            StoredScales::Blocks { .. } => return Ok(None),
        };
        if !fits_products(rows, columns) || matrix.rotation() > 1 || matrix.row(0).len() != columns {
            return Ok(None);
        }
        let data = Tensor::from_slice(&matrix.bytes()[..rows * columns], (rows, columns), device)?;
        Ok(Some(Self { data, scales: Tensor::from_vec(scales, rows, device)?, quantisation }))
    }

    /// Returns bytes and scales.
    pub fn tensors(&self) -> Vec<Tensor> {
        vec![self.data.clone(), self.scales.clone()]
    }

    pub fn quantisation(&self) -> Quantisation {
        self.quantisation
    }

    /// Whether one pass over `x [.., K]` computes the prologue and quantises.
    pub fn quantises_after(x: &Tensor, prologue: Prologue) -> bool {
        match prologue {
            Prologue::None | Prologue::GeluTanh => true,
            Prologue::LayerNorm { .. } | Prologue::LayerNormModulate { .. } | Prologue::RmsNormModulate { .. } => {
                super::elementwise::fits(x)
            }
        }
    }

    /// Returns the prologue's result of `x [.., K]`, for which [`Self::quantises_after`], quantised as the weights are.
    pub fn quantise(&self, x: &Tensor, prologue: Prologue) -> Result<QuantisedRows> {
        match prologue {
            Prologue::None => quantise(x, false, self.quantisation),
            Prologue::GeluTanh => quantise(x, true, self.quantisation),
            Prologue::LayerNorm { affine, eps } => {
                let (weight, bias) = affine.unzip();
                layer_norm_quantised(x, Norm { weight, bias, eps, ..Norm::default() }, self.quantisation)
            }
            Prologue::LayerNormModulate { shift, scale, eps } => {
                let modulation = Some((shift, scale));
                layer_norm_quantised(x, Norm { modulation, eps, ..Norm::default() }, self.quantisation)
            }
            Prologue::RmsNormModulate { modulation, eps } => {
                let norm = Norm { modulation, keeps_mean: true, eps, ..Norm::default() };
                layer_norm_quantised(x, norm, self.quantisation)
            }
        }
    }
}

/// Whether there are products of 8 bits for weights of this size.
fn fits_products(outputs: usize, inputs: usize) -> bool {
    [outputs, inputs].into_iter().all(|size| size > 0 && size.is_multiple_of(16))
}

impl Quantisation {
    /// The name in the sources.
    fn name(self) -> &'static str {
        match self {
            Self::E4m3 => "e4m3",
            Self::Int8 => "int8",
        }
    }
}

/// An input `[M, K]` quantised to 8 bits: bytes, and one f32 scale per row.
pub struct QuantisedRows {
    data: Tensor,
    scales: Tensor,
}

impl QuantisedRows {
    /// Allocates for the rows of `x [.., K]`, which are yet to be written.
    fn uninitialised(x: &Tensor) -> Result<Self> {
        let (device, width) = (device_of(x)?, x.dim(D::Minus1)?);
        let rows = x.elem_count() / width;
        let data = uninitialised(device, (rows, width), DType::U8)?;
        Ok(Self { data, scales: uninitialised(device, rows, DType::F32)? })
    }
}

/// Computes the norm of `x [.., K]`, which [`super::elementwise::fits`], and quantises it in one pass.
fn layer_norm_quantised(x: &Tensor, norm: Norm, quantisation: Quantisation) -> Result<QuantisedRows> {
    let out = QuantisedRows::uninitialised(x)?;
    super::elementwise::launch_layer_norm(
        x,
        norm,
        &format!("layer_norm_{}", quantisation.name()),
        &[&out.data, &out.scales],
    )?;
    Ok(out)
}

/// Quantises `x [.., K]`, or its GELU.
fn quantise(x: &Tensor, gelu: bool, quantisation: Quantisation) -> Result<QuantisedRows> {
    let (x, out) = (dense(x)?, QuantisedRows::uninitialised(x)?);
    let (device, (rows, width)) = (device_of(&x)?, out.data.dims2()?);
    let Some(suffix) = suffix(x.dtype()) else { bail!("linear: {:?} cannot be quantised", x.dtype()) };
    {
        let (x, data, scales) = (Operand::new(&x)?, Operand::new(&out.data)?, Operand::new(&out.scales)?);
        let arguments = [
            Argument::Pointer(x.pointer),
            Argument::Pointer(data.pointer),
            Argument::Pointer(scales.pointer),
            Argument::Int(width as i32),
            Argument::Int(i32::from(gelu)),
        ];
        let name = format!("quantise_rows_{}_{suffix}", quantisation.name());
        let threads = (width / 8).next_multiple_of(32).clamp(32, 512);
        // SAFETY: the arguments of `quantise_rows`; one block per row.
        unsafe {
            Kernel::new(device, "linear", name, 0)?.launch(grid(rows, 1, threads, 0), &arguments)?;
        }
    }
    Ok(out)
}

/// The weights of a product of elements.
#[derive(Clone, Copy)]
enum Weight<'a> {
    Dense(&'a Tensor),
    /// They become elements a panel at a time.
    Stored(&'a StoredWeight),
}

/// `x [.., K] · weightᵀ [N, K] + bias [N]`, then the epilogue, for sizes that are multiples of 8.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, epilogue: Epilogue) -> Result<Option<Tensor>> {
    if weight.dtype() != x.dtype() {
        return Ok(None);
    }
    linear_over(x, Weight::Dense(&dense(weight)?), bias, epilogue)
}

/// [`linear`] over weights as their file stores them.
pub fn linear_stored(
    x: &Tensor,
    weight: &StoredWeight,
    bias: Option<&Tensor>,
    epilogue: Epilogue,
) -> Result<Option<Tensor>> {
    linear_over(x, Weight::Stored(weight), bias, epilogue)
}

fn linear_over(x: &Tensor, weight: Weight, bias: Option<&Tensor>, epilogue: Epilogue) -> Result<Option<Tensor>> {
    let (outputs, inputs) = weight.size()?;
    let dtype = x.dtype();
    let rows = x.elem_count() / inputs;
    if outputs % 8 != 0 || inputs % 8 != 0 || suffix(dtype).is_none() || rows == 0 {
        return Ok(None);
    }
    let mut shape = x.dims().to_vec();
    shape[x.rank() - 1] = outputs;
    let out = uninitialised(device_of(x)?, shape, dtype)?;
    // The library adds a bias of the result's dtype.
    let library_bias = bias.map(|bias| dense(&bias.to_dtype(dtype)?)).transpose()?;
    let activation = if matches!(epilogue, Epilogue::GeluTanh) { Activation::Gelu } else { Activation::None };
    if !multiply_panels(&dense(x)?, weight, library_bias.as_ref(), activation, &out)? {
        return Ok(None);
    }
    match epilogue {
        Epilogue::None | Epilogue::GeluTanh => Ok(Some(out)),
        rest => finish(&out, dtype, None, None, rest).map(Some),
    }
}

impl Weight<'_> {
    /// `(N, K)`.
    fn size(self) -> Result<(usize, usize)> {
        match self {
            Self::Dense(weight) => weight.dims2(),
            Self::Stored(weight) => Ok((weight.outputs(), weight.inputs())),
        }
    }
}

/// Queues the products of `x` and panels of the weight's outputs, one after the other, for `out`: dense weights are one
/// panel, others become elements in the same memory in turn. Returns whether the library has algorithms for it.
fn multiply_panels(
    x: &Tensor,
    weight: Weight,
    bias: Option<&Tensor>,
    activation: Activation,
    out: &Tensor,
) -> Result<bool> {
    let (device, dtype, (outputs, inputs)) = (device_of(x)?, x.dtype(), weight.size()?);
    let (panel, elements) = match weight {
        Weight::Dense(weight) => (outputs, weight.clone()),
        Weight::Stored(weight) => {
            let panel = weight.panel(dtype).min(outputs);
            (panel, uninitialised(device, (panel, inputs), dtype)?)
        }
    };
    let (x_at, elements_at, out_at) = (Operand::new(x)?, Operand::new(&elements)?, Operand::new(out)?);
    let bias_at = Operand::optional(bias)?;
    for first in (0..outputs).step_by(panel) {
        let count = panel.min(outputs - first);
        let product = Product {
            rows: x.elem_count() / inputs,
            outputs: count,
            all_outputs: outputs,
            inputs,
            operand: dtype,
            result: dtype,
            quantisation: None,
        };
        let request = Plan { product, bias: bias.is_some(), activation, scales: Scales::None };
        let Some(plan) = plan(device, request)? else { return Ok(false) };
        if let Weight::Stored(weight) = weight {
            weight.write(first, count, &elements)?;
        }
        let offset = (first * dtype.size_in_bytes()) as u64;
        let operands = Operands {
            x: x_at.pointer,
            weight: elements_at.pointer,
            out: out_at.pointer + offset,
            bias: bias_at.as_ref().map_or(0, |bias| bias.pointer + offset),
            ..Operands::default()
        };
        multiply(device, &plan, operands)?;
    }
    Ok(true)
}

/// `x [M, K] · weightᵀ [N, K]` in the dtype `to`, if the library has an algorithm for it.
pub(super) fn product(x: &Tensor, weight: &Tensor, to: DType) -> Result<Option<Tensor>> {
    let ((rows, inputs), outputs) = (x.dims2()?, weight.dim(0)?);
    let device = device_of(x)?;
    let (x, weight) = (dense(x)?, dense(weight)?);
    let operand = x.dtype();
    let product = Product { rows, outputs, all_outputs: outputs, inputs, operand, result: to, quantisation: None };
    let request = Plan { product, bias: false, activation: Activation::None, scales: Scales::None };
    let Some(plan) = plan(device, request)? else { return Ok(None) };
    let out = uninitialised(device, (rows, outputs), to)?;
    {
        let (x, weight, out) = (Operand::new(&x)?, Operand::new(&weight)?, Operand::new(&out)?);
        multiply(
            device,
            &plan,
            Operands { x: x.pointer, weight: weight.pointer, out: out.pointer, ..Operands::default() },
        )?;
    }
    Ok(Some(out))
}

/// [`linear`] with both operands quantised (`rows` is `x`): products of 8 bits, scaled by one factor per row and one per
/// output.
pub fn linear_quantised(
    x: &Tensor,
    rows: &QuantisedRows,
    weight: &QuantisedWeight,
    bias: Option<&Tensor>,
    epilogue: Epilogue,
) -> Result<Tensor> {
    let QuantisedRows { data, scales } = rows;
    let (outputs, inputs) = weight.data.dims2()?;
    let (device, dtype, quantisation) = (device_of(x)?, x.dtype(), weight.quantisation);
    let mut shape = x.dims().to_vec();
    shape[x.rank() - 1] = outputs;
    let rows = x.elem_count() / inputs;
    if rows == 0 {
        return uninitialised(device, shape, dtype);
    }
    let library_bias = bias.map(|bias| dense(&bias.to_dtype(DType::BF16)?)).transpose()?;
    let gelu = matches!(epilogue, Epilogue::GeluTanh);
    let activation = if gelu { Activation::Gelu } else { Activation::None };
    let product = Product {
        rows,
        outputs,
        all_outputs: outputs,
        inputs,
        operand: dtype,
        result: dtype,
        quantisation: Some(quantisation),
    };
    let plan = plan_quantised(device, product, quantisation, bias.is_some(), activation)?;
    let (result, scaled) = (plan.request.product.result, plan.request.scales == Scales::PerRow);
    let y = uninitialised(device, shape, result)?;
    {
        let (x, w, out) = (Operand::new(data)?, Operand::new(&weight.data)?, Operand::new(&y)?);
        let (x_scales, weight_scales) = (Operand::new(scales)?, Operand::new(&weight.scales)?);
        let bias = Operand::optional(library_bias.as_ref())?;
        let operands = Operands {
            x: x.pointer,
            weight: w.pointer,
            out: out.pointer,
            bias: address(bias.as_ref()),
            x_scales: x_scales.pointer,
            weight_scales: weight_scales.pointer,
        };
        multiply(device, &plan, operands)?;
    }
    let left_scales = (!scaled).then_some((scales, &weight.scales));
    let left_bias = if plan.request.bias { None } else { bias };
    match epilogue {
        Epilogue::GeluTanh if plan.request.activation == Activation::Gelu => Ok(y),
        Epilogue::None if left_scales.is_none() && left_bias.is_none() => Ok(y),
        rest => finish(&y, dtype, left_scales, left_bias, rest),
    }
}

/// Chooses how to compute `product` of 8 bits: scaled by the library where it can, with as much of bias and activation as
/// it takes; otherwise scales, bias and activation are left to [`finish`].
fn plan_quantised(
    device: &CudaDevice,
    product: Product,
    quantisation: Quantisation,
    bias: bool,
    activation: Activation,
) -> Result<Planned> {
    if quantisation == Quantisation::E4m3 && product.result == DType::BF16 {
        for (activation, bias) in [(activation, bias), (Activation::None, bias), (Activation::None, false)] {
            let request = Plan { product, bias, activation, scales: Scales::PerRow };
            if let Some(planned) = plan(device, request)? {
                return Ok(planned);
            }
        }
    }
    let result = if quantisation == Quantisation::Int8 { DType::I32 } else { DType::BF16 };
    let product = Product { result, ..product };
    let request = Plan { product, bias: false, activation: Activation::None, scales: Scales::None };
    let Some(planned) = plan(device, request)? else {
        let Product { rows, outputs, inputs, .. } = product;
        bail!("linear: this GPU multiplies no {quantisation:?} of [{rows}, {inputs}] by [{inputs}, {outputs}]")
    };
    Ok(planned)
}

/// `epilogue(y · scales + bias)` in `dtype`, over `y [.., N]`.
fn finish(
    y: &Tensor,
    dtype: DType,
    scales: Option<(&Tensor, &Tensor)>,
    bias: Option<&Tensor>,
    epilogue: Epilogue,
) -> Result<Tensor> {
    let columns = y.dims()[y.rank() - 1];
    let rows = y.elem_count() / columns;
    // The two dtypes differ where sums are whole numbers, or bf16 because they are too large for f16 before they are scaled.
    let source = if y.dtype() == DType::I32 { "int" } else { suffix(y.dtype()).unwrap_or_default() };
    let device = device_of(y)?;
    let out = uninitialised(device, y.shape(), dtype)?;
    let (kind, other, gate) = match epilogue {
        Epilogue::None => (0, None, None),
        Epilogue::GeluTanh => (1, None, None),
        Epilogue::Silu => (2, None, None),
        Epilogue::Product(other) => (3, Some(other), None),
        Epilogue::Residual(other) => (4, Some(other), None),
        Epilogue::GatedResidual { x, gate } => (5, Some(x), Some(gate)),
    };
    let other = other.map(dense).transpose()?;
    let gate = gate.map(parameter).transpose()?;
    let bias = bias.map(parameter).transpose()?;
    let tokens = if gate.is_some() { y.dim(1)? } else { 1 };
    {
        let gate = Operand::optional(gate.as_ref())?;
        let [gate, per_item, per_token] = broadcast(y, gate.as_ref())?;
        let (y, out) = (Operand::new(y)?, Operand::new(&out)?);
        let row_scales = Operand::optional(scales.map(|(rows, _)| rows))?;
        let column_scales = Operand::optional(scales.map(|(_, columns)| columns))?;
        let (bias, other) = (Operand::optional(bias.as_ref())?, Operand::optional(other.as_ref())?);
        let arguments = [
            Argument::Pointer(y.pointer),
            Argument::Pointer(out.pointer),
            Argument::Pointer(address(row_scales.as_ref())),
            Argument::Pointer(address(column_scales.as_ref())),
            Argument::Pointer(address(bias.as_ref())),
            Argument::Pointer(address(other.as_ref())),
            gate,
            per_item,
            per_token,
            Argument::Int(tokens as i32),
            Argument::Int(columns as i32),
            Argument::Int(kind),
        ];
        let name = format!("finish_{source}_{}", suffix(dtype).unwrap_or_default());
        let threads = (columns / 8).next_multiple_of(32).clamp(32, 512);
        // SAFETY: the arguments of `finish`; one block per row.
        unsafe {
            Kernel::new(device, "linear", name, 0)?.launch(grid(rows, 1, threads, 0), &arguments)?;
        }
    }
    Ok(out)
}

//! Weights that stay in the device's memory as their file stores them, and become elements of a product a panel at a time.

use super::super::module::{Argument, Kernel, grid};
use super::super::{Operand, address, device_of, suffix, uninitialised};
use candle_core::cuda_backend::cudarc::driver::DeviceRepr;
use candle_core::{DType, Device, Result, Tensor, bail};
use kinora_formats::{BlockScales, Blocks, Format, Matrix, Scales};

/// The bytes of a panel: a fraction of the caches of large GPUs, and few enough panels that products stay large.
const PANEL_BYTES: usize = 16 << 20;
/// The outputs of a panel are a multiple of this, as tiles of products are.
const PANEL_OUTPUTS: usize = 128;
/// The values that a thread takes apart at a time.
const RUN: usize = 8;
/// Threads of a block, and the most values that it has room to rotate.
const THREADS: usize = 128;
const MOST_ROTATED: usize = 4096;

/// A matrix `[N, K]` as its file stores it, on a device.
pub struct StoredWeight {
    /// `[N, bytes of a row]`.
    bytes: Tensor,
    /// The scale of all values `[1]`. Like everything that differs between weights of one form, it is on the device.
    whole: Tensor,
    /// f32, or bytes of e4m3 or e8m0.
    scales: Option<Tensor>,
    parameters: Parameters,
}

/// The parameters that the kernel reads, in its order.
#[repr(C)]
#[derive(Clone, Copy)]
struct Parameters {
    bytes: u64,
    scales: u64,
    whole: u64,
    row_bytes: i64,
    columns: i32,
    format: i32,
    block_values: i32,
    block_bytes: i32,
    scale_format: i32,
    share: i32,
    rotation: i32,
}

// SAFETY: the kernels' struct of the same layout.
unsafe impl DeviceRepr for Parameters {}

impl StoredWeight {
    /// Copies `matrix` to `device`; returns none if its form or its sizes are not those of the kernel, or of products: multiples
    /// of 8.
    pub fn new(matrix: &Matrix, device: &Device) -> Result<Option<Self>> {
        let (rows, columns) = (matrix.rows(), matrix.columns());
        let share = matrix.scales().block().unwrap_or(columns);
        let fits = [rows, columns, share].into_iter().all(|size| size > 0 && size.is_multiple_of(RUN));
        let Some(format) = number(matrix.format()).filter(|_| fits && matrix.rotation() <= MOST_ROTATED) else {
            return Ok(None);
        };
        let (scale_format, whole, scales) = match matrix.scales() {
            Scales::None => (0, 1.0, None),
            Scales::Whole(scale) => (0, *scale, None),
            Scales::Rows(values) | Scales::Blocks { values: BlockScales::F32(values), .. } => {
                (1, 1.0, Some(Tensor::new(values.as_slice(), device)?))
            }
            Scales::Blocks { values: BlockScales::E4m3(values, whole), .. } => {
                (2, *whole, Some(Tensor::new(values.as_slice(), device)?))
            }
            Scales::Blocks { values: BlockScales::E8m0(values), .. } => {
                (3, 1.0, Some(Tensor::new(values.as_slice(), device)?))
            }
        };
        let whole = Tensor::new(&[whole], device)?;
        let row_bytes = matrix.row(0).len();
        let bytes = Tensor::from_slice(&matrix.bytes()[..rows * row_bytes], (rows, row_bytes), device)?;
        let (block_values, block_bytes) = matrix.format().unit();
        let parameters = Parameters {
            bytes: 0,
            scales: 0,
            whole: 0,
            row_bytes: row_bytes as i64,
            columns: columns as i32,
            format,
            block_values: block_values as i32,
            block_bytes: block_bytes as i32,
            scale_format,
            share: share as i32,
            rotation: matrix.rotation() as i32,
        };
        Ok(Some(Self { bytes, whole, scales, parameters }))
    }

    /// Returns bytes and scales.
    pub fn tensors(&self) -> Vec<Tensor> {
        [&self.bytes, &self.whole].into_iter().chain(&self.scales).cloned().collect()
    }

    /// Returns everything that tells how the tensors are to be read: of two weights for which it is the same, one can be
    /// overwritten with the other.
    pub fn form(&self) -> String {
        let Parameters { format, scale_format, share, rotation, .. } = self.parameters;
        format!("{format} {scale_format} {share} {rotation}")
    }

    /// `N`.
    pub(super) fn outputs(&self) -> usize {
        self.bytes.dims()[0]
    }

    /// `K`.
    pub(super) fn inputs(&self) -> usize {
        self.parameters.columns as usize
    }

    /// The outputs of each panel in this dtype, except for the last one.
    pub(super) fn panel(&self, dtype: DType) -> usize {
        let outputs = PANEL_BYTES / (self.inputs() * dtype.size_in_bytes());
        (outputs / PANEL_OUTPUTS).max(1) * PANEL_OUTPUTS
    }

    /// Returns all values, rounded once to `dtype`.
    pub fn values(&self, dtype: DType) -> Result<Tensor> {
        let out = uninitialised(device_of(&self.bytes)?, (self.outputs(), self.inputs()), dtype)?;
        self.write(0, self.outputs(), &out)?;
        Ok(out)
    }

    /// Queues that the values of the outputs from `first` on are written to the first `count` rows of `out [.., K]`.
    pub(super) fn write(&self, first: usize, count: usize, out: &Tensor) -> Result<()> {
        let device = device_of(out)?;
        let Some(suffix) = suffix(out.dtype()) else { bail!("linear: no values of {:?}", out.dtype()) };
        let (bytes, whole, out) = (Operand::new(&self.bytes)?, Operand::new(&self.whole)?, Operand::new(out)?);
        let scales = Operand::optional(self.scales.as_ref())?;
        let scales_at = address(scales.as_ref());
        let parameters =
            Parameters { bytes: bytes.pointer, scales: scales_at, whole: whole.pointer, ..self.parameters };
        let rotation = parameters.rotation as usize;
        let chunk = rotation.max(THREADS * RUN);
        let shared = if rotation > 1 { chunk * size_of::<f32>() } else { 0 };
        let arguments = [
            Argument::Struct(&parameters),
            Argument::Pointer(out.pointer),
            Argument::Long(first as i64),
            Argument::Int(chunk as i32),
        ];
        let kernel = Kernel::new(device, "stored", format!("dequantise_{suffix}"), 0)?;
        // SAFETY: the arguments of `dequantise`; a block per row and chunk.
        unsafe { kernel.launch(grid(count, self.inputs().div_ceil(chunk), THREADS, shared), &arguments) }
    }
}

/// The number of a format in `stored.cu`.
fn number(format: Format) -> Option<i32> {
    Some(match format {
        Format::F8E4m3 => 0,
        Format::F8E5m2 => 1,
        Format::I8 => 2,
        Format::F4 => 3,
        Format::Blocks(Blocks::Q4_0) => 4,
        Format::Blocks(Blocks::Q4_1) => 5,
        Format::Blocks(Blocks::Q5_0) => 6,
        Format::Blocks(Blocks::Q5_1) => 7,
        Format::Blocks(Blocks::Q8_0) => 8,
        Format::Blocks(Blocks::Q2K) => 9,
        Format::Blocks(Blocks::Q3K) => 10,
        Format::Blocks(Blocks::Q4K) => 11,
        Format::Blocks(Blocks::Q5K) => 12,
        Format::Blocks(Blocks::Q6K) => 13,
        Format::Blocks(Blocks::Iq4Nl) => 14,
        Format::Blocks(Blocks::Iq4Xs) => 15,
        _ => return None,
    })
}

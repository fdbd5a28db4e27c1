//! Convolutions over frames: matrix products whose left operand is gathered on its way into shared memory.

use super::module::{Argument, Kernel, grid, is_hopper};
use super::{Operand, address, dense, device_of, parameter, suffix, uninitialised};
use crate::FrameConvOptions;
use candle_core::cuda_backend::cudarc::driver::DeviceRepr;
use candle_core::{DType, Result, Tensor, bail};

/// Outputs that a block may have, as in the source.
const OUTPUTS: [usize; 4] = [128, 96, 64, 32];
/// Positions of a block, chunks in flight, and frames under the kernel at most.
const POSITIONS: usize = 128;
const STAGES: usize = 3;
const FRAMES: usize = 3;

#[repr(C)]
#[derive(Clone, Copy)]
struct Parameters {
    frames: [u64; FRAMES],
    weights: u64,
    bias: u64,
    residual: u64,
    out: u64,
    batch: i32,
    height: i32,
    width: i32,
    channels: i32,
    out_height: i32,
    out_width: i32,
    outputs: i32,
    kernel_frames: i32,
    kernel_rows: i32,
    kernel_columns: i32,
    stride: i32,
    padding: i32,
    phased: i32,
}

// SAFETY: plain data, laid out as in conv.cu.
unsafe impl DeviceRepr for Parameters {}

/// Numbers that are summed at a time, as in the source.
const CHUNK: usize = 64;

/// Weights of a convolution, of 16 bits, in the order in which the kernel sums.
pub struct GpuConv {
    /// `[phases, blocks, chunks, block, 64]`, see [`packed`].
    weights: Tensor,
    bias: Tensor,
    /// The kernel's size in one phase.
    kernel: [usize; 3],
    options: FrameConvOptions,
    outputs: usize,
    inputs: usize,
    block: usize,
}

impl GpuConv {
    /// Packs `weight [O, C, kf, kh, kw]` and `bias [O]`. Returns none for other dtypes and longer kernels, and for
    /// upsampling without a padding of 1, which are left to candle's operations.
    pub fn new(weight: &Tensor, bias: &Tensor, options: FrameConvOptions) -> Result<Option<Self>> {
        let (outputs, inputs, kf, kh, kw) = weight.dims5()?;
        if !weight.device().is_cuda() || !matches!(weight.dtype(), DType::BF16 | DType::F16) || kf > FRAMES {
            return Ok(None);
        }
        if options.upsample && options.padding != (1, 1) {
            return Ok(None);
        }
        let padded = |block: usize| outputs.next_multiple_of(block);
        let Some(&block) = OUTPUTS.iter().min_by_key(|&&block| padded(block)) else { return Ok(None) };
        let bias = parameter(bias)?;
        if options.upsample {
            let phases: Vec<Tensor> =
                phases(weight)?.iter().map(|weight| packed(weight, block)).collect::<Result<_>>()?;
            let weights = Tensor::stack(&phases, 0)?;
            return Ok(Some(Self { weights, bias, kernel: [kf, 2, 2], options, outputs, inputs, block }));
        }
        let weights = packed(weight, block)?.unsqueeze(0)?;
        Ok(Some(Self { weights, bias, kernel: [kf, kh, kw], options, outputs, inputs, block }))
    }

    /// Pads the channels of frames to a multiple of 8.
    fn padded(&self, frames: &[Option<&Tensor>]) -> Result<Vec<Option<Tensor>>> {
        let missing = self.inputs.next_multiple_of(8) - self.inputs;
        let padded = |frame: &Tensor| dense(&frame.pad_with_zeros(3, 0, missing)?);
        frames.iter().map(|frame| frame.map(padded).transpose()).collect()
    }

    /// See [`FrameConv::forward`](crate::FrameConv::forward).
    pub fn forward(
        &self,
        frames: &[Option<&Tensor>],
        residual: Option<&Tensor>,
        [out_height, out_width]: [usize; 2],
    ) -> Result<Tensor> {
        let frames = self.padded(frames)?;
        let Some(first) = frames.iter().flatten().next() else { bail!("convolution: no frame") };
        let (batch, height, width, channels) = first.dims4()?;
        let (device, dtype) = (device_of(first)?, first.dtype());
        if dtype != self.weights.dtype() {
            bail!("convolution: frames are {dtype:?}, weights {:?}", self.weights.dtype());
        }
        let residual = residual.map(dense).transpose()?;
        let out = uninitialised(device, (batch, out_height, out_width, self.outputs), dtype)?;
        let ([kf, kh, kw], FrameConvOptions { stride, padding, upsample, .. }) = (self.kernel, self.options);
        // Positions of one phase, and phases.
        let (rows, columns, phases) = if upsample { (height, width, 4) } else { (out_height, out_width, 1) };
        {
            let operands: Vec<_> =
                frames.iter().map(|frame| Operand::optional(frame.as_ref())).collect::<Result<_>>()?;
            let (weights, bias, target) =
                (Operand::new(&self.weights)?, Operand::new(&self.bias)?, Operand::new(&out)?);
            let residual = Operand::optional(residual.as_ref())?;
            let mut parameters = Parameters {
                frames: [0; FRAMES],
                weights: weights.pointer,
                bias: bias.pointer,
                residual: address(residual.as_ref()),
                out: target.pointer,
                batch: batch as i32,
                height: height as i32,
                width: width as i32,
                channels: channels as i32,
                out_height: rows as i32,
                out_width: columns as i32,
                outputs: self.outputs as i32,
                kernel_frames: kf as i32,
                kernel_rows: kh as i32,
                kernel_columns: kw as i32,
                stride: stride as i32,
                padding: padding.0 as i32,
                phased: i32::from(upsample),
            };
            for (frame, operand) in parameters.frames.iter_mut().zip(&operands) {
                *frame = address(operand.as_ref());
            }
            let way = if is_hopper(device)? { "wgmma" } else { "mma" };
            let name = format!("convolve_{}_{}_{way}", self.block, suffix(dtype).unwrap_or_default());
            let shared = STAGES * (POSITIONS + self.block) * 128 + 1024;
            let kernel = Kernel::new(device, "conv", name, shared)?;
            let blocks = (batch * rows * columns).div_ceil(POSITIONS);
            let mut config = grid(blocks, self.outputs.div_ceil(self.block), 256, shared);
            config.grid_dim.2 = phases;
            // SAFETY: the argument of `convolve`, whose blocks cover all positions, outputs and phases.
            unsafe { kernel.launch(config, &[Argument::Struct(&parameters)])? };
        }
        Ok(out)
    }
}

/// Returns a kernel `[O, C, kf, 3, 3]` over upsampled pixels as four kernels `[O, C, kf, 2, 2]` over the pixels themselves,
/// for even and odd rows of the result, and of each for even and odd columns.
fn phases(weight: &Tensor) -> Result<Vec<Tensor>> {
    // An even row sees pixel y - 1 through tap 0, and y through 1 and 2; an odd one y through 0 and 1, and y + 1 through 2.
    let halved = |weight: &Tensor, axis: usize, odd: bool| {
        let tap = |index| weight.narrow(axis, index, 1);
        let [first, second] = if odd { [(tap(0)? + tap(1)?)?, tap(2)?] } else { [tap(0)?, (tap(1)? + tap(2)?)?] };
        Tensor::cat(&[first, second], axis)
    };
    let wide = weight.to_dtype(DType::F32)?;
    let phase = |(rows, columns)| halved(&halved(&wide, 3, rows)?, 4, columns)?.to_dtype(weight.dtype());
    [(false, false), (false, true), (true, false), (true, true)].into_iter().map(phase).collect()
}

/// Packs `weight [O, C, kf, kh, kw]` as the kernel reads it: numbers in the order frames, rows, columns, channels (padded to a
/// multiple of 8) in chunks of 64, outputs in blocks of `block`, padded with zeros. Each chunk of a block lies together,
/// its rows of 8 parts exchanged as in shared memory: part p of row r at p ^ (r % 8).
fn packed(weight: &Tensor, block: usize) -> Result<Tensor> {
    const PARTS: usize = 8;
    let (outputs, inputs, ..) = weight.dims5()?;
    let weight = weight.permute((0, 2, 3, 4, 1))?; // [O, kf, kh, kw, C]
    let weight = weight.pad_with_zeros(4, 0, inputs.next_multiple_of(PARTS) - inputs)?.contiguous()?.flatten_from(1)?;
    let inner = weight.dim(1)?;
    let weight = weight.pad_with_zeros(1, 0, inner.next_multiple_of(CHUNK) - inner)?;
    let weight = weight.pad_with_zeros(0, 0, outputs.next_multiple_of(block) - outputs)?;
    let (blocks, chunks) = (weight.dim(0)? / block, weight.dim(1)? / CHUNK);
    let weight = weight.reshape((blocks, block, chunks, CHUNK))?.permute((0, 2, 1, 3))?.contiguous()?;
    let places: Vec<u32> = (0..block as u32 * 8).map(|place| place / 8 * 8 + ((place % 8) ^ (place / 8 % 8))).collect();
    let places = Tensor::from_vec(places, block * PARTS, weight.device())?;
    let weight = weight.reshape((blocks * chunks, block * PARTS, CHUNK / PARTS))?.index_select(&places, 1)?;
    dense(&weight.reshape((blocks, chunks, block, CHUNK))?)
}

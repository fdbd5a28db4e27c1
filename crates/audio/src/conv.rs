//! Convolutions over time, of signals `[1, L, C]` whose channels come last. All are [`FrameConv`]s: the taps of a kernel are its temporal
//! taps, and what lies under one is a view of the same signals, shifted. So nothing is copied for a kernel or its dilation.

use candle_core::{DType, Result, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{FrameConv, FrameConvOptions};

type Load<T> = kinora_checkpoint::Result<T>;

/// A convolution that keeps the length.
pub(crate) struct Conv1d {
    conv: FrameConv,
    taps: usize,
    dilation: usize,
}

impl Conv1d {
    /// Reads `weight [outputs, inputs, taps]` with an odd number of taps, and `bias [outputs]` where there `has_bias`.
    pub(crate) fn new(
        weights: &Weights,
        [inputs, outputs]: [usize; 2],
        taps: usize,
        dilation: usize,
        has_bias: bool,
    ) -> Load<Self> {
        let weight = weights.get_dtype("weight", (outputs, inputs, taps), DType::F32)?;
        let bias = bias(weights, outputs, has_bias)?;
        let conv = FrameConv::new(&weight.unsqueeze(3)?.unsqueeze(4)?, &bias, FrameConvOptions::default())?;
        Ok(Self { conv, taps, dilation })
    }

    /// Returns the zeros that [`Conv1d::forward`] needs before the signals, and after them.
    pub(crate) fn padding(&self) -> usize {
        (self.taps - 1) / 2 * self.dilation
    }

    /// `padded [1, L + 2·padding, inputs]` → `[1, L, outputs]`, plus `residual` of that shape.
    pub(crate) fn forward(&self, padded: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let residual = residual.map(|residual| residual.unsqueeze(1)).transpose()?;
        shifted(&self.conv, padded, self.taps, self.dilation, residual.as_ref())
    }

    /// Returns [`Conv1d::forward`] of `x [1, L, inputs]` between zeros.
    pub(crate) fn padded(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(&zeros_around(x, self.padding())?, None)
    }
}

/// A convolution of one signal that goes on by more than one sample at a time.
pub(crate) struct StridedConv {
    conv: FrameConv,
    taps: usize,
    blocks: usize,
    stride: usize,
}

impl StridedConv {
    /// Takes `weight [outputs, taps]`. The signal is cut into blocks of `stride` samples, which become channels: what is left is a
    /// convolution over blocks.
    pub(crate) fn new(weight: &Tensor, stride: usize) -> Result<Self> {
        let (outputs, taps) = weight.dims2()?;
        let blocks = taps.div_ceil(stride);
        let weight = if weight.is_contiguous() {
            let weight = weight.pad_with_zeros(1, 0, blocks * stride - taps)?.reshape((outputs, blocks, stride))?;
            weight.transpose(1, 2)?.contiguous()?
        } else {
            weight.narrow(1, 0, 1)?.unsqueeze(2)?.broadcast_as((outputs, stride, blocks))?
        };
        let bias = Tensor::zeros(outputs, DType::F32, weight.device())?;
        let conv = FrameConv::new(&weight.unsqueeze(3)?.unsqueeze(4)?, &bias, FrameConvOptions::default())?;
        Ok(Self { conv, taps, blocks, stride })
    }

    /// `signal [S]`, of at least as many samples as there are taps → `[1, (S - taps)/stride + 1, outputs]`.
    pub(crate) fn forward(&self, signal: &Tensor) -> Result<Tensor> {
        let samples = signal.dim(0)?;
        let Some(behind) = samples.checked_sub(self.taps) else {
            candle_core::bail!("convolution: {samples} samples are fewer than {} taps", self.taps)
        };
        let rows = behind / self.stride + self.blocks;
        let signal = match (rows * self.stride).checked_sub(samples) {
            Some(missing) => signal.pad_with_zeros(0, 0, missing)?,
            None => signal.narrow(0, 0, rows * self.stride)?,
        };
        shifted(&self.conv, &signal.reshape((1, rows, self.stride))?, self.blocks, 1, None)
    }
}

/// A transposed convolution, as a convolution of all phases of its result: each phase sees a few neighbours of a position, and the phases
/// of a position are its channels.
pub(crate) struct TransposedConv {
    conv: FrameConv,
    stride: usize,
    /// Neighbours before and after a position that reach its phases.
    reach: [usize; 2],
}

impl TransposedConv {
    /// Reads `weight [inputs, outputs, taps]` and `bias [outputs]`. The padding makes the result `stride` times as long, for which both are even
    /// or both odd.
    pub(crate) fn new(weights: &Weights, [inputs, outputs]: [usize; 2], taps: usize, stride: usize) -> Load<Self> {
        let weight = weights.get_dtype("weight", (inputs, outputs, taps), DType::F32)?;
        let bias = weights.get_dtype("bias", outputs, DType::F32)?;
        Ok(Self::of(&weight, &bias, stride, (taps - stride) / 2)?)
    }

    /// Takes `weight [inputs, outputs, taps]` and `bias [outputs]`: the element `o` of the result is the sum of `x[i] · weight[j]` with
    /// `o = i·stride + j - padding`.
    pub(crate) fn of(weight: &Tensor, bias: &Tensor, stride: usize, padding: usize) -> Result<Self> {
        let (inputs, outputs, taps) = weight.dims3()?;
        let [before, after] = neighbours(taps, stride, padding);
        let count = before + 1 + after;
        let first = (after * stride).saturating_sub(padding);
        let all = padding + before * stride + stride + first;
        let phases = if weight.is_contiguous() {
            let weight = weight.pad_with_zeros(2, first, all.saturating_sub(first + taps))?;
            let of = |tap: usize| {
                let start = first + padding + before * stride - tap * stride;
                weight.narrow(2, start, stride)?.permute((2, 1, 0))?.reshape((stride * outputs, inputs))
            };
            Tensor::stack(&(0..count).map(of).collect::<Result<Vec<_>>>()?, 2)?
        } else {
            weight.narrow(1, 0, 1)?.narrow(2, 0, 1)?.squeeze(1)?.t()?.unsqueeze(2)?.broadcast_as((
                stride * outputs,
                inputs,
                count,
            ))?
        };
        let bias = bias.unsqueeze(0)?.broadcast_as((stride, outputs))?.flatten_all()?;
        let conv = FrameConv::new(&phases.unsqueeze(3)?.unsqueeze(4)?, &bias, FrameConvOptions::default())?;
        Ok(Self { conv, stride, reach: [before, after] })
    }

    /// Returns how much longer the result is.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Returns how many neighbours before and after a position reach its phases.
    pub(crate) fn reach(&self) -> [usize; 2] {
        self.reach
    }

    /// `padded [1, before + L + after, inputs]`, with what [`TransposedConv::reach`] says around the signals → `[1, L·stride, outputs]`.
    pub(crate) fn forward(&self, padded: &Tensor) -> Result<Tensor> {
        let [before, after] = self.reach;
        let phases = shifted(&self.conv, padded, before + 1 + after, 1, None)?;
        let (_, l, channels) = phases.dims3()?;
        phases.reshape((1, l * self.stride, channels / self.stride))
    }
}

/// Returns how many neighbours before and after a position reach its phases in a [`TransposedConv`]: phase `r` of position `q` takes `x[q + d]` by
/// the tap `r + padding - stride·d`.
pub(crate) fn neighbours(taps: usize, stride: usize, padding: usize) -> [usize; 2] {
    [(taps - 1).saturating_sub(padding) / stride, padding.div_ceil(stride)]
}

/// Returns `x [1, L, C]` between zeros.
pub(crate) fn zeros_around(x: &Tensor, padding: usize) -> Result<Tensor> {
    x.pad_with_zeros(1, padding, padding)
}

/// Reads `bias [outputs]`, or returns zeros.
fn bias(weights: &Weights, outputs: usize, has_bias: bool) -> Load<Tensor> {
    if has_bias {
        return weights.get_dtype("bias", outputs, DType::F32);
    }
    Ok(Tensor::zeros(outputs, DType::F32, weights.device())?)
}

/// Returns `conv` over `x [1, L, inputs]`, whose taps are `dilation` positions apart: `[1, L - (taps - 1)·dilation, outputs]`.
fn shifted(conv: &FrameConv, x: &Tensor, taps: usize, dilation: usize, residual: Option<&Tensor>) -> Result<Tensor> {
    let length = x.dim(1)? - (taps - 1) * dilation;
    let views = (0..taps).map(|tap| x.narrow(1, tap * dilation, length)?.unsqueeze(1));
    let views = views.collect::<Result<Vec<_>>>()?;
    conv.forward(&views.iter().map(Some).collect::<Vec<_>>(), residual)?.squeeze(1)
}

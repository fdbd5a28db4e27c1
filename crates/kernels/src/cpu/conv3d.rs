//! [`conv3d`]: tiles of output positions, each the product of the weights and of the inputs under them (im2col),
//! a part of the taps at a time, so that what is gathered stays in the cache.
#![allow(unsafe_code)]

use super::gemm::{Matrix, MatrixMut, Parallelism, multiply_add};
use super::shared::SharedMut;
use super::{Operand, from_f32, to_f32};
use crate::Conv3dOptions;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// Output positions that one task takes, for large and for small outputs.
const POSITIONS: usize = 256;
const FEW_POSITIONS: usize = 64;
/// Outputs below which tasks take [`FEW_POSITIONS`], so that there are tasks enough.
const SMALL: usize = 4096;
/// Taps (input channel, frame, row, column of the kernel) gathered at a time.
const TAPS: usize = 512;

/// See [`crate::conv3d`]; shapes are checked there, `out_size` is that of the result over frames, rows, columns.
pub fn conv3d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    options: Conv3dOptions,
    out_size: [usize; 3],
) -> Result<Tensor> {
    let dtype = x.dtype();
    let (batch, channels, f, h, w) = x.dims5()?;
    let (outputs, _, kf, kh, kw) = weight.dims5()?;
    let (x, weight, bias) = (to_f32(x)?, to_f32(weight)?, bias.map(to_f32).transpose()?);
    let (x_data, weight_data) = (Operand::new(&x)?, Operand::new(&weight)?);
    let bias_data = bias.as_ref().map(Operand::new).transpose()?;
    let convolution = Convolution {
        x: x_data.slice()?,
        weight: weight_data.slice()?,
        bias: bias_data.as_ref().map(Operand::slice).transpose()?,
        channels,
        outputs,
        size: [f, h, w],
        kernel: [kf, kh, kw],
        out_size,
        options,
    };
    let [f, h, w] = out_size;
    let out = Tensor::from_vec(convolution.compute(batch), (batch, outputs, f, h, w), &Device::Cpu)?;
    from_f32(&out, dtype)
}

struct Convolution<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    channels: usize,
    outputs: usize,
    size: [usize; 3],
    kernel: [usize; 3],
    out_size: [usize; 3],
    options: Conv3dOptions,
}

impl Convolution<'_> {
    fn compute(&self, batch: usize) -> Vec<f32> {
        let positions: usize = self.out_size.iter().product();
        let mut out = vec![0f32; batch * self.outputs * positions];
        let shared = SharedMut::new(&mut out);
        let step = if positions < SMALL { FEW_POSITIONS } else { POSITIONS };
        let tiles = positions.div_ceil(step);
        (0..batch * tiles).into_par_iter().for_each_init(Vec::new, |scratch, task| {
            let first = task % tiles * step;
            self.tile(task / tiles, first..positions.min(first + step), &shared, scratch);
        });
        out
    }

    /// Computes all outputs of one item at some `positions` (frames, rows and columns counted through).
    fn tile(&self, item: usize, positions: Range<usize>, out: &SharedMut<f32>, scratch: &mut Vec<f32>) {
        let out_plane: usize = self.out_size.iter().product();
        let offset = item * self.outputs * out_plane + positions.start;
        if let Some(bias) = self.bias {
            for (output, &bias) in bias.iter().enumerate() {
                let start = offset + output * out_plane;
                // SAFETY: every (item, output, tile) is a part of its own.
                unsafe { out.part(start..start + positions.len()) }.fill(bias);
            }
        }
        let taps = self.channels * self.kernel.iter().product::<usize>();
        let runs = self.runs(&positions);
        for first in (0..taps).step_by(TAPS) {
            let depth = TAPS.min(taps - first);
            let gathered = if self.is_pointwise() {
                let start = (item * self.channels + first) * out_plane + positions.start;
                Matrix { data: &self.x[start..], row: out_plane, column: 1 }
            } else {
                scratch.resize(depth * positions.len(), 0.0);
                for (tap, row) in (first..).zip(scratch.chunks_exact_mut(positions.len())) {
                    self.gather(item, tap, &runs, row);
                }
                Matrix { data: scratch, row: positions.len(), column: 1 }
            };
            let weight = Matrix { data: &self.weight[first..], row: taps, column: 1 };
            let out = MatrixMut { data: out, offset, row: out_plane, column: 1 };
            // SAFETY: every (item, output, tile) is a part of its own.
            unsafe { multiply_add([self.outputs, positions.len(), depth], out, weight, gathered, Parallelism::None) };
        }
    }

    /// Whether the input is its own im2col.
    fn is_pointwise(&self) -> bool {
        self.kernel == [1; 3] && self.options == Conv3dOptions::default()
    }

    /// Cuts a range of output positions into runs within a row.
    fn runs(&self, positions: &Range<usize>) -> Vec<Run> {
        let [_, h, w] = self.out_size;
        let mut runs = Vec::new();
        let mut position = positions.start;
        while position < positions.end {
            let column = position % w;
            let len = (w - column).min(positions.end - position);
            runs.push(Run { frame: position / w / h, row: position / w % h, column, len });
            position += len;
        }
        runs
    }

    /// Fills `out` with what lies under one tap of the kernel at the positions of `runs`.
    fn gather(&self, item: usize, tap: usize, runs: &[Run], out: &mut [f32]) {
        let ([f, h, w], [kf, kh, kw]) = (self.size, self.kernel);
        let [sf, sh, sw] = self.options.stride;
        let [(pf, _), (ph, _), (pw, _)] = self.options.padding;
        let (channel, df, dh, dw) = (tap / kw / kh / kf, tap / kw / kh % kf, tap / kw % kh, tap % kw);
        let mut rest = out;
        for run in runs {
            let (out, tail) = rest.split_at_mut(run.len);
            rest = tail;
            // Below zero wraps around to far outside.
            let frame = (run.frame * sf + df).wrapping_sub(pf);
            let row = (run.row * sh + dh).wrapping_sub(ph);
            if frame >= f || row >= h {
                out.fill(0.0);
                continue;
            }
            let start = (((item * self.channels + channel) * f + frame) * h + row) * w;
            gather_row(&self.x[start..start + w], run.column * sw + dw, pw, sw, out);
        }
    }
}

/// Consecutive output positions within a row.
struct Run {
    frame: usize,
    row: usize,
    column: usize,
    len: usize,
}

/// `out[i] = x[first + i · stride - padding]`, zero outside of `x`.
fn gather_row(x: &[f32], first: usize, padding: usize, stride: usize, out: &mut [f32]) {
    // The first element that is not left of the row, and the first that is right of it.
    let left = padding.saturating_sub(first).div_ceil(stride).min(out.len());
    let right = (x.len() + padding).saturating_sub(first).div_ceil(stride).clamp(left, out.len());
    out[..left].fill(0.0);
    out[right..].fill(0.0);
    if left == right {
        return;
    }
    let start = first + left * stride - padding;
    let inside = &mut out[left..right];
    if stride == 1 {
        inside.copy_from_slice(&x[start..start + inside.len()]);
    } else {
        inside.iter_mut().zip(x[start..].iter().step_by(stride)).for_each(|(out, x)| *out = *x);
    }
}

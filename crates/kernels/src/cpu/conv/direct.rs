//! Direct convolution: per tap of the kernel, the product of a run of pixels and the tap's weights.

use super::super::shared::SharedMut;
use super::super::tile::{COLUMNS, Out, Panel, Rows, multiply_tile};
use super::Problem;
use crate::{FrameConvOptions, Level};
use rayon::prelude::*;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Positions of a row that one task takes.
const POSITIONS: usize = 56;

impl Problem<'_> {
    pub(super) fn direct(&self, out: &mut [MaybeUninit<f32>]) {
        // With a 1×1 kernel, the frame is a single row.
        let [_, kh, kw] = self.conv.kernel;
        let is_pointwise = [kh, kw] == [1, 1] && self.conv.options == FrameConvOptions::default();
        let flat = |[h, w]: [usize; 2]| if is_pointwise { [1, h * w] } else { [h, w] };
        let (size, [h, w]) = (flat(self.size), flat(self.out_size));
        let (blocks, shared) = (w.div_ceil(POSITIONS), SharedMut::new(out));
        (0..self.batch * h * blocks).into_par_iter().for_each(|task| {
            let first = task % blocks * POSITIONS;
            let columns = first..w.min(first + POSITIONS);
            let run = Run { problem: self, size, item: task / blocks / h, row: task / blocks % h, columns };
            run.compute([h, w], &shared);
        });
    }
}

/// Output positions of one row.
struct Run<'a> {
    problem: &'a Problem<'a>,
    size: [usize; 2],
    item: usize,
    row: usize,
    columns: Range<usize>,
}

impl Run<'_> {
    fn compute(&self, [h, w]: [usize; 2], out: &SharedMut<MaybeUninit<f32>>) {
        let conv = self.problem.conv;
        let start = (self.row * w + self.columns.start) * conv.outputs;
        let len = self.columns.len() * conv.outputs;
        let offset = self.item * h * w * conv.outputs + start;
        // SAFETY: every run is a part of its own.
        let out = unsafe { out.part(offset..offset + len) };
        for pixel in out.chunks_exact_mut(conv.outputs) {
            pixel.write_copy_of_slice(&conv.bias[..conv.outputs]);
        }
        // SAFETY: written just now.
        let out = unsafe { out.assume_init_mut() };
        if let Some(residual) = self.problem.residual(self.item) {
            out.iter_mut().zip(&residual[start..]).for_each(|(out, residual)| *out += residual);
        }
        for panel in 0..conv.panels() {
            for tap in 0..conv.kernel[0] {
                if let Some(frame) = self.problem.frame(tap, self.item) {
                    self.add_panel(frame, panel, conv.panel(panel, tap), out);
                }
            }
        }
    }

    /// Adds the products with one panel's weights `[kh·kw, C, 32]` of one temporal tap.
    fn add_panel(&self, frame: &[f32], panel: usize, weight: &[f32], out: &mut [f32]) {
        let conv = self.problem.conv;
        let ([h, w], [_, _, kw], channels) = (self.size, conv.kernel, conv.inputs);
        let FrameConvOptions { stride, padding: (padding, _), .. } = conv.options;
        for (tap, weight) in weight.chunks_exact(channels * COLUMNS).enumerate() {
            let (row, shift) = ((self.row * stride + tap / kw).checked_sub(padding), tap % kw);
            let Some(row) = row.filter(|row| *row < h) else { continue };
            // The first column whose pixel is not left of the frame, and the first whose pixel is right of it.
            let left = padding.saturating_sub(shift).div_ceil(stride).max(self.columns.start);
            let right = (w + padding).saturating_sub(shift).div_ceil(stride).min(self.columns.end);
            if left >= right {
                continue;
            }
            let pixels = &frame[(row * w + left * stride + shift - padding) * channels..];
            let out = &mut out[(left - self.columns.start) * conv.outputs + panel * COLUMNS..];
            let columns = COLUMNS.min(conv.outputs - panel * COLUMNS);
            let rows = Rows { data: pixels.as_ptr(), row: stride * channels, step: 1 };
            let panel = Panel::new(weight.as_ptr(), COLUMNS);
            let out = Out { data: out.as_mut_ptr(), row: conv.outputs, accumulate: true };
            // SAFETY: the columns' pixels lie in their row of the frame, their results in this run's part of the
            // output, and the panel has all its columns.
            unsafe { multiply_tile(Level::current(), [right - left, columns, channels], rows, panel, out) };
        }
    }
}

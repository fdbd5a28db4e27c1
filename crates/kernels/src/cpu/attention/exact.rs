//! Keys and values as f32, in the panels that [`multiply_tile`] reads.

use super::block::{Block, KEYS, Panels};
use super::inputs::Strided;
use crate::Level;
use crate::cpu::element::Element;
use crate::cpu::shared::SharedMut;
use crate::cpu::tile::{COLUMNS, Out, Panel, Rows, multiply_tile};
use rayon::prelude::*;

/// Part of a head's dim that is summed at a time, so that a panel of keys fits in the L1 cache.
const DEPTH: usize = 128;

/// Keys and values of some heads.
pub struct Exact {
    /// `[heads, S / 32, D, 32]`; keys past the last are zero.
    keys: Vec<f32>,
    /// `[heads, D / 32, S, 32]`; elements past the last are zero.
    values: Vec<f32>,
    tokens: usize,
    dim: usize,
}

impl Exact {
    pub fn new(tokens: usize, dim: usize) -> Self {
        Self { keys: Vec::new(), values: Vec::new(), tokens, dim }
    }

    fn keys_len(&self) -> usize {
        self.tokens.next_multiple_of(COLUMNS) * self.dim
    }

    fn values_len(&self) -> usize {
        self.tokens * self.dim.next_multiple_of(COLUMNS)
    }
}

impl Panels for Exact {
    type Scratch = ();

    fn head_bytes(&self) -> usize {
        size_of::<f32>() * (self.keys_len() + self.values_len())
    }

    fn fill<T: Element>(&mut self, k: &Strided<T>, v: &Strided<T>, first: usize, count: usize) {
        self.keys.resize(count * self.keys_len(), 0.0);
        self.values.resize(count * self.values_len(), 0.0);
        let (tokens, dim, panels) = (self.tokens, self.dim, self.tokens.div_ceil(COLUMNS));
        let (keys_len, values_len) = (self.keys_len(), self.values_len());
        let (keys, values) = (SharedMut::new(&mut self.keys), SharedMut::new(&mut self.values));
        (0..count * panels).into_par_iter().for_each_init(Vec::new, |row, task| {
            let (head, panel) = (task / panels, task % panels);
            let start = panel * COLUMNS;
            let rows = COLUMNS.min(tokens - start);
            let at = head * keys_len + panel * COLUMNS * dim;
            // SAFETY: every task has a panel of its own.
            let keys = unsafe { keys.part(at..at + COLUMNS * dim) };
            for column in 0..rows {
                let row = T::as_f32(k.row(first + head, start + column), row);
                keys.iter_mut().skip(column).step_by(COLUMNS).zip(row).for_each(|(out, x)| *out = *x);
            }
            for chunk in 0..dim.div_ceil(COLUMNS) {
                let at = head * values_len + (chunk * tokens + start) * COLUMNS;
                // SAFETY: every task has the rows of its own keys.
                let values = unsafe { values.part(at..at + rows * COLUMNS) };
                let width = COLUMNS.min(dim - chunk * COLUMNS);
                for (i, out) in values.chunks_exact_mut(COLUMNS).enumerate() {
                    T::widen(&v.row(first + head, start + i)[chunk * COLUMNS..][..width], &mut out[..width]);
                }
            }
        });
    }

    fn prepare(&self, _: &[f32], (): &mut ()) {}

    fn score(&self, block: Block, q: &[f32], (): &(), scores: &mut [[f32; KEYS]]) {
        let (dim, level) = (self.dim, Level::current());
        let k = &self.keys[block.head * self.keys_len()..][..self.keys_len()];
        for column in (0..block.len).step_by(COLUMNS) {
            for depth in (0..dim).step_by(DEPTH) {
                let size = [scores.len(), COLUMNS.min(block.len - column), DEPTH.min(dim - depth)];
                let rows = Rows { data: q[depth..].as_ptr(), row: dim, step: 1 };
                let panel = |start: usize| k.as_ptr().wrapping_add((start + column) * dim + depth * COLUMNS);
                let panel = Panel { data: panel(block.start), row: COLUMNS, next: block.next.map(panel) };
                let out = scores.as_flattened_mut()[column..].as_mut_ptr();
                let out = Out { data: out, row: KEYS, accumulate: depth > 0 };
                // SAFETY: `[m, D]`, a panel of D rows and `[m, KEYS]` hold what is read and written.
                unsafe { multiply_tile(level, size, rows, panel, out) };
            }
        }
    }

    fn gather(&self, block: Block, weights: &[[f32; KEYS]], (): &mut (), values: &mut [f32]) {
        let (width, level) = (self.dim.next_multiple_of(COLUMNS), Level::current());
        let v = &self.values[block.head * self.values_len()..][..self.values_len()];
        for column in (0..width).step_by(COLUMNS) {
            let size = [weights.len(), COLUMNS, block.len];
            let rows = Rows { data: weights.as_flattened().as_ptr(), row: KEYS, step: 1 };
            let panel = |start: usize| v.as_ptr().wrapping_add(column * self.tokens + start * COLUMNS);
            let panel = Panel { data: panel(block.start), row: COLUMNS, next: block.next.map(panel) };
            let out = Out { data: values[column..].as_mut_ptr(), row: width, accumulate: !block.first };
            // SAFETY: `[m, KEYS]`, panels of as many rows as keys, and `[m, width]` hold what is read and written.
            unsafe { multiply_tile(level, size, rows, panel, out) };
        }
    }
}

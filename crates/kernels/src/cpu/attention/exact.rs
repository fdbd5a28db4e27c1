//! Keys and values as f32, in the panels that [`multiply_tile`] reads.

use super::block::{Block, KEYS, Panels};
use super::inputs::Strided;
use super::wide_values::WideValues;
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
    values: WideValues,
    tokens: usize,
    dim: usize,
}

impl Exact {
    pub fn new(tokens: usize, dim: usize) -> Self {
        Self { keys: Vec::new(), values: WideValues::new(tokens, dim), tokens, dim }
    }

    fn keys_len(&self) -> usize {
        self.tokens.next_multiple_of(COLUMNS) * self.dim
    }
}

impl Panels for Exact {
    type Scratch = ();

    fn head_bytes(&self) -> usize {
        size_of::<f32>() * (self.keys_len() + self.values.head_len())
    }

    fn fill<T: Element>(&mut self, k: &Strided<T>, v: &Strided<T>, first: usize, count: usize) {
        self.keys.resize(count * self.keys_len(), 0.0);
        self.values.resize(count);
        let (tokens, dim, panels) = (self.tokens, self.dim, self.tokens.div_ceil(COLUMNS));
        let keys_len = self.keys_len();
        let (keys, values) = (SharedMut::new(&mut self.keys), self.values.writer());
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
            // SAFETY: every task has the values of its own keys.
            unsafe { values.pack(v, head, first + head, start) };
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
        self.values.gather(block, weights, values);
    }
}

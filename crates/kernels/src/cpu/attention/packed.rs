//! Keys and values as the panels that [`multiply_tile`](crate::cpu::tile::multiply_tile) reads.

use super::inputs::Strided;
use crate::cpu::element::Element;
use crate::cpu::shared::SharedMut;
use crate::cpu::tile::COLUMNS;
use rayon::prelude::*;

/// Keys and values of some heads, as f32.
pub struct Packed {
    /// `[heads, S / 32, D, 32]`; keys past the last are zero.
    keys: Vec<f32>,
    /// `[heads, D / 32, S, 32]`; elements past the last are zero.
    values: Vec<f32>,
    tokens: usize,
    dim: usize,
}

impl Packed {
    pub fn new(tokens: usize, dim: usize) -> Self {
        Self { keys: Vec::new(), values: Vec::new(), tokens, dim }
    }

    /// Elements of the keys and values of one head.
    pub fn head_len(&self) -> usize {
        self.keys_len() + self.values_len()
    }

    /// The keys of one of the heads last packed.
    pub fn keys(&self, head: usize) -> &[f32] {
        &self.keys[head * self.keys_len()..][..self.keys_len()]
    }

    /// The values of one of the heads last packed.
    pub fn values(&self, head: usize) -> &[f32] {
        &self.values[head * self.values_len()..][..self.values_len()]
    }

    /// Packs `count` heads from `first`.
    pub fn fill<T: Element>(&mut self, k: &Strided<T>, v: &Strided<T>, first: usize, count: usize) {
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

    fn keys_len(&self) -> usize {
        self.tokens.next_multiple_of(COLUMNS) * self.dim
    }

    fn values_len(&self) -> usize {
        self.tokens * self.dim.next_multiple_of(COLUMNS)
    }
}

//! [`WideValues`]: values as f32, in the panels that [`multiply_tile`] reads.
#![allow(unsafe_code)]

use super::block::{Block, KEYS};
use super::inputs::Strided;
use crate::Level;
use crate::cpu::element::Element;
use crate::cpu::shared::SharedMut;
use crate::cpu::tile::{COLUMNS, Out, Panel, Rows, multiply_tile};

/// Values of some heads, `[heads, D / 32, S, 32]`; elements past the last are zero.
pub struct WideValues {
    data: Vec<f32>,
    tokens: usize,
    dim: usize,
}

impl WideValues {
    pub fn new(tokens: usize, dim: usize) -> Self {
        Self { data: Vec::new(), tokens, dim }
    }

    /// Elements of one head.
    pub fn head_len(&self) -> usize {
        self.tokens * self.dim.next_multiple_of(COLUMNS)
    }

    /// Makes room for so many heads.
    pub fn resize(&mut self, heads: usize) {
        self.data.resize(heads * self.head_len(), 0.0);
    }

    /// Returns a writer, with which several tasks [`pack`](WideWriter::pack) the values.
    pub fn writer(&mut self) -> WideWriter<'_> {
        let head_len = self.head_len();
        WideWriter { tokens: self.tokens, dim: self.dim, head_len, data: SharedMut::new(&mut self.data) }
    }

    /// `values [m, D] = weights [m, KEYS] · v` for a block of keys; see [`Panels::gather`](super::block::Panels::gather).
    pub fn gather(&self, block: Block, weights: &[[f32; KEYS]], values: &mut [f32]) {
        let (width, level) = (self.dim.next_multiple_of(COLUMNS), Level::current());
        let v = &self.data[block.head * self.head_len()..][..self.head_len()];
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

/// See [`WideValues::writer`].
pub struct WideWriter<'a> {
    data: SharedMut<'a, f32>,
    tokens: usize,
    dim: usize,
    head_len: usize,
}

impl WideWriter<'_> {
    /// Packs up to 32 values from token `start`, a multiple of 32, of head `from` of `v`; `head` is its place here.
    ///
    /// # Safety
    /// Nobody else packs these values.
    pub unsafe fn pack<T: Element>(&self, v: &Strided<T>, head: usize, from: usize, start: usize) {
        let rows = COLUMNS.min(self.tokens - start);
        for chunk in 0..self.dim.div_ceil(COLUMNS) {
            let at = head * self.head_len + (chunk * self.tokens + start) * COLUMNS;
            // SAFETY: as the caller vouches.
            let values = unsafe { self.data.part(at..at + rows * COLUMNS) };
            let width = COLUMNS.min(self.dim - chunk * COLUMNS);
            for (i, out) in values.chunks_exact_mut(COLUMNS).enumerate() {
                T::widen(&v.row(from, start + i)[chunk * COLUMNS..][..width], &mut out[..width]);
            }
        }
    }
}

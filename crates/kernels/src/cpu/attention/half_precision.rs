//! Queries, keys and values as bf16, for machines that multiply these faster than f32 ([`pairs`]). As on GPUs, the weights of
//! the values are rounded to bf16; scores and sums are f32.
#![allow(unsafe_code)]

use super::block::{Block, KEYS, Panels};
use super::inputs::Strided;
use crate::cpu::element::Element;
use crate::cpu::pairs::{self, GROUP, Out, Rows};
use crate::cpu::shared::SharedMut;
use crate::cpu::tile::COLUMNS;
use crate::level::vectorised;
use half::bf16;
use rayon::prelude::*;

/// Keys and values of some heads.
pub struct HalfPrecision {
    /// `[heads, S / 32, D / GROUP, 32, GROUP]`; elements past the last are zero.
    keys: Vec<bf16>,
    values: ValuePairs,
    tokens: usize,
    dim: usize,
    /// The scale of the scores, which is not applied to the queries, so that they are rounded only once.
    scale: f32,
}

/// Values of some heads, `[heads, D / 32, S / GROUP, 32, GROUP]`; elements past the last are zero.
pub struct ValuePairs {
    data: Vec<bf16>,
    tokens: usize,
    dim: usize,
}

impl ValuePairs {
    pub fn new(tokens: usize, dim: usize) -> Self {
        Self { data: Vec::new(), tokens, dim }
    }

    /// Elements of one head.
    pub fn head_len(&self) -> usize {
        self.tokens.next_multiple_of(GROUP) * self.dim.next_multiple_of(COLUMNS)
    }

    /// Makes room for so many heads.
    pub fn resize(&mut self, heads: usize) {
        self.data.resize(heads * self.head_len(), bf16::ZERO);
    }

    /// Returns a writer, with which several tasks [`pack`](Writer::pack) the values.
    pub fn writer(&mut self) -> Writer<'_> {
        let head_len = self.head_len();
        Writer { tokens: self.tokens, dim: self.dim, head_len, data: SharedMut::new(&mut self.data) }
    }

    /// `values [m, D] = weights [m, KEYS] · v` for a block of keys; see [`Panels::gather`].
    ///
    /// # Safety
    /// The instructions of [`pairs`] are available.
    pub unsafe fn gather(&self, block: Block, weights: &[[bf16; KEYS]], values: &mut [f32]) {
        let (width, tokens) = (self.dim.next_multiple_of(COLUMNS), self.tokens.next_multiple_of(GROUP));
        let v = &self.data[block.head * self.head_len()..][..self.head_len()];
        for column in (0..width).step_by(COLUMNS) {
            let at = |start: usize| column * tokens + start * COLUMNS;
            let next = block.next.map(|start| v.as_ptr().wrapping_add(at(start)));
            let panel = &v[at(block.start)..][..block.len.next_multiple_of(GROUP) * COLUMNS];
            let rows = Rows { data: weights.as_flattened(), row: KEYS, count: weights.len() };
            let mut out = Out { data: &mut values[column..], row: width, scale: 1.0, accumulate: !block.first };
            // SAFETY: as the caller vouches.
            unsafe { pairs::multiply_tile(rows, panel, next, &mut out) };
        }
    }
}

/// See [`ValuePairs::writer`].
pub struct Writer<'a> {
    data: SharedMut<'a, bf16>,
    tokens: usize,
    dim: usize,
    head_len: usize,
}

impl Writer<'_> {
    /// Packs up to 32 values from token `start`, a multiple of 32, of head `from` of `v`; `head` is its place here.
    ///
    /// # Safety
    /// Nobody else packs these values.
    pub unsafe fn pack<T: Element>(&self, v: &Strided<T>, head: usize, from: usize, start: usize) {
        let (count, tokens) = (COLUMNS.min(self.tokens - start), self.tokens.next_multiple_of(GROUP));
        let mut row = [bf16::ZERO; COLUMNS];
        for chunk in 0..self.dim.div_ceil(COLUMNS) {
            let at = head * self.head_len + (chunk * tokens + start) * COLUMNS;
            // SAFETY: as the caller vouches.
            let values = unsafe { self.data.part(at..at + count.next_multiple_of(GROUP) * COLUMNS) };
            let width = COLUMNS.min(self.dim - chunk * COLUMNS);
            for token in 0..count {
                T::to_bf16(&v.row(from, start + token)[chunk * COLUMNS..][..width], &mut row[..width]);
                let out = values[token / GROUP * GROUP * COLUMNS + token % GROUP..].iter_mut().step_by(GROUP);
                out.zip(&row[..width]).for_each(|(out, &x)| *out = x);
            }
        }
    }
}

/// A task's queries, and its weights of a block of values.
#[derive(Default)]
pub struct Scratch {
    /// `[m, D]`, `D` in whole groups.
    q: Vec<bf16>,
    /// `[m, KEYS]`.
    weights: Vec<[bf16; KEYS]>,
}

impl HalfPrecision {
    pub fn new(tokens: usize, dim: usize, scale: f32) -> Self {
        Self { keys: Vec::new(), values: ValuePairs::new(tokens, dim), tokens, dim, scale }
    }

    /// `D` in whole groups.
    fn depth(&self) -> usize {
        self.dim.next_multiple_of(GROUP)
    }

    fn keys_len(&self) -> usize {
        self.tokens.next_multiple_of(COLUMNS) * self.depth()
    }
}

impl Panels for HalfPrecision {
    type Scratch = Scratch;

    fn head_bytes(&self) -> usize {
        size_of::<bf16>() * (self.keys_len() + self.values.head_len())
    }

    fn fill<T: Element>(&mut self, k: &Strided<T>, v: &Strided<T>, first: usize, count: usize) {
        let (tokens, dim, depth) = (self.tokens, self.dim, self.depth());
        let panels = tokens.div_ceil(COLUMNS);
        self.keys.resize(count * self.keys_len(), bf16::ZERO);
        self.values.resize(count);
        let values = self.values.writer();
        let keys = self.keys.par_chunks_mut((COLUMNS * depth).max(1)).enumerate();
        keys.for_each_init(Vec::new, |row, (task, keys)| {
            let (head, start) = (task / panels, task % panels * COLUMNS);
            row.resize(dim, bf16::ZERO);
            vectorised(
                #[inline(always)]
                || {
                    for column in 0..COLUMNS.min(tokens - start) {
                        T::to_bf16(k.row(first + head, start + column), row);
                        for (group, out) in row.chunks(GROUP).zip(keys.chunks_exact_mut(GROUP * COLUMNS)) {
                            out[GROUP * column..][..group.len()].copy_from_slice(group);
                        }
                    }
                },
            );
            // SAFETY: every task has values of its own.
            unsafe { values.pack(v, head, first + head, start) };
        });
    }

    fn prepare(&self, q: &[f32], scratch: &mut Scratch) {
        let (dim, depth) = (self.dim.max(1), self.depth().max(1));
        scratch.q.resize(q.len() / dim * depth, bf16::ZERO);
        scratch.weights.resize(q.len() / dim, [bf16::ZERO; KEYS]);
        vectorised(
            #[inline(always)]
            || {
                for (q, out) in q.chunks_exact(dim).zip(scratch.q.chunks_exact_mut(depth)) {
                    f32::to_bf16(q, &mut out[..dim]);
                }
            },
        );
    }

    fn score(&self, block: Block, _: &[f32], scratch: &Scratch, scores: &mut [[f32; KEYS]]) {
        let depth = self.depth();
        let keys = &self.keys[block.head * self.keys_len() + block.start * depth..];
        for column in (0..block.len).step_by(COLUMNS) {
            let panel = &keys[column * depth..][..COLUMNS * depth];
            let next = block.next.map(|start| panel.as_ptr().wrapping_add((start - block.start) * depth));
            let rows = Rows { data: &scratch.q, row: depth, count: scores.len() };
            let data = &mut scores.as_flattened_mut()[column..];
            let mut out = Out { data, row: KEYS, scale: self.scale, accumulate: false };
            // SAFETY: this is made where the instructions are available only.
            unsafe { pairs::multiply_tile(rows, panel, next, &mut out) };
        }
    }

    fn gather(&self, block: Block, weights: &[[f32; KEYS]], scratch: &mut Scratch, values: &mut [f32]) {
        // SAFETY: this is made where the instructions are available only.
        unsafe {
            pairs::to_bf16(weights.as_flattened(), scratch.weights.as_flattened_mut());
            self.values.gather(block, &scratch.weights, values);
        }
    }
}

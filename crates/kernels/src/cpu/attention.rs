//! [`attention`]: blocks of queries over blocks of keys with a running softmax
//! (<https://arxiv.org/abs/2205.14135>), so that the scores of a clip are never held at once.
//!
//! Keys and values of some heads at a time are packed into panels of 32 columns, which all queries of the head use.
#![allow(unsafe_code)]

mod inputs;
mod packed;
mod softmax;

use super::element::Element;
use super::shared::{SharedMut, zeroed};
use super::tile::{COLUMNS, Out, Panel, Rows, multiply_tile};
use super::{Operand, by_dtype, to_f32};
use crate::level::{Level, arch, vectorised};
use candle_core::{Device, Result, Tensor};
use inputs::{Bias, Strided, whole_heads};
use packed::Packed;
use rayon::prelude::*;
use softmax::{Exponentiate, Running};
use std::mem::MaybeUninit;

/// Queries that one task takes: whole tiles of AVX-512 (14 rows) and of AVX2 (6).
const QUERIES: usize = 126;
/// Keys whose scores are held at a time: with the queries and their values they fit the second cache, and a panel of
/// the keys' values fits the first.
const KEYS: usize = 128;
/// Part of a head's dim that is summed at a time, so that a panel of keys fits the first cache.
const DEPTH: usize = 128;
/// Elements of keys and values that are packed at a time, in whole heads: 32 MiB.
const PACKED: usize = 1 << 23;

/// See [`crate::attention`]; shapes are checked there.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    by_dtype!(q.dtype(), typed(q, k, v, scale as f32, bias))
}

fn typed<T: Element>(q: &Tensor, k: &Tensor, v: &Tensor, scale: f32, bias: Option<&Tensor>) -> Result<Tensor> {
    let (batch, queries, heads, dim) = q.dims4()?;
    let (q, k, v, bias) = (whole_heads(q)?, whole_heads(k)?, whole_heads(v)?, bias.map(to_f32).transpose()?);
    let (q_data, k_data, v_data) = (Operand::strided(&q), Operand::strided(&k), Operand::strided(&v));
    let bias_data = bias.as_ref().map(Operand::new).transpose()?;
    let bias = bias.as_ref().zip(bias_data.as_ref());
    let len = batch * queries * heads * dim;
    let mut out: Vec<T> = Vec::with_capacity(len);
    let shared = SharedMut::new(&mut out.spare_capacity_mut()[..len]);
    let problem = Problem {
        q: Strided::new(&q, &q_data)?,
        bias: bias.map(|(bias, data)| Bias::new(bias, data)).transpose()?,
        scale: scale * std::f32::consts::LOG2_E,
        out: &shared,
        level: Level::current(),
    };
    let (k, v) = (Strided::<T>::new(&k, &k_data)?, Strided::<T>::new(&v, &v_data)?);
    let blocks = queries.div_ceil(QUERIES);
    let mut packed = Packed::new(k.tokens, dim);
    let group = PACKED / packed.head_len().max(1);
    for first in (0..batch * heads).step_by(group.max(1)) {
        let count = group.clamp(1, batch * heads - first);
        packed.fill(&k, &v, first, count);
        (0..count * blocks).into_par_iter().for_each_init(Scratch::default, |scratch, task| {
            let head = task / blocks;
            let (keys, values) = (packed.keys(head), packed.values(head));
            problem.block(keys, values, k.tokens, first + head, task % blocks * QUERIES, scratch);
        });
    }
    // SAFETY: the blocks cover every element.
    unsafe { out.set_len(len) };
    Tensor::from_vec(out, (batch, queries, heads, dim), &Device::Cpu)
}

struct Problem<'a, T> {
    q: Strided<'a, T>,
    bias: Option<Bias<'a>>,
    scale: f32,
    out: &'a SharedMut<'a, MaybeUninit<T>>,
    level: Level,
}

/// What one task holds of its `m` queries.
#[derive(Default)]
struct Scratch {
    /// `[m, D]`, scaled, so that scores are in units of ln 2.
    q: Vec<f32>,
    /// `[m, KEYS]`: scores, then their exponentials.
    scores: Vec<[f32; KEYS]>,
    /// `[m, D]`, `D` rounded up to whole panels: the sum of values so far.
    values: Vec<f32>,
    running: Running,
}

impl<T: Element> Problem<'_, T> {
    /// Attends from the queries `first..` of one head, counted over clips, and writes their part of the output.
    fn block(&self, k: &[f32], v: &[f32], keys: usize, head: usize, first: usize, scratch: &mut Scratch) {
        let count = QUERIES.min(self.q.tokens - first);
        vectorised(
            #[inline(always)]
            || self.load(head, first, count, scratch),
        );
        for start in (0..keys).step_by(KEYS) {
            let len = KEYS.min(keys - start);
            self.score(&k[start * self.q.dim..], len, scratch);
            arch().dispatch(Exponentiate {
                running: &mut scratch.running,
                scores: &mut scratch.scores,
                keys: len,
                values: &mut scratch.values,
                width: self.q.dim.next_multiple_of(COLUMNS),
                bias: |query| self.bias_row(head, first + query).map(|row| &row[start..start + len]),
            });
            self.gather(&v[start * COLUMNS..], keys, start, len, scratch);
        }
        vectorised(
            #[inline(always)]
            || self.store(head, first, scratch),
        );
    }

    #[inline(always)]
    fn load(&self, head: usize, first: usize, count: usize, scratch: &mut Scratch) {
        let dim = self.q.dim;
        scratch.q.resize(count * dim, 0.0);
        scratch.scores.resize(count, [0.0; KEYS]);
        scratch.values.resize(count * dim.next_multiple_of(COLUMNS), 0.0);
        scratch.running.reset(count);
        for (query, out) in scratch.q.chunks_exact_mut(dim.max(1)).enumerate() {
            T::widen(self.q.row(head, first + query), out);
            for q in out {
                *q *= self.scale;
            }
        }
    }

    /// `scratch.scores = q · kᵀ` for the `len` keys at the start of `k`.
    fn score(&self, k: &[f32], len: usize, scratch: &mut Scratch) {
        let (dim, count) = (self.q.dim, scratch.scores.len());
        for column in (0..len).step_by(COLUMNS) {
            for depth in (0..dim).step_by(DEPTH) {
                let size = [count, COLUMNS.min(len - column), DEPTH.min(dim - depth)];
                let rows = Rows { data: scratch.q[depth..].as_ptr(), row: dim, step: 1 };
                let panel = Panel { data: k[column * dim + depth * COLUMNS..].as_ptr(), row: COLUMNS };
                let out = scratch.scores.as_flattened_mut()[column..].as_mut_ptr();
                let out = Out { data: out, row: KEYS, accumulate: depth > 0 };
                // SAFETY: `[m, D]`, a panel of D rows and `[m, KEYS]` hold what is read and written.
                unsafe { multiply_tile(self.level, size, rows, panel, out) };
            }
        }
    }

    fn bias_row(&self, head: usize, query: usize) -> Option<&[f32]> {
        self.bias.as_ref().map(|bias| bias.row(head / self.q.heads, head % self.q.heads, query))
    }

    /// `scratch.values += scores · v` for the `len` values from `start`, at the start of every panel of `v`.
    fn gather(&self, v: &[f32], keys: usize, start: usize, len: usize, scratch: &mut Scratch) {
        let (width, count) = (self.q.dim.next_multiple_of(COLUMNS), scratch.scores.len());
        for column in (0..width).step_by(COLUMNS) {
            let rows = Rows { data: scratch.scores.as_flattened().as_ptr(), row: KEYS, step: 1 };
            let panel = Panel { data: v[column * keys..].as_ptr(), row: COLUMNS };
            let out = Out { data: scratch.values[column..].as_mut_ptr(), row: width, accumulate: start > 0 };
            // SAFETY: `[m, KEYS]`, panels of as many rows as keys, and `[m, width]` hold what is read and written.
            unsafe { multiply_tile(self.level, [count, COLUMNS, len], rows, panel, out) };
        }
    }

    #[inline(always)]
    fn store(&self, head: usize, first: usize, scratch: &mut Scratch) {
        let Strided { tokens, heads, dim, .. } = self.q;
        let width = dim.next_multiple_of(COLUMNS);
        for (query, values) in scratch.values.chunks_exact_mut(width.max(1)).enumerate() {
            let scale = scratch.running.scale(query);
            for value in values.iter_mut() {
                *value *= scale;
            }
            let at = ((head / heads * tokens + first + query) * heads + head % heads) * dim;
            // SAFETY: every head of every query is a part of its own.
            T::narrow(&values[..dim], zeroed(unsafe { self.out.part(at..at + dim) }));
        }
    }
}

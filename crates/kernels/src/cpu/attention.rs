//! [`attention`]: blocks of queries over blocks of keys with a running softmax
//! (<https://arxiv.org/abs/2205.14135>), so that the scores of a clip are never held at once.
#![allow(unsafe_code)]

use super::gemm::{Matrix, MatrixMut, Parallelism, multiply_add};
use super::shared::SharedMut;
use super::{Operand, from_f32, math, to_f32};
use crate::level::arch;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// Queries that one task takes.
const QUERIES: usize = 128;
/// Keys whose scores are held at a time.
const KEYS: usize = 256;

/// See [`crate::attention`]; shapes are checked there.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    let dtype = q.dtype();
    let (batch, queries, heads, dim) = q.dims4()?;
    let keys = k.dim(1)?;
    let (q, k, v, bias) = (to_f32(q)?, to_f32(k)?, to_f32(v)?, bias.map(to_f32).transpose()?);
    let (q_data, k_data, v_data) = (Operand::new(&q)?, Operand::new(&k)?, Operand::new(&v)?);
    let bias_data = bias.as_ref().map(Operand::new).transpose()?;
    let problem = Problem {
        q: q_data.slice()?,
        k: k_data.slice()?,
        v: v_data.slice()?,
        bias: bias_data.as_ref().map(Operand::slice).transpose()?,
        scale: scale as f32,
        queries,
        keys,
        heads,
        dim,
    };
    let mut out = vec![0f32; q.elem_count()];
    let shared = SharedMut::new(&mut out);
    let blocks = queries.div_ceil(QUERIES);
    (0..batch * heads * blocks).into_par_iter().for_each_init(Scratch::default, |scratch, task| {
        let (item, head) = (task / blocks / heads, task / blocks % heads);
        problem.block(item, head, task % blocks * QUERIES, &shared, scratch);
    });
    from_f32(&Tensor::from_vec(out, (batch, queries, heads, dim), &Device::Cpu)?, dtype)
}

struct Problem<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    bias: Option<&'a [f32]>,
    scale: f32,
    queries: usize,
    keys: usize,
    heads: usize,
    dim: usize,
}

/// What one task holds. Queries run fastest everywhere, so that the softmax works on vectors of queries.
#[derive(Default)]
struct Scratch {
    /// `[D, L]`, scaled.
    q: Vec<f32>,
    /// `[S, L]`: scores, then their exponentials.
    scores: Vec<f32>,
    /// `[D, L]`: the sum of values so far.
    values: Vec<f32>,
    /// `[L]`: largest score so far.
    max: Vec<f32>,
    /// `[L]`: sum of exponentials so far.
    sum: Vec<f32>,
    /// `[L]`: what the new largest score makes of what was summed before it; then the new exponentials' sum.
    block: Vec<f32>,
}

impl Problem<'_> {
    /// Attends from the queries `first..` of one item's head and writes their part of `out`.
    fn block(&self, item: usize, head: usize, first: usize, out: &SharedMut<f32>, scratch: &mut Scratch) {
        let (count, arch) = (QUERIES.min(self.queries - first), arch());
        let offset = |query: usize| ((item * self.queries + first + query) * self.heads + head) * self.dim;
        scratch.reset(count, self.dim);
        for query in 0..count {
            let q = &self.q[offset(query)..offset(query) + self.dim];
            scratch.q.iter_mut().skip(query).step_by(count).zip(q).for_each(|(out, q)| *out = q * self.scale);
        }
        for key in (0..self.keys).step_by(KEYS) {
            let keys = key..self.keys.min(key + KEYS);
            self.score(item, head, keys.clone(), count, scratch);
            self.add_bias(item, head, first, keys.clone(), count, &mut scratch.scores);
            arch.dispatch(
                #[inline(always)]
                || scratch.exponentiate(count),
            );
            self.gather(item, head, keys, count, scratch);
        }
        for query in 0..count {
            // SAFETY: every (item, head, query) is a part of its own.
            let out = unsafe { out.part(offset(query)..offset(query) + self.dim) };
            let scale = 1.0 / scratch.sum[query];
            let values = scratch.values.iter().skip(query).step_by(count);
            out.iter_mut().zip(values).for_each(|(out, value)| *out = value * scale);
        }
    }

    /// `scratch.scores [S, L] = k · q`, for a block of keys.
    fn score(&self, item: usize, head: usize, keys: Range<usize>, count: usize, scratch: &mut Scratch) {
        scratch.scores.clear();
        scratch.scores.resize(keys.len() * count, 0.0);
        let q = Matrix { data: &scratch.q, row: 1, column: count };
        let k = Matrix { data: &self.k[self.key(item, head, keys.start)..], row: 1, column: self.heads * self.dim };
        let scores = SharedMut::new(&mut scratch.scores);
        let scores = MatrixMut { data: &scores, offset: 0, row: 1, column: count };
        // SAFETY: the scores are this task's own.
        unsafe { multiply_add([count, keys.len(), self.dim], scores, q, k, Parallelism::None) };
    }

    fn add_bias(&self, item: usize, head: usize, first: usize, keys: Range<usize>, count: usize, scores: &mut [f32]) {
        let Some(bias) = self.bias else { return };
        for query in 0..count {
            let row = ((item * self.heads + head) * self.queries + first + query) * self.keys % bias.len();
            let bias = &bias[row + keys.start..row + keys.end];
            scores.iter_mut().skip(query).step_by(count).zip(bias).for_each(|(score, bias)| *score += bias);
        }
    }

    /// `scratch.values [D, L] += v · scores`, for a block of keys.
    fn gather(&self, item: usize, head: usize, keys: Range<usize>, count: usize, scratch: &mut Scratch) {
        let scores = Matrix { data: &scratch.scores, row: 1, column: count };
        let v = Matrix { data: &self.v[self.key(item, head, keys.start)..], row: self.heads * self.dim, column: 1 };
        let values = SharedMut::new(&mut scratch.values);
        let values = MatrixMut { data: &values, offset: 0, row: 1, column: count };
        // SAFETY: the values are this task's own.
        unsafe { multiply_add([count, self.dim, keys.len()], values, scores, v, Parallelism::None) };
    }

    /// Where a key (and its value) starts.
    fn key(&self, item: usize, head: usize, key: usize) -> usize {
        ((item * self.keys + key) * self.heads + head) * self.dim
    }
}

impl Scratch {
    fn reset(&mut self, count: usize, dim: usize) {
        let start = |buffer: &mut Vec<f32>, len, value| {
            buffer.clear();
            buffer.resize(len, value);
        };
        start(&mut self.q, dim * count, 0.0);
        start(&mut self.values, dim * count, 0.0);
        // Not -∞, whose difference from a score of -∞ is not a number.
        start(&mut self.max, count, f32::MIN);
        start(&mut self.sum, count, 0.0);
        start(&mut self.block, count, 0.0);
    }

    /// Turns the scores of a block of keys into exponentials and rescales what was summed before it.
    #[inline(always)]
    fn exponentiate(&mut self, count: usize) {
        self.block.copy_from_slice(&self.max);
        for scores in self.scores.chunks_exact(count) {
            for (max, &score) in self.max.iter_mut().zip(scores) {
                *max = if score > *max { score } else { *max };
            }
        }
        for (scale, &max) in self.block.iter_mut().zip(&self.max) {
            *scale = math::exp(*scale - max);
        }
        for values in self.values.chunks_exact_mut(count) {
            values.iter_mut().zip(&self.block).for_each(|(value, scale)| *value *= scale);
        }
        self.sum.iter_mut().zip(&self.block).for_each(|(sum, scale)| *sum *= scale);
        self.block.fill(0.0);
        for scores in self.scores.chunks_exact_mut(count) {
            for ((score, &max), sum) in scores.iter_mut().zip(&self.max).zip(&mut self.block) {
                *score = math::exp(*score - max);
                *sum += *score;
            }
        }
        self.sum.iter_mut().zip(&self.block).for_each(|(sum, block)| *sum += block);
    }
}

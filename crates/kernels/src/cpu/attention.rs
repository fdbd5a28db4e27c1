//! [`attention`]: blocks of queries over blocks of keys with a running softmax
//! (<https://arxiv.org/abs/2205.14135>), so that the scores of a clip are never held at once.
//!
//! Keys and values of some heads at a time are packed into panels of 32 columns, which all queries of the head use.
#![allow(unsafe_code)]

mod block;
mod exact;
mod half_precision;
mod inputs;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod quantised;
mod shares;
mod softmax;
mod wide_values;

use super::element::Element;
use super::shared::{SharedMut, zeroed};
use super::tasks::in_order;
use super::tile::COLUMNS;
use super::{Operand, by_dtype, multiplies_bf16, to_f32};
use crate::BlockMask;
use crate::level::{arch, vectorised};
use block::{Block, KEYS, Panels};
use candle_core::{Device, Result, Tensor};
use exact::Exact;
use half::bf16;
use half_precision::HalfPrecision;
use inputs::{Bias, Strided, whole_heads};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use quantised::Quantised;
pub use shares::{PART, PARTS, block_shares, part_len};
use softmax::{Exponentiate, Running};
use std::f32::consts::LOG2_E;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Queries that one task takes, if all keys are visited: whole tiles of AVX-512 (14 rows) and of AVX2 (6). With a mask it
/// takes one of its blocks.
const QUERIES: usize = 126;
/// Bytes of keys and values that are packed at a time, in whole heads.
const PACKED: usize = 32 << 20;

/// See [`crate::attention`] and [`crate::attention_relative`]; shapes are checked there.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f64,
    relative: Option<&Tensor>,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    wide([q, k, v], scale, Scored { biases: [relative, bias], mask: None })
}

/// See [`crate::attention_blocks`]; shapes are checked there.
pub fn attention_blocks(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, mask: &BlockMask) -> Result<Tensor> {
    wide([q, k, v], scale, Scored { biases: [None; 2], mask: Some(mask) })
}

/// See [`crate::attention_int8`]; shapes are checked there.
pub fn attention_int8(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    narrow([q, k, v], scale, Scored { biases: [None, bias], mask: None })
}

/// See [`crate::attention_int8_blocks`]; shapes are checked there.
pub fn attention_int8_blocks(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, mask: &BlockMask) -> Result<Tensor> {
    narrow([q, k, v], scale, Scored { biases: [None; 2], mask: Some(mask) })
}

/// What is added to the scores, and which of them are computed at all.
#[derive(Clone, Copy)]
struct Scored<'a> {
    /// By distance, and by place.
    biases: [Option<&'a Tensor>; 2],
    mask: Option<&'a BlockMask>,
}

/// Computes attention with products of f32, or of bf16.
fn wide([q, k, v]: [&Tensor; 3], scale: f64, scored: Scored) -> Result<Tensor> {
    let scale = scale as f32 * LOG2_E;
    if multiplies_bf16(q.dtype()) {
        let panels = HalfPrecision::new(k.dim(1)?, k.dim(3)?, scale);
        return typed::<bf16>([q, k, v], 1.0, scored, panels);
    }
    let panels = Exact::new(k.dim(1)?, k.dim(3)?);
    by_dtype!(q.dtype(), typed([q, k, v], scale, scored, panels))
}

/// Computes attention with products of bytes, if the machine has them.
fn narrow([q, k, v]: [&Tensor; 3], scale: f64, scored: Scored) -> Result<Tensor> {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if quantised::available() {
        let panels = Quantised::new(k.dim(1)?, k.dim(3)?);
        return by_dtype!(q.dtype(), typed([q, k, v], scale as f32 * LOG2_E, scored, panels));
    }
    wide([q, k, v], scale, scored)
}

/// Computes attention with elements of type `T`; queries are multiplied by `scale`.
fn typed<T: Element>([q, k, v]: [&Tensor; 3], scale: f32, scored: Scored, mut panels: impl Panels) -> Result<Tensor> {
    let (batch, queries, heads, dim) = q.dims4()?;
    let (q, k, v) = (whole_heads(q)?, whole_heads(k)?, whole_heads(v)?);
    let (q_data, k_data, v_data) = (Operand::strided(&q), Operand::strided(&k), Operand::strided(&v));
    let [relative, bias] = scored.biases;
    let (relative, bias) = (relative.map(to_f32).transpose()?, bias.map(to_f32).transpose()?);
    let relative_data = relative.as_ref().map(Operand::new).transpose()?;
    let bias_data = bias.as_ref().map(Operand::new).transpose()?;
    let bias = bias.as_ref().zip(bias_data.as_ref());
    let len = batch * queries * heads * dim;
    let mut out: Vec<T> = Vec::with_capacity(len);
    let shared = SharedMut::new(&mut out.spare_capacity_mut()[..len]);
    let (k, v) = (Strided::<T>::new(&k, &k_data)?, Strided::<T>::new(&v, &v_data)?);
    let problem = Problem {
        q: Strided::new(&q, &q_data)?,
        keys: k.tokens,
        biases: [
            relative_data.as_ref().map(|data| Bias::relative(data, queries, k.tokens)).transpose()?,
            bias.map(|(bias, data)| Bias::new(bias, data)).transpose()?,
        ],
        mask: scored.mask,
        rows: if scored.mask.is_some() { KEYS } else { QUERIES },
        scale,
        out: &shared,
    };
    let (rows, blocks) = (problem.rows, queries.div_ceil(problem.rows));
    let group = (PACKED / panels.head_bytes().max(1)).max(1);
    for first in (0..batch * heads).step_by(group) {
        let count = group.min(batch * heads - first);
        panels.fill(&k, &v, first, count);
        in_order(count * blocks, Scratch::default, |scratch, task| {
            problem.attend(&panels, first, task / blocks, task % blocks * rows, scratch);
        });
    }
    // SAFETY: the blocks cover every element.
    unsafe { out.set_len(len) };
    Tensor::from_vec(out, (batch, queries, heads, dim), &Device::Cpu)
}

struct Problem<'a, T> {
    q: Strided<'a, T>,
    keys: usize,
    biases: [Option<Bias<'a>>; 2],
    /// The blocks of keys to be visited, if not all are.
    mask: Option<&'a BlockMask>,
    /// Queries of a task.
    rows: usize,
    scale: f32,
    out: &'a SharedMut<'a, MaybeUninit<T>>,
}

/// The memory of one task, which has `m` queries.
#[derive(Default)]
struct Scratch<S> {
    /// `[m, D]`, scaled.
    q: Vec<f32>,
    /// `[m, KEYS]`: scores, then their exponentials.
    scores: Vec<[f32; KEYS]>,
    /// `[m, D]`, `D` rounded up to whole panels: the sum of values so far.
    values: Vec<f32>,
    running: Running,
    panels: S,
}

impl<T: Element> Problem<'_, T> {
    /// Computes attention for the queries `query..` of one head and writes their part of the output. `panels` holds the
    /// heads from `first`, counted over clips; `head` counts from there.
    fn attend<P: Panels>(
        &self,
        panels: &P,
        first: usize,
        head: usize,
        query: usize,
        scratch: &mut Scratch<P::Scratch>,
    ) {
        vectorised(
            #[inline(always)]
            || self.load(first + head, query, scratch),
        );
        panels.prepare(&scratch.q, &mut scratch.panels);
        let chosen = self.mask.map(|mask| mask.list(first + head, query / self.rows));
        let visits = chosen.map_or(self.keys.div_ceil(KEYS), <[u32]>::len);
        let start_of = |visit| chosen.map_or(visit, |chosen| chosen[visit] as usize) * KEYS;
        for visit in 0..visits {
            let start = start_of(visit);
            let next = (visit + 1 < visits).then(|| start_of(visit + 1));
            let block = Block { head, start, len: KEYS.min(self.keys - start), first: visit == 0, next };
            panels.score(block, &scratch.q, &scratch.panels, &mut scratch.scores);
            arch().dispatch(Exponentiate {
                running: &mut scratch.running,
                scores: &mut scratch.scores,
                keys: block.len,
                values: &mut scratch.values,
                width: self.q.dim.next_multiple_of(COLUMNS),
                biases: |row| self.bias_rows(first + head, query + row, start..start + block.len),
            });
            panels.gather(block, &scratch.scores, &mut scratch.panels, &mut scratch.values);
        }
        vectorised(
            #[inline(always)]
            || self.store(first + head, query, scratch),
        );
    }

    #[inline(always)]
    fn load<S>(&self, head: usize, first: usize, scratch: &mut Scratch<S>) {
        let (dim, count) = (self.q.dim, self.rows.min(self.q.tokens - first));
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

    fn bias_rows(&self, head: usize, query: usize, keys: Range<usize>) -> [Option<&[f32]>; 2] {
        let (clip, head) = (head / self.q.heads, head % self.q.heads);
        self.biases.each_ref().map(|bias| bias.as_ref().map(|bias| &bias.row(clip, head, query)[keys.clone()]))
    }

    #[inline(always)]
    fn store<S>(&self, head: usize, first: usize, scratch: &mut Scratch<S>) {
        let Strided { tokens, heads, dim, .. } = self.q;
        let width = dim.next_multiple_of(COLUMNS);
        for (query, values) in scratch.values.chunks_exact_mut(width.max(1)).enumerate() {
            let scale = scratch.running.scale(query);
            for value in values.iter_mut() {
                *value *= scale;
            }
            let at = ((head / heads * tokens + first + query) * heads + head % heads) * dim;
            // SAFETY: every head of every query is a part of its own.
            T::round_from(&values[..dim], zeroed(unsafe { self.out.part(at..at + dim) }));
        }
    }
}

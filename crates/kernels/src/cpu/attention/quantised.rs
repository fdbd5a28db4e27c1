//! Keys as 8-bit integers, for machines that multiply these faster than f32; values as bf16 or f32, whichever is faster.
//!
//! After `SageAttention` (<https://arxiv.org/abs/2410.02367>): the mean key is subtracted from all keys, which does
//! not change the softmax and removes most large elements; then every query and every key is quantised to 8 bits with
//! a scale of its own. Weights of bf16 values are rounded to bf16; sums are f32.

#[cfg_attr(target_arch = "aarch64", path = "quantised/neon.rs")]
#[cfg_attr(target_arch = "x86_64", path = "quantised/x86.rs")]
mod machine;

pub use machine::available;

use super::block::{Block, KEYS, Panels};
use super::half_precision::{self, ValuePairs};
use super::inputs::Strided;
use super::wide_values::{WideValues, WideWriter};
use crate::cpu::element::Element;
use crate::cpu::tile::COLUMNS;
use crate::cpu::{math, pairs};
use crate::level::vectorised;
use half::bf16;
use machine::{GROUP, OFFSET, in_pairs};
use rayon::prelude::*;

/// The largest quantised number.
const LARGEST: f32 = 127.0;

/// Keys and values of some heads.
pub struct Quantised {
    /// `[heads, S / 32, D / GROUP, 32, GROUP]`, or `[heads, S / 32, D / 2, 32, 2]` where [`in_pairs`]; elements past the last
    /// are zero.
    keys: Vec<i8>,
    /// `[heads, S / 32, 32]`: the initial sums, which allow for the offset of queries.
    starts: Vec<i32>,
    /// `[heads, S / 32, 32]`: the scale of each key.
    units: Vec<f32>,
    values: Values,
    tokens: usize,
    dim: usize,
}

/// Values of some heads, as their products are fastest.
enum Values {
    Pairs(ValuePairs),
    Wide(WideValues),
}

enum Writer<'a> {
    Pairs(half_precision::Writer<'a>),
    Wide(WideWriter<'a>),
}

impl Values {
    fn new(tokens: usize, dim: usize) -> Self {
        if pairs::available() {
            Self::Pairs(ValuePairs::new(tokens, dim))
        } else {
            Self::Wide(WideValues::new(tokens, dim))
        }
    }

    fn head_bytes(&self) -> usize {
        match self {
            Self::Pairs(values) => size_of::<bf16>() * values.head_len(),
            Self::Wide(values) => size_of::<f32>() * values.head_len(),
        }
    }

    /// Makes room for so many heads, and returns their writer.
    fn writer(&mut self, heads: usize) -> Writer<'_> {
        match self {
            Self::Pairs(values) => {
                values.resize(heads);
                Writer::Pairs(values.writer())
            }
            Self::Wide(values) => {
                values.resize(heads);
                Writer::Wide(values.writer())
            }
        }
    }
}

impl Writer<'_> {
    /// See [`WideWriter::pack`].
    ///
    /// # Safety
    /// Nobody else packs these values.
    unsafe fn pack<T: Element>(&self, v: &Strided<T>, head: usize, from: usize, start: usize) {
        // SAFETY: as the caller vouches.
        unsafe {
            match self {
                Self::Pairs(writer) => writer.pack(v, head, from, start),
                Self::Wide(writer) => writer.pack(v, head, from, start),
            }
        }
    }
}

/// A task's queries, and its weights of a block of values.
#[derive(Default)]
pub struct Scratch {
    /// `[m, D / GROUP, GROUP]`, plus the offset.
    q: Vec<u8>,
    /// The same in 16 bits, where [`in_pairs`].
    wide: Vec<u16>,
    /// `[m]`: the scale of each query.
    units: Vec<f32>,
    /// `[m, KEYS]`, where values are bf16.
    weights: Vec<[bf16; KEYS]>,
}

impl Quantised {
    pub fn new(tokens: usize, dim: usize) -> Self {
        let values = Values::new(tokens, dim);
        Self { keys: Vec::new(), starts: Vec::new(), units: Vec::new(), values, tokens, dim }
    }

    /// `D` in whole groups.
    fn depth(&self) -> usize {
        self.dim.next_multiple_of(GROUP)
    }

    /// `S` in whole panels.
    fn columns(&self) -> usize {
        self.tokens.next_multiple_of(COLUMNS)
    }

    /// The mean key of each head `[heads, D]`.
    fn means<T: Element>(&self, k: &Strided<T>, first: usize, count: usize) -> Vec<Vec<f32>> {
        let heads = (first..first + count).into_par_iter();
        let mean = |head| {
            let (mut row, mut mean) = (Vec::new(), vec![0f32; self.dim]);
            vectorised(
                #[inline(always)]
                || {
                    for token in 0..self.tokens {
                        let row = T::as_f32(k.row(head, token), &mut row);
                        mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                    }
                    for mean in &mut mean {
                        *mean /= self.tokens as f32;
                    }
                },
            );
            mean
        };
        heads.map(mean).collect()
    }
}

impl Panels for Quantised {
    type Scratch = Scratch;

    fn head_bytes(&self) -> usize {
        self.columns() * (self.depth() + size_of::<i32>() + size_of::<f32>()) + self.values.head_bytes()
    }

    fn fill<T: Element>(&mut self, k: &Strided<T>, v: &Strided<T>, first: usize, count: usize) {
        let (tokens, depth, columns, group) = (self.tokens, self.depth(), self.columns(), beside());
        self.keys.resize(count * columns * depth, 0);
        self.starts.resize(count * columns, 0);
        self.units.resize(count * columns, 0.0);
        let means = self.means(k, first, count);
        let keys = self.keys.par_chunks_mut((COLUMNS * depth).max(1));
        let scales = self.starts.par_chunks_mut(COLUMNS).zip(self.units.par_chunks_mut(COLUMNS));
        let values = self.values.writer(count);
        keys.zip(scales).enumerate().for_each_init(
            Default::default,
            |(wide, centred), (panel, (keys, (starts, units)))| {
                let (head, start) = (panel * COLUMNS / columns, panel * COLUMNS % columns);
                let tokens = start..tokens.min(start + COLUMNS);
                vectorised(
                    #[inline(always)]
                    || {
                        for (column, token) in tokens.clone().enumerate() {
                            let row = T::as_f32(k.row(first + head, token), wide);
                            centre(row, &means[head], centred);
                            units[column] = unit(centred);
                            starts[column] = -OFFSET * pack_key(centred, units[column], [column, group], keys);
                        }
                    },
                );
                // SAFETY: every task has values of its own.
                unsafe { values.pack(v, head, first + head, start) };
            },
        );
    }

    fn prepare(&self, q: &[f32], scratch: &mut Scratch) {
        let (dim, depth) = (self.dim.max(1), self.depth().max(1));
        let count = q.len() / dim;
        scratch.q.resize(count * depth, 0);
        scratch.wide.resize(if in_pairs() { count * depth } else { 0 }, 0);
        scratch.units.resize(count, 0.0);
        vectorised(
            #[inline(always)]
            || {
                let rows = q.chunks_exact(dim).zip(scratch.q.chunks_exact_mut(depth)).zip(&mut scratch.units);
                for ((q, out), out_unit) in rows {
                    *out_unit = unit(q);
                    let inverse = inverse(*out_unit);
                    out.iter_mut().zip(q).for_each(|(out, &q)| *out = (round(q * inverse) as u8) ^ OFFSET as u8);
                }
                scratch.wide.iter_mut().zip(&scratch.q).for_each(|(wide, &q)| *wide = u16::from(q));
            },
        );
    }

    fn score(&self, block: Block, _: &[f32], scratch: &Scratch, scores: &mut [[f32; KEYS]]) {
        let depth = self.depth();
        let first = block.head * self.columns() + block.start;
        for column in (0..block.len).step_by(COLUMNS) {
            let at = first + column;
            let keys = Keys {
                data: &self.keys[at * depth..][..COLUMNS * depth],
                starts: &self.starts[at..][..COLUMNS],
                units: &self.units[at..][..COLUMNS],
            };
            // SAFETY: this is made where the instructions are available only.
            unsafe {
                machine::score(
                    &scratch.q,
                    &scratch.wide,
                    &scratch.units,
                    keys,
                    &mut scores.as_flattened_mut()[column..],
                );
            };
        }
    }

    fn gather(&self, block: Block, weights: &[[f32; KEYS]], scratch: &mut Scratch, values: &mut [f32]) {
        match &self.values {
            Values::Wide(wide) => wide.gather(block, weights, values),
            // SAFETY: such values are made where the instructions are available only.
            Values::Pairs(pairs) => unsafe {
                scratch.weights.resize(weights.len(), [bf16::ZERO; KEYS]);
                pairs::to_bf16(weights.as_flattened(), scratch.weights.as_flattened_mut());
                pairs.gather(block, &scratch.weights, values);
            },
        }
    }
}

/// A panel of 32 keys.
#[derive(Clone, Copy)]
struct Keys<'a> {
    /// `[D / GROUP, 32, GROUP]`, or in pairs.
    data: &'a [i8],
    /// `[32]`: the initial sums.
    starts: &'a [i32],
    /// `[32]`: the scale of each key.
    units: &'a [f32],
}

/// `out = x - mean`.
#[inline(always)]
fn centre(x: &[f32], mean: &[f32], out: &mut Vec<f32>) {
    out.resize(x.len(), 0.0);
    for ((out, x), mean) in out.iter_mut().zip(x).zip(mean) {
        *out = x - mean;
    }
}

/// How many elements of a key lie beside each other.
fn beside() -> usize {
    if in_pairs() { 2 } else { GROUP }
}

/// Quantises one key into its column of a panel, where `group` of its elements lie beside each other, and returns the sum of the
/// quantised numbers.
#[inline(always)]
fn pack_key(x: &[f32], unit: f32, [column, group]: [usize; 2], panel: &mut [i8]) -> i32 {
    let inverse = inverse(unit);
    let mut sum = 0;
    for (x, lines) in x.chunks(group).zip(panel.chunks_exact_mut(COLUMNS * group)) {
        for (out, x) in lines[column * group..][..group].iter_mut().zip(x) {
            *out = round(x * inverse);
            sum += i32::from(*out);
        }
    }
    sum
}

/// Returns the scale at which the largest element of `x` becomes 127; NaN if an element is NaN or infinite.
#[inline(always)]
fn unit(x: &[f32]) -> f32 {
    let mut largest = [0f32; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        for (largest, x) in largest.iter_mut().zip(chunk) {
            *largest = if x.abs() > *largest { x.abs() } else { *largest };
        }
    }
    let largest = largest.iter().chain(rest).fold(0f32, |largest, x| largest.max(x.abs()));
    largest / LARGEST + 0.0 * math::sum(x, |x| x)
}

#[inline(always)]
fn inverse(unit: f32) -> f32 {
    if unit == 0.0 { 0.0 } else { 1.0 / unit }
}

/// The nearest integer of a number up to 127.
#[inline(always)]
fn round(x: f32) -> i8 {
    /// Adding it to a small number leaves that number's nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    (x + ROUND).to_bits() as i8
}

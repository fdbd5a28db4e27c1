//! The estimated share of every block of keys in the softmax of every block of queries; see [`crate::choose_blocks`].

use super::inputs::{Strided, whole_heads};
use crate::BLOCK;
use crate::cpu::element::Element;
use crate::cpu::{Operand, by_dtype, math};
use crate::level::vectorised;
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// Queries, and keys, that are estimated by their mean.
pub const PART: usize = 16;
/// Parts of a block.
pub const PARTS: usize = BLOCK / PART;
/// Parts of keys whose scores are computed at a time.
const COLUMNS: usize = 16;

/// Returns the tokens of a part, fewer or none at the end.
pub fn part_len(tokens: usize, part: usize) -> usize {
    tokens.saturating_sub(part * PART).min(PART)
}

/// `q k [B, L, N, D]` → `[B · N, blocks, blocks]`, rows of queries; each sums to 1.
pub fn block_shares(q: &Tensor, k: &Tensor, scale: f64) -> Result<Vec<f32>> {
    let (batch, tokens, heads, dim) = q.dims4()?;
    let (queries, keys) = (part_means(q)?, part_means(k)?);
    let blocks = tokens.div_ceil(BLOCK);
    let mut shares = vec![0f32; batch * heads * blocks * blocks];
    let of_head = (blocks * PARTS * dim).max(1);
    let heads = queries.chunks_exact(of_head).zip(keys.chunks_exact(of_head));
    for (shares, (queries, keys)) in shares.chunks_exact_mut((blocks * blocks).max(1)).zip(heads) {
        let panels = transposed(keys, dim);
        let rows = shares.par_chunks_mut(blocks).zip(queries.par_chunks((PARTS * dim).max(1))).enumerate();
        rows.for_each_init(Vec::new, |scores, (block, (shares, queries))| {
            vectorised(
                #[inline(always)]
                || {
                    score(queries, &panels, scale as f32, scores);
                    for (part, scores) in scores.chunks_exact_mut(panels.len() / dim.max(1)).enumerate() {
                        add_shares(&mut scores[..tokens.div_ceil(PART)], tokens, shares, block * PARTS + part);
                    }
                },
            );
        });
    }
    Ok(shares)
}

/// `x [B, L, N, D]` → the mean of every part, `[B · N, parts, D]` with zeros past the tokens, in whole blocks.
fn part_means(x: &Tensor) -> Result<Vec<f32>> {
    fn typed<T: Element>(x: &Tensor) -> Result<Vec<f32>> {
        let (batch, tokens, heads, dim) = x.dims4()?;
        let x = whole_heads(x)?;
        let data = Operand::strided(&x);
        let x = Strided::<T>::new(&x, &data)?;
        let parts = tokens.div_ceil(BLOCK) * PARTS;
        let mut means = vec![0f32; batch * heads * parts * dim];
        let tasks = means.par_chunks_mut((PARTS * dim).max(1)).enumerate();
        tasks.for_each_init(Vec::new, |row, (task, means)| {
            vectorised(
                #[inline(always)]
                || {
                    for (part, mean) in (task * PARTS..).zip(means.chunks_exact_mut(dim.max(1))) {
                        let (head, part) = (part / parts, part % parts);
                        let len = part_len(tokens, part);
                        for token in part * PART..part * PART + len {
                            let row = T::as_f32(x.row(head, token), row);
                            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x / len as f32);
                        }
                    }
                },
            );
        });
        Ok(means)
    }
    by_dtype!(x.dtype(), typed(x))
}

/// `means [parts, D]` → `[parts / COLUMNS, D, COLUMNS]`, with zeros past the parts.
fn transposed(means: &[f32], dim: usize) -> Vec<f32> {
    let parts = means.len() / dim.max(1);
    let mut panels = vec![0f32; parts.next_multiple_of(COLUMNS) * dim];
    for (part, mean) in means.chunks_exact(dim.max(1)).enumerate() {
        let panel = &mut panels[part / COLUMNS * COLUMNS * dim..][..COLUMNS * dim];
        panel.iter_mut().skip(part % COLUMNS).step_by(COLUMNS).zip(mean).for_each(|(out, x)| *out = *x);
    }
    panels
}

/// `scores [PARTS, columns] = scale · queries [PARTS, D] · keys`, the keys in panels.
#[inline(always)]
fn score(queries: &[f32], panels: &[f32], scale: f32, scores: &mut Vec<f32>) {
    let dim = queries.len() / PARTS;
    let columns = panels.len() / dim.max(1);
    scores.resize(PARTS * columns, 0.0);
    for (panel, at) in panels.chunks_exact((COLUMNS * dim).max(1)).zip((0..).step_by(COLUMNS)) {
        let mut sums = [[0f32; COLUMNS]; PARTS];
        for (element, keys) in panel.as_chunks::<COLUMNS>().0.iter().enumerate() {
            for (part, sums) in sums.iter_mut().enumerate() {
                let query = queries[part * dim + element];
                sums.iter_mut().zip(keys).for_each(|(sum, key)| *sum += query * key);
            }
        }
        for (part, sums) in sums.iter().enumerate() {
            scores[part * columns + at..][..COLUMNS].iter_mut().zip(sums).for_each(|(out, sum)| *out = scale * sum);
        }
    }
}

/// Turns the scores of one part of queries into a softmax, in which a part of keys counts as its number of keys, and adds it
/// to the shares of its block of queries.
#[inline(always)]
fn add_shares(scores: &mut [f32], tokens: usize, shares: &mut [f32], part: usize) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score = math::exp(*score - largest);
    }
    if let Some(last) = scores.last_mut() {
        *last *= part_len(tokens, tokens.div_ceil(PART) - 1) as f32 / PART as f32;
    }
    let first = part / PARTS * PARTS;
    let queries: usize = (first..first + PARTS).map(|part| part_len(tokens, part)).sum();
    let weight = part_len(tokens, part) as f32 / queries as f32 / math::sum(scores, |x| x);
    for (share, scores) in shares.iter_mut().zip(scores.chunks(PARTS)) {
        *share += weight * scores.iter().sum::<f32>();
    }
}

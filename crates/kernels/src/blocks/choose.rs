//! The choice of blocks, by what the means of queries and keys say of the softmax.
//!
//! Pooled scores as in `SpargeAttn` (<https://arxiv.org/abs/2502.18137>) and NABLA (<https://arxiv.org/abs/2507.13546>).

use super::{BLOCK, BlockMask};
use crate::cpu;
use crate::level::vectorised;
use crate::profile::{Work, timed};
use candle_core::{DType, Result, Tensor, bail};
use rayon::prelude::*;

/// How many blocks of keys a block of queries keeps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The share of the estimated softmax that the kept blocks hold, if `keep` allows it.
    pub mass: f64,
    /// The largest share of all blocks that is kept; rounded down, at least one block.
    pub keep: f64,
    /// Blocks from the first on, and up to the last, that are kept whatever their scores.
    pub always: [usize; 2],
}

impl Choice {
    /// Whether the queries of `block` keep `key`, of so many blocks, whatever its score.
    fn is_certain(&self, block: usize, key: usize, blocks: usize) -> bool {
        let [first, last] = self.always;
        key < first || key + last >= blocks || key == block
    }

    /// Returns the most blocks that are kept of so many, unless more are certain.
    fn most(&self, blocks: usize) -> usize {
        ((blocks as f64 * self.keep) as usize).max(1)
    }

    /// Whether any block may be left out where there are so many `tokens`.
    pub fn leaves_out(&self, tokens: usize) -> bool {
        let blocks = tokens.div_ceil(BLOCK);
        (0..blocks).any(|block| (0..blocks).any(|key| !self.is_certain(block, key, blocks)))
    }
}

/// Chooses blocks for the self-attention of `q k [B, L, N, D]`: per head and block of queries, those that are always kept
/// and its own; then, by falling score, others until the kept ones hold [`Choice::mass`] or are as many as
/// [`Choice::keep`] allows.
///
/// A block's part of the softmax is estimated by the exponential of its score, `scale` times the product of the mean query
/// and the mean key, times its number of keys; all in f32.
pub fn choose_blocks(q: &Tensor, k: &Tensor, scale: f64, choice: &Choice) -> Result<BlockMask> {
    let (batch, tokens, heads, dim) = q.dims4()?;
    if k.dims() != q.dims() || k.dtype() != q.dtype() || tokens == 0 {
        bail!("choice of blocks: q {:?} {:?} and k {:?} {:?} do not fit", q.dims(), q.dtype(), k.dims(), k.dtype());
    }
    timed("choose_blocks", Work::Moves, || {
        let (queries, keys) = (block_means(q)?, block_means(k)?);
        let blocks = tokens.div_ceil(BLOCK);
        let tasks = (0..batch * heads * blocks).into_par_iter();
        let lists = tasks.map_init(Scratch::default, |scratch, task| {
            let head = &keys[task / blocks * blocks * dim..][..blocks * dim];
            let query = &queries[task * dim..][..dim];
            scratch.estimate(query, head, scale as f32, tokens);
            scratch.choose(task % blocks, choice)
        });
        BlockMask::new(batch * heads, [tokens, tokens], &lists.collect::<Vec<_>>())
    })
}

/// The memory of one task.
#[derive(Default)]
struct Scratch {
    /// The estimated share of each block of keys in the softmax.
    shares: Vec<f32>,
    /// The blocks, by falling share.
    order: Vec<u32>,
}

impl Scratch {
    /// Fills the shares of a mean query `[D]` among mean keys `[blocks, D]`.
    fn estimate(&mut self, query: &[f32], keys: &[f32], scale: f32, tokens: usize) {
        let dim = query.len().max(1);
        self.shares.clear();
        vectorised(
            #[inline(always)]
            || self.shares.extend(keys.chunks_exact(dim).map(|key| scale * cpu::dot(query, key))),
        );
        let largest = self.shares.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for (share, first) in self.shares.iter_mut().zip((0..).step_by(BLOCK)) {
            *share = cpu::exp(*share - largest) * BLOCK.min(tokens - first) as f32;
        }
        let sum: f32 = self.shares.iter().sum();
        self.shares.iter_mut().for_each(|share| *share /= sum);
    }

    /// Returns the blocks that the queries of `block` keep, rising.
    fn choose(&mut self, block: usize, choice: &Choice) -> Vec<u32> {
        let Self { shares, order } = self;
        let blocks = shares.len();
        let is_certain = |key: &u32| choice.is_certain(block, *key as usize, blocks);
        let mut chosen: Vec<u32> = (0..blocks as u32).filter(is_certain).collect();
        let mut mass: f32 = chosen.iter().map(|&key| shares[key as usize]).sum();
        order.clear();
        order.extend((0..blocks as u32).filter(|key| !is_certain(key)));
        // Equal shares in the order of their places, and NaN first, so that it stays visible.
        order.sort_unstable_by(|&a, &b| shares[b as usize].total_cmp(&shares[a as usize]).then(a.cmp(&b)));
        let most = choice.most(blocks);
        for &key in order.iter() {
            if chosen.len() >= most || mass >= choice.mass as f32 {
                break;
            }
            chosen.push(key);
            mass += shares[key as usize];
        }
        chosen.sort_unstable();
        chosen
    }
}

/// `x [B, L, N, D]` → the mean of each block of tokens, `[B, N, ⌈L / BLOCK⌉, D]`, f32.
fn block_means(x: &Tensor) -> Result<Vec<f32>> {
    if cpu::supports(x) {
        return cpu::block_means(x);
    }
    let (batch, tokens, heads, dim) = x.dims4()?;
    let (whole, rest) = (tokens / BLOCK, tokens % BLOCK);
    let mut means = Vec::new();
    if whole > 0 {
        let blocks = x.narrow(1, 0, whole * BLOCK)?.reshape((batch, whole, BLOCK, heads, dim))?;
        means.push(blocks.to_dtype(DType::F32)?.mean(2)?); // [B, blocks, N, D]
    }
    if rest > 0 {
        means.push(x.narrow(1, whole * BLOCK, rest)?.to_dtype(DType::F32)?.mean_keepdim(1)?);
    }
    Tensor::cat(&means, 1)?.transpose(1, 2)?.flatten_all()?.to_vec1()
}

//! The choice of blocks, by what the means of queries and keys say of the softmax.
//!
//! Pooled scores as in `SpargeAttn` (<https://arxiv.org/abs/2502.18137>) and NABLA (<https://arxiv.org/abs/2507.13546>).

use super::{BLOCK, BlockMask};
use crate::cpu::{self, PART, PARTS, part_len};
use crate::profile::{Work, timed};
use crate::softmax::softmax;
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
        let ([first, last], blocks) = (self.always, tokens.div_ceil(BLOCK));
        // A block between the two, for the queries of another.
        first + last < blocks && blocks > 1
    }
}

/// Chooses blocks for the self-attention of `q k [B, L, N, D]`: per head and block of queries, those that are always kept
/// and its own; then, by falling share of the softmax, others until the kept ones hold [`Choice::mass`] or are as many as
/// [`Choice::keep`] allows.
///
/// Shares are estimated from the means of every 16 queries and of every 16 keys: `scale` times their product is the score,
/// the softmax over all of them counts each as its number of keys, and a block's share is the sum over its keys and the
/// mean over the queries; all in f32. Means of whole blocks would do for heads that look far, but heads that look at their
/// neighbours would lose those on the other side of the block's edge.
pub fn choose_blocks(q: &Tensor, k: &Tensor, scale: f64, choice: &Choice) -> Result<BlockMask> {
    let (batch, tokens, heads, _) = q.dims4()?;
    if k.dims() != q.dims() || k.dtype() != q.dtype() || tokens == 0 {
        bail!("choice of blocks: q {:?} {:?} and k {:?} {:?} do not fit", q.dims(), q.dtype(), k.dims(), k.dtype());
    }
    timed("choose_blocks", Work::Moves, || {
        let shares =
            if cpu::supports(q) { cpu::block_shares(q, k, scale)? } else { block_shares(q, k, scale)?.to_vec1()? };
        let blocks = tokens.div_ceil(BLOCK);
        let lists = shares.par_chunks(blocks).enumerate().map(|(at, shares)| choose(shares, at % blocks, choice));
        BlockMask::new(batch * heads, [tokens, tokens], &lists.collect::<Vec<_>>())
    })
}

/// Returns the blocks that the queries of `block` keep, rising.
fn choose(shares: &[f32], block: usize, choice: &Choice) -> Vec<u32> {
    let blocks = shares.len();
    let is_certain = |key: &u32| choice.is_certain(block, *key as usize, blocks);
    let (mut chosen, mut others): (Vec<u32>, Vec<u32>) = (0..blocks as u32).partition(is_certain);
    let mut mass: f32 = chosen.iter().map(|&key| shares[key as usize]).sum();
    // Equal shares in the order of their places, and NaN first, so that it stays visible.
    others.sort_unstable_by(|&a, &b| shares[b as usize].total_cmp(&shares[a as usize]).then(a.cmp(&b)));
    let most = choice.most(blocks);
    for key in others {
        if chosen.len() >= most || mass >= choice.mass as f32 {
            break;
        }
        chosen.push(key);
        mass += shares[key as usize];
    }
    chosen.sort_unstable();
    chosen
}

/// [`cpu::block_shares`] with candle's operations, flat; a head at a time, because its scores are as many as a 256th of all.
fn block_shares(q: &Tensor, k: &Tensor, scale: f64) -> Result<Tensor> {
    let (batch, tokens, heads, _) = q.dims4()?;
    let (queries, keys) = (part_means(q)?, part_means(k)?); // [B · N, parts, D]
    let parts = keys.dim(1)?;
    let blocks = parts / PARTS;
    let counts: Vec<f32> = (0..parts).map(|part| part_len(tokens, part) as f32).collect();
    let in_block = |part: usize| counts[part / PARTS * PARTS..][..PARTS].iter().sum::<f32>();
    let weights = (0..parts).map(|part| counts[part] / in_block(part));
    let weights = Tensor::from_iter(weights, q.device())?.unsqueeze(1)?; // [parts, 1]
    let bias = Tensor::from_iter(counts.iter().map(|count| count.ln()), q.device())?.unsqueeze(0)?;
    let shares = (0..batch * heads).map(|item| {
        let scores = queries.get(item)?.matmul(&keys.get(item)?.t()?.contiguous()?)?;
        let shares = softmax(&(scores * scale)?.broadcast_add(&bias)?)?;
        let shares = shares.broadcast_mul(&weights)?.reshape((blocks, PARTS, blocks, PARTS))?;
        shares.sum(3)?.sum(1)?.flatten_all()
    });
    Tensor::cat(&shares.collect::<Result<Vec<_>>>()?, 0)
}

/// `x [B, L, N, D]` → the mean of every part, f32 `[B · N, parts, D]` with zeros past the tokens, in whole blocks.
fn part_means(x: &Tensor) -> Result<Tensor> {
    let (batch, tokens, heads, dim) = x.dims4()?;
    let (whole, rest, parts) = (tokens / PART, tokens % PART, tokens.div_ceil(BLOCK) * PARTS);
    let mut means = Vec::new();
    if whole > 0 {
        let parts = x.narrow(1, 0, whole * PART)?.reshape((batch, whole, PART, heads, dim))?;
        means.push(parts.to_dtype(DType::F32)?.mean(2)?); // [B, whole, N, D]
    }
    if rest > 0 {
        means.push(x.narrow(1, whole * PART, rest)?.to_dtype(DType::F32)?.mean_keepdim(1)?);
    }
    let there = whole + rest.min(1);
    let means = Tensor::cat(&means, 1)?.pad_with_zeros(1, 0, parts - there)?;
    means.transpose(1, 2)?.reshape((batch * heads, parts, dim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Candle's operations, which GPUs use, compute what the CPU's own code does.
    #[test]
    fn both_ways_have_the_same_shares() {
        for tokens in [1, 16, 100, 128, 129, 300, 1000] {
            let [q, k] = [0, 1].map(|_| Tensor::randn(0f32, 1f32, (2, tokens, 3, 24), &Device::Cpu).unwrap());
            let expected = block_shares(&q, &k, 2.0).unwrap().to_vec1::<f32>().unwrap();
            let found = cpu::block_shares(&q, &k, 2.0).unwrap();
            let blocks = tokens.div_ceil(BLOCK);
            assert_eq!(found.len(), 6 * blocks * blocks);
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= 1e-5, "{tokens} tokens: {found} and {expected}");
            }
            for row in found.chunks(blocks) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() <= 1e-5);
            }
        }
    }
}

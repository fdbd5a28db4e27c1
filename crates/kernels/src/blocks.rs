//! Block-sparse attention: every block of queries visits some blocks of keys only.

mod choose;

use crate::attention::check;
use crate::profile::{Work, timed};
use crate::{cpu, cuda, on_cuda, reference};
use candle_core::{Device, Result, Tensor, bail};
pub use choose::{Choice, choose_blocks};

/// Queries, and keys, of a block.
pub const BLOCK: usize = 128;

/// The blocks of keys that each block of queries of each head attends to. The last block of a head may be shorter than
/// [`BLOCK`]. Clones are as large as the lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMask {
    /// Clips times heads.
    items: usize,
    queries: usize,
    keys: usize,
    /// `[items, query blocks]`, and the end: where the list of each begins.
    starts: Vec<u32>,
    /// The lists, one after the other, each rising.
    chosen: Vec<u32>,
}

impl BlockMask {
    /// `lists [B · N, ⌈L / BLOCK⌉]` has the blocks of keys, rising, of every block of queries of every head, for `L` queries
    /// and `S` keys.
    ///
    /// # Errors
    /// Another number of lists, a list without blocks, or with one twice, out of order or past the keys.
    pub fn new(items: usize, [queries, keys]: [usize; 2], lists: &[Vec<u32>]) -> Result<Self> {
        let expected = items * queries.div_ceil(BLOCK);
        if lists.len() != expected {
            bail!("block mask: {} lists where there are {expected} blocks of queries", lists.len());
        }
        let blocks = keys.div_ceil(BLOCK);
        let fits = |list: &Vec<u32>| {
            list.is_sorted_by(|a, b| a < b) && list.last().is_some_and(|&last| (last as usize) < blocks)
        };
        if let Some(list) = lists.iter().find(|list| !fits(list)) {
            bail!("block mask: {list:?} are not rising numbers below {blocks}, at least one");
        }
        let ends = lists.iter().scan(0, |end, list| {
            *end += list.len() as u32;
            Some(*end)
        });
        let starts = std::iter::once(0).chain(ends).collect();
        Ok(Self { items, queries, keys, starts, chosen: lists.concat() })
    }

    /// Returns the blocks of keys that a block of queries visits; `item` counts heads over clips.
    pub fn list(&self, item: usize, block: usize) -> &[u32] {
        let at = item * self.queries.div_ceil(BLOCK) + block;
        &self.chosen[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    /// Returns where the list of each block of queries begins in [`BlockMask::chosen`], and the end.
    #[cfg(feature = "cuda")]
    pub(crate) fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// Returns all lists, one after the other.
    #[cfg(feature = "cuda")]
    pub(crate) fn chosen(&self) -> &[u32] {
        &self.chosen
    }

    /// Returns the share of all pairs of blocks that is visited.
    pub fn share(&self) -> f64 {
        let all = self.items * self.queries.div_ceil(BLOCK) * self.keys.div_ceil(BLOCK);
        self.chosen.len() as f64 / all.max(1) as f64
    }

    /// Returns the bias that takes out the other keys of a block of queries, `[B, N, 1, S]` with zeros and minus infinity.
    pub(crate) fn bias(&self, heads: usize, block: usize, device: &Device) -> Result<Tensor> {
        let mut bias = vec![f32::NEG_INFINITY; self.items * self.keys];
        for (item, row) in bias.chunks_exact_mut(self.keys.max(1)).enumerate() {
            for &chosen in self.list(item, block) {
                row.chunks_mut(BLOCK).nth(chosen as usize).into_iter().for_each(|open| open.fill(0.0));
            }
        }
        Tensor::from_vec(bias, (self.items / heads.max(1), heads, 1, self.keys), device)
    }
}

/// [`crate::attention`] without the pairs that `mask` leaves out, as if they had a bias of minus infinity. Blocks of keys
/// that are left out cost nothing on CPUs, nor in 16 bits on GPUs from NVIDIA, for heads as wide as models have them; elsewhere
/// all scores are computed, a block of queries at a time.
pub fn attention_blocks(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, mask: &BlockMask) -> Result<Tensor> {
    check_mask(q, k, v, mask)?;
    let bf16 = q.device().is_cpu() && cpu::multiplies_bf16(q.dtype());
    let work = if bf16 { Work::Bf16(operations(q, k, mask)) } else { Work::F32(operations(q, k, mask)) };
    timed("attention_blocks", work, || {
        if cpu::supports(q) {
            return cpu::attention_blocks(q, k, v, scale, mask);
        }
        on_cuda!(q, cuda::attention_blocks(q, k, v, scale, mask));
        reference::attention_blocks(q, k, v, scale, mask)
    })
}

/// [`crate::attention_int8`] without the pairs that `mask` leaves out, like [`attention_blocks`].
pub fn attention_int8_blocks(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, mask: &BlockMask) -> Result<Tensor> {
    if !cpu::supports(q) {
        return attention_blocks(q, k, v, scale, mask);
    }
    check_mask(q, k, v, mask)?;
    timed("attention_int8_blocks", Work::Int8(operations(q, k, mask)), || {
        cpu::attention_int8_blocks(q, k, v, scale, mask)
    })
}

fn operations(q: &Tensor, k: &Tensor, mask: &BlockMask) -> f64 {
    crate::attention::operations(q, k) * mask.share()
}

fn check_mask(q: &Tensor, k: &Tensor, v: &Tensor, mask: &BlockMask) -> Result<()> {
    check(q, k, v, None)?;
    let (b, l, n, _) = q.dims4()?;
    let BlockMask { items, queries, keys, .. } = *mask;
    if [items, queries, keys] != [b * n, l, k.dim(1)?] {
        bail!(
            "attention: a mask of {items} heads, {queries} queries and {keys} keys does not fit q {:?}, k {:?}",
            q.dims(),
            k.dims()
        );
    }
    Ok(())
}

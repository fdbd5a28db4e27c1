//! [`Panels`]: keys and values that are packed, and used a [`Block`] of keys at a time.

use super::inputs::Strided;
use crate::BLOCK;
use crate::cpu::element::Element;

/// Keys whose scores are held at a time: with the queries and their values they fit in the L2 cache, and a panel of
/// the keys' values fits in the L1 cache. These are the blocks that a mask chooses from.
pub const KEYS: usize = BLOCK;

/// Keys and values of some heads, packed.
pub trait Panels: Sync {
    /// The memory of one task, beside its f32 queries.
    type Scratch: Default;

    /// Bytes of one head.
    fn head_bytes(&self) -> usize;

    /// Packs `count` heads from `first`.
    fn fill<T: Element>(&mut self, k: &Strided<T>, v: &Strided<T>, first: usize, count: usize);

    /// Prepares for a task's queries `[m, D]`, which are scaled already.
    fn prepare(&self, q: &[f32], scratch: &mut Self::Scratch);

    /// `scores [m, KEYS] = q [m, D] · kᵀ` for a block of keys, in units of ln 2.
    fn score(&self, block: Block, q: &[f32], scratch: &Self::Scratch, scores: &mut [[f32; KEYS]]);

    /// `values [m, D] = weights [m, KEYS] · v` for a block of keys, added to the sum of earlier blocks. Rows
    /// of the values are rounded up to whole panels; weights past the keys are zero up to a multiple of the vectors' length.
    fn gather(&self, block: Block, weights: &[[f32; KEYS]], scratch: &mut Self::Scratch, values: &mut [f32]);
}

/// `len` keys from `start`, of one of the heads last packed.
#[derive(Clone, Copy)]
pub struct Block {
    pub head: usize,
    pub start: usize,
    pub len: usize,
    /// Whether no other block of keys was visited before, so that there is no sum yet.
    pub first: bool,
    /// Where the block that is visited next starts.
    pub next: Option<usize>,
}

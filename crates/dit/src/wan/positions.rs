//! [`Positions`]: the angles of a clip's tokens, and the order in which they go through the blocks.

use super::rope::Rope;
use crate::bricks::Bricks;
use crate::{Result, Sparse};
use candle_core::{Device, Tensor};

/// The values that follow from the size of a clip alone.
pub(super) struct Positions {
    pub(super) rope: Rope,
    /// Frames, rows and columns of tokens.
    grid: [usize; 3],
    /// The order of the tokens for sparse attention; without, it is that of frames, rows, columns.
    bricks: Option<Bricks>,
    /// The reference frames that the order is for.
    references: Option<usize>,
}

impl Positions {
    pub(super) fn new(head_dim: usize, grid: [usize; 3], sparse: Option<Sparse>, device: &Device) -> Result<Self> {
        let rope = Rope::new(head_dim, grid, device)?;
        let bricks = sparse.map(|sparse| Bricks::new(grid, sparse, device)).transpose()?;
        let rope = match &bricks {
            Some(bricks) => rope.map(|table| bricks.arranged(table, 0))?,
            None => rope,
        };
        Ok(Self { rope, grid, bricks, references: sparse.map(|sparse| sparse.references) })
    }

    /// Whether these are the positions of such a clip.
    pub(super) fn fit(&self, grid: [usize; 3], sparse: Option<Sparse>) -> bool {
        self.grid == grid && self.references == sparse.map(|sparse| sparse.references)
    }

    /// `x [B, L, ..]` in the order of the blocks, from that of frames, rows, columns.
    pub(super) fn arranged(&self, x: &Tensor) -> Result<Tensor> {
        self.bricks.as_ref().map_or_else(|| Ok(x.clone()), |bricks| bricks.arranged(x, 1))
    }

    /// The inverse of [`Positions::arranged`].
    pub(super) fn restored(&self, x: &Tensor) -> Result<Tensor> {
        self.bricks.as_ref().map_or_else(|| Ok(x.clone()), |bricks| bricks.restored(x, 1))
    }
}

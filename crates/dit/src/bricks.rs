//! [`Bricks`]: the order of a clip's tokens in which every block of neighbours is compact; [`Sparse`]: self-attention that
//! visits some of these blocks only. Families that have tokens in frames, rows and columns share them.

use crate::Result;
use candle_core::{Device, Tensor};
use kinora_kernels::{BLOCK, Choice};
use std::ops::Range;

/// The share of the estimated softmax that the kept blocks hold.
const MASS: f64 = 0.99;
/// Frames and rows of a strip, at most.
const FRAMES: usize = 4;
const ROWS: usize = 4;
/// Rows of a strip of a single frame, at most.
const FLAT_ROWS: usize = 8;
/// Columns of a step along a strip, at most.
const COLUMNS: usize = 4;

/// Block-sparse self-attention: every head attends, from each block of [`BLOCK`] tokens, to the fewest blocks that hold 99 %
/// of the estimated softmax, at most to a share `keep` of all. Blocks of the first and the last frame, and the block itself, are
/// always among them; the first transformer block attends to everything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sparse {
    /// The largest share of blocks that is kept, between 0 and 1; rounded down, and exceeded by what is always kept.
    pub keep: f64,
    /// Frames of reference pictures before the clip's own, which are always kept too.
    pub references: usize,
    /// Whether this pass attends to everything. Its tokens have the order of the other passes, so that what a step cache
    /// takes over fits.
    pub dense: bool,
}

impl Sparse {
    /// Whether any block is left out in a clip of `grid` frames, rows and columns of tokens; the frames count references too.
    pub fn leaves_out(&self, grid: [usize; 3]) -> bool {
        self.choice(grid).leaves_out(grid.iter().product())
    }

    /// Returns how blocks are chosen among those of [`Bricks`].
    pub fn choice(&self, grid @ [_, rows, columns]: [usize; 3]) -> Choice {
        let (tokens, frame) = (grid.iter().product::<usize>(), rows * columns);
        let first = (self.leading() * frame).div_ceil(BLOCK);
        let last = tokens.div_ceil(BLOCK) - tokens.saturating_sub(frame) / BLOCK;
        Choice { mass: MASS, keep: self.keep, always: [first, last] }
    }

    /// Frames at the start that are always kept.
    fn leading(&self) -> usize {
        self.references + 1
    }
}

/// The order of a clip's tokens, brick after brick.
///
/// A clip is cut into slabs of frames, slabs into strips of rows. A strip is walked along its columns, four at a time, and the next one back,
/// so that any [`BLOCK`] tokens in a row are a brick of about 4×4×8 tokens, or the ends of two neighbours, whatever the size
/// of the clip. The first frames and the last are slabs of their own, with bricks of about 1×8×16.
#[derive(Debug, Clone)]
pub struct Bricks {
    /// The place, in the order frames, rows, columns, of each token in this order; u32 `[L]`.
    places: Tensor,
    /// The inverse.
    inverse: Tensor,
}

impl Bricks {
    /// Orders the tokens of a clip of `grid` frames, rows and columns of tokens; the frames count references too.
    ///
    /// # Errors
    /// Whatever candle fails on, as in the other methods.
    pub fn new(grid: [usize; 3], sparse: Sparse, device: &Device) -> Result<Self> {
        let places = places(grid, sparse.leading());
        let mut inverse = vec![0u32; places.len()];
        for (at, &place) in (0..).zip(&places) {
            inverse[place as usize] = at;
        }
        Ok(Self { places: Tensor::new(places, device)?, inverse: Tensor::new(inverse, device)? })
    }

    /// `x [.., L, ..]`, with tokens in the order frames, rows, columns along `axis`, in the order of bricks.
    pub fn arranged(&self, x: &Tensor, axis: usize) -> Result<Tensor> {
        Ok(x.index_select(&self.places.to_device(x.device())?, axis)?)
    }

    /// The inverse of [`Bricks::arranged`].
    pub fn restored(&self, x: &Tensor, axis: usize) -> Result<Tensor> {
        Ok(x.index_select(&self.inverse, axis)?)
    }
}

/// The tokens of a clip whose first frames are `leading`, brick after brick.
fn places([frames, rows, columns]: [usize; 3], leading: usize) -> Vec<u32> {
    let leading = leading.min(frames);
    let inner = leading..frames.saturating_sub(1).max(leading);
    let flat = |frame| (frame..frame + 1, FLAT_ROWS);
    let mut slabs: Vec<_> = (0..leading).map(flat).collect();
    slabs.extend(within(&inner, FRAMES).map(|frames| (frames, ROWS)));
    slabs.extend((inner.end..frames).map(flat));
    let mut places = Vec::with_capacity(frames * rows * columns);
    let mut strips_walked = 0;
    for (slab, (slab_frames, most_rows)) in slabs.into_iter().enumerate() {
        let mut strips: Vec<_> = parts(rows, most_rows).collect();
        if slab % 2 == 1 {
            strips.reverse();
        }
        for strip in strips {
            let mut steps: Vec<_> = parts(columns, COLUMNS).collect();
            if strips_walked % 2 == 1 {
                steps.reverse();
            }
            for step in steps {
                // Each quarter of a step is a small brick of its own, by whose mean blocks are chosen.
                for few_frames in within(&slab_frames, FRAMES / 2) {
                    for few_rows in within(&strip, most_rows / 2) {
                        for frame in few_frames.clone() {
                            for row in few_rows.clone() {
                                places.extend(
                                    step.clone().map(|column| ((frame * rows + row) * columns + column) as u32),
                                );
                            }
                        }
                    }
                }
            }
            strips_walked += 1;
        }
    }
    places
}

/// `range` in parts of nearly equal lengths, none longer than `most`.
fn within(range: &Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let start = range.start;
    parts(range.len(), most).map(move |part| start + part.start..start + part.end)
}

/// `0..len` in parts of nearly equal lengths, none longer than `most`.
fn parts(len: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let count = len.div_ceil(most);
    (0..count).map(move |part| part * len / count..(part + 1) * len / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPARSE: Sparse = Sparse { keep: 0.3, references: 0, dense: false };

    fn at([_, rows, columns]: [usize; 3], place: u32) -> [usize; 3] {
        let place = place as usize;
        [place / (rows * columns), place / columns % rows, place % columns]
    }

    /// The longest of a block's extents along each axis, in tokens.
    fn extents(grid: [usize; 3], block: &[u32]) -> [usize; 3] {
        [0, 1, 2].map(|axis| {
            let along = || block.iter().map(|&place| at(grid, place)[axis]);
            along().max().unwrap() - along().min().unwrap() + 1
        })
    }

    #[test]
    fn every_token_has_one_place() {
        for grid in [[1, 1, 1], [1, 5, 7], [2, 3, 4], [5, 4, 7], [21, 30, 52], [9, 1, 40], [3, 17, 1]] {
            for leading in [1, 2, 30] {
                let mut places = places(grid, leading);
                places.sort_unstable();
                assert!(places.into_iter().eq(0..grid.iter().product::<usize>() as u32), "{grid:?}, {leading}");
            }
        }
    }

    /// Bricks of whole 4×4×8 tokens where the grid has them.
    #[test]
    fn blocks_are_bricks() {
        let grid = [18, 16, 32];
        let places = places(grid, 1);
        let blocks: Vec<_> = places.chunks(BLOCK).map(|block| extents(grid, block)).collect();
        let (flat, rest) = blocks.split_at(4);
        let (inner, last) = rest.split_at(rest.len() - 4);
        assert!(flat.iter().chain(last).all(|block| *block == [1, 8, 16]), "{blocks:?}");
        assert!(inner.iter().all(|block| *block == [4, 4, 8]), "{blocks:?}");
    }

    /// Where it has none, no block is wider than two bricks that touch.
    #[test]
    fn blocks_of_ragged_grids_are_compact() {
        for grid in [[21, 30, 52], [13, 17, 30], [11, 45, 80], [20, 9, 16]] {
            let places = places(grid, 1);
            let blocks: Vec<_> = places.chunks(BLOCK).collect();
            let inner = grid[1] * grid[2] / BLOCK + 1..blocks.len() - grid[1] * grid[2] / BLOCK - 2;
            for block in &blocks[inner] {
                let [frames, rows, columns] = extents(grid, block);
                assert!(frames <= 8 && rows <= 8 && columns <= 16, "{grid:?}: {frames}×{rows}×{columns}");
            }
        }
    }

    #[test]
    fn the_first_and_the_last_frame_are_always_kept() {
        for (grid, references) in [([21, 30, 52], 0), ([21, 30, 52], 2), ([6, 11, 13], 1), ([1, 9, 30], 0)] {
            let sparse = Sparse { references, ..SPARSE };
            let [first, last] = sparse.choice(grid).always;
            let places = places(grid, sparse.leading());
            let blocks = places.len().div_ceil(BLOCK);
            for (index, block) in places.chunks(BLOCK).enumerate() {
                let holds = |wanted: &dyn Fn(usize) -> bool| block.iter().any(|&place| wanted(at(grid, place)[0]));
                assert_eq!(index < first, holds(&|frame| frame <= references), "{grid:?}, block {index}");
                assert_eq!(index + last >= blocks, holds(&|frame| frame == grid[0] - 1), "{grid:?}, block {index}");
            }
        }
    }

    #[test]
    fn small_clips_leave_nothing_out() {
        assert!(!SPARSE.leaves_out([5, 4, 7]), "two blocks, both with a frame that is always kept");
        assert!(!SPARSE.leaves_out([2, 30, 52]), "the first and the last frame alone");
        assert!(SPARSE.leaves_out([21, 30, 52]));
    }

    #[test]
    fn tokens_come_back_to_their_places() {
        let grid = [7, 6, 10];
        let bricks = Bricks::new(grid, SPARSE, &Device::Cpu).unwrap();
        let x = Tensor::arange(0u32, 840, &Device::Cpu).unwrap().reshape((1, 420, 2)).unwrap();
        let arranged = bricks.arranged(&x, 1).unwrap();
        assert_ne!(arranged.to_vec3::<u32>().unwrap(), x.to_vec3::<u32>().unwrap());
        let restored = bricks.restored(&arranged, 1).unwrap();
        assert_eq!(restored.to_vec3::<u32>().unwrap(), x.to_vec3::<u32>().unwrap());
    }
}

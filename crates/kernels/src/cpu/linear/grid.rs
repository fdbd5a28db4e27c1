//! [`Grid`]: how a product is cut into blocks of rows and panels, one task each.

use super::super::tasks::in_order;
use super::super::tile::{self, COLUMNS};
use crate::Level;
use std::ops::Range;

/// Most panels of a block: all that its rows are multiplied with at once.
const PANELS: usize = 16;
/// Blocks for each thread that are enough to share them out evenly, over cores of any speeds.
const BLOCKS: usize = 8;
/// Bytes of rows that a cache which all cores share has room for, beside weights.
const CACHE: usize = 8 << 20;
/// Multiplications that are worth a task of their own.
const TASK: usize = 1 << 20;

/// A part of the result.
pub(super) struct Block {
    pub rows: Range<usize>,
    pub panels: Range<usize>,
}

/// The most rows of a block: with the inputs of one step, they fit in half of a core's L2 cache, which has 1 MB or more in
/// machines with AVX-512, 512 KB or more in those with AVX2.
fn most_rows(level: Level) -> usize {
    if level == Level::Avx512 { 224 } else { 162 }
}

/// All blocks of a result. No sum depends on it.
pub(super) struct Grid {
    rows: usize,
    panels: usize,
    /// Rows and panels of one block.
    step: [usize; 2],
    /// Blocks of rows that are multiplied with all panels before the next ones are.
    slab: usize,
}

impl Grid {
    /// Returns the grid for `rows` and `panels` with sums over `inputs`.
    pub fn new(rows: usize, panels: usize, inputs: usize) -> Self {
        Self::with_rows(rows, panels, inputs, most_rows(Level::current()))
    }

    /// Returns the grid with blocks of at most so many rows.
    pub fn with_rows(rows: usize, panels: usize, inputs: usize, most: usize) -> Self {
        let tile = tile::rows(Level::current());
        let height = rows.div_ceil(rows.div_ceil(most).max(1)).next_multiple_of(tile).max(tile);
        let enough = BLOCKS * rayon::current_num_threads();
        let blocks = |width: usize| rows.div_ceil(height) * panels.div_ceil(width);
        let mut width = panels.div_ceil(panels.div_ceil(PANELS).max(1)).max(1);
        while width > 1 && blocks(width) < enough && height.min(rows) * width / 2 * 32 * inputs >= TASK {
            width = width.div_ceil(2);
        }
        Self { rows, panels, step: [height, width], slab: slab([rows, height], [panels, width], inputs) }
    }

    /// Calls `f` for every block; those that share rows or panels follow one another.
    pub fn for_each(&self, f: impl Fn(Block) + Sync) {
        let [height, width] = self.step;
        let (across, along) = (self.rows.div_ceil(height), self.panels.div_ceil(width));
        in_order(
            across * along,
            || (),
            |(), task| {
                let (first, rest) = (task / (self.slab * along) * self.slab, task % (self.slab * along));
                let blocks = self.slab.min(across - first);
                let (row, panel) = ((first + rest % blocks) * height, rest / blocks * width);
                f(Block { rows: row..self.rows.min(row + height), panels: panel..self.panels.min(panel + width) });
            },
        );
    }
}

/// How many blocks of rows are worked on together: all, so that weights are read once and rows once for each block of panels;
/// or as many as fit in a shared cache, so that rows are read once and weights once for each slab. Whatever reads less from
/// main memory.
fn slab([rows, height]: [usize; 2], [panels, width]: [usize; 2], inputs: usize) -> usize {
    let bytes = |rows: usize| size_of::<f32>() * rows * inputs;
    let (across, fitting) = (rows.div_ceil(height).max(1), (CACHE / bytes(height).max(1)).max(1));
    let all = bytes(rows) * panels.div_ceil(width) + bytes(panels * COLUMNS);
    let slabs = bytes(rows) + bytes(panels * COLUMNS) * across.div_ceil(fitting);
    if bytes(rows) > CACHE && slabs < all { fitting.min(across) } else { across }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn blocks_cover_everything_once() {
        for [rows, panels, inputs] in
            [[0, 3, 5], [1, 1, 1], [1, 288, 1536], [225, 17, 100], [1280, 48, 1536], [5, 0, 9], [9999, 50, 1536]]
        {
            let seen = Mutex::new(vec![0; rows * panels]);
            Grid::new(rows, panels, inputs).for_each(|block| {
                let mut seen = seen.lock().unwrap();
                for row in block.rows {
                    block.panels.clone().for_each(|panel| seen[row * panels + panel] += 1);
                }
            });
            assert!(seen.into_inner().unwrap().iter().all(|&times| times == 1), "{rows} x {panels} x {inputs}");
        }
    }
}

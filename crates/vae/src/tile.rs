//! [`Tile`]: a part of a frame that is decoded on its own, where a whole frame does not fit in memory.

use std::ops::Range;

/// Rows and columns of a latent frame; in pixels they are larger by the spatial factor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Rows.
    pub rows: Range<usize>,
    /// Columns.
    pub columns: Range<usize>,
}

impl Tile {
    /// Returns the whole of a frame of `h × w`.
    pub fn whole(h: usize, w: usize) -> Self {
        Self { rows: 0..h, columns: 0..w }
    }

    /// Returns tiles of at most `side × side` that cover a frame of `h × w` without overlapping, row by row, in sizes as
    /// equal as possible. A side of 0 counts as 1.
    pub fn grid(h: usize, w: usize, side: usize) -> Vec<Self> {
        let columns = parts(w, side);
        let row = |rows: Range<usize>| {
            columns.iter().map(move |columns| Self { rows: rows.clone(), columns: columns.clone() })
        };
        parts(h, side).into_iter().flat_map(row).collect()
    }
}

/// Returns the largest side of tiles of a frame of `h × w` that `fits`, of those that split the longer axis evenly; the side
/// `least`, which the last of them has about, if none does.
pub(crate) fn largest_side(h: usize, w: usize, least: usize, fits: impl Fn(usize) -> bool) -> usize {
    let longest = h.max(w);
    let mut sides = (2..=longest.div_ceil(least)).map(|parts| longest.div_ceil(parts));
    sides.find(|&side| fits(side)).unwrap_or(least)
}

/// Splits `0..size` into as few parts of at most `most` as possible.
fn parts(size: usize, most: usize) -> Vec<Range<usize>> {
    let count = size.div_ceil(most.max(1));
    (0..count).map(|part| part * size / count..(part + 1) * size / count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_frame_once() {
        for (h, w, side) in [(1, 1, 1), (7, 5, 3), (6, 6, 3), (5, 9, 100), (3, 4, 0), (136, 240, 64)] {
            let mut seen = vec![0; h * w];
            for Tile { rows, columns } in Tile::grid(h, w, side) {
                assert!(rows.len().max(columns.len()) <= side.max(1), "{h}×{w} by {side}: {rows:?}, {columns:?}");
                rows.for_each(|row| columns.clone().for_each(|column| seen[row * w + column] += 1));
            }
            assert!(seen.iter().all(|count| *count == 1), "{h}×{w} by {side}: {seen:?}");
        }
    }
}

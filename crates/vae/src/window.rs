//! [`Window`]: the rows and columns of a frame that a stage of a decoder computes for a tile.

use candle_core::{Result, Tensor};
use std::ops::Range;

/// Windows begin and end where the tiles of a Winograd convolution do: a position then comes from the same sums as in the
/// whole frame, but for the last bits.
const GRAIN: usize = 4;

/// Rows and columns.
pub(crate) type Window = [Range<usize>; 2];

/// Returns the places along an axis of `size` from which convolutions that reach `reach` places to both sides compute the
/// places `needed`.
pub(crate) fn reached(needed: &Range<usize>, reach: usize, size: usize) -> Range<usize> {
    let start = needed.start.saturating_sub(reach) / GRAIN * GRAIN;
    start..(needed.end + reach).next_multiple_of(GRAIN).min(size)
}

/// Returns the number of positions in `window`.
pub(crate) fn area(window: &Window) -> usize {
    window[0].len() * window[1].len()
}

/// Returns the window `wanted` of a frame, given its window `found` as `x [B, H, W, C]`. Unless they are the same, it is a
/// copy: a view would keep all of `x` alive.
pub(crate) fn crop(x: Tensor, found: &Window, wanted: &Window) -> Result<Tensor> {
    if found == wanted {
        return Ok(x);
    }
    let [rows, columns] = wanted;
    let x = x.narrow(1, rows.start - found[0].start, rows.len())?;
    x.narrow(2, columns.start - found[1].start, columns.len())?.force_contiguous()
}

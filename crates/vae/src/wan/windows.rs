//! [`Windows`]: the part of its frame that each stage of the decoder needs to compute a tile as it is in the whole frame.
//!
//! A 3×3 convolution needs one position more on every side, and one after upsampling half of that; past the frame's edge
//! there are zeros, in a tile as in the whole frame.

use super::Config;
use crate::Tile;
use crate::window::{Window, reached};
use std::array::from_fn;
use std::ops::Range;

/// The windows of a tile.
pub(super) struct Windows {
    /// The window of every stage's input, at its resolution, lowest first.
    pub(super) stages: Vec<Window>,
    /// The window of the decoder's output, before unpatchify.
    pub(super) out: Window,
}

impl Windows {
    /// Returns the windows of `tile` of a latent frame of `size`, which contains it.
    pub(super) fn new(config: &Config, size: [usize; 2], tile: &Tile) -> Self {
        let axes = [(size[0], &tile.rows), (size[1], &tile.columns)];
        let [rows, columns] = axes.map(|(size, part)| along_axis(config, size, part));
        let mut windows: Vec<Window> = rows.into_iter().zip(columns).map(|(rows, columns)| [rows, columns]).collect();
        let out = windows.pop().unwrap_or_else(|| from_fn(|axis| 0..size[axis]));
        Self { stages: windows, out }
    }
}

/// Returns the windows along one axis: of every stage's input, lowest resolution first, then of the output.
fn along_axis(config: &Config, size: usize, part: &Range<usize>) -> Vec<Range<usize>> {
    let doublings = config.temperal_downsample.len();
    let blocks = 2 * (config.num_res_blocks + 1); // two convolutions each
    let mut needed = part.start << doublings..part.end << doublings;
    let mut spans = vec![needed.clone()];
    let mut reach = blocks + 1; // the head's convolution
    for stage in (0..=doublings).rev() {
        let size = size << stage;
        let span = reached(&needed, reach, size);
        // The input of the upsampling before this stage.
        needed = span.start.saturating_sub(1) / 2..(span.end + 1).min(size).div_ceil(2);
        spans.push(span);
        reach = blocks;
    }
    spans.reverse();
    spans
}

/// Returns `window` at twice the resolution.
pub(super) fn doubled(window: &Window) -> Window {
    from_fn(|axis| 2 * window[axis].start..2 * window[axis].end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_frame_needs_no_more_than_itself() {
        for config in [Config::wan21(), Config::wan22()] {
            let windows = Windows::new(&config, [9, 5], &Tile::whole(9, 5));
            let expected: Vec<Window> = (0..4).map(|stage| [0..9 << stage, 0..5 << stage]).collect();
            assert_eq!((windows.stages, windows.out), (expected, [0..72, 0..40]));
        }
    }

    #[test]
    fn the_halo_is_that_of_the_layers() {
        let windows = Windows::new(&Config::wan21(), [100, 100], &Tile { rows: 40..60, columns: 0..20 });
        // Seven 3×3 convolutions at full resolution, then half of what is needed, rounded to whole tiles of four, plus half
        // a pixel and six convolutions at each resolution before.
        let rows: Vec<_> = windows.stages.iter().map(|[rows, _]| rows.clone()).collect();
        assert_eq!(rows, [24..76, 64..136, 148..252, 312..488]);
        let columns: Vec<_> = windows.stages.iter().map(|[_, columns]| columns.clone()).collect();
        assert_eq!(columns, [0..36, 0..56, 0..92, 0..168]);
        assert_eq!(windows.out, [320..480, 0..160]);
    }
}

//! [`Windows`]: the part of its frame that each stage of the decoder needs to compute a tile as it is in the whole frame.
//!
//! A stage is what lies between two upsamplings, those of time alone included. Each of its 3×3 convolutions, and that of the
//! upsampling that ends it, needs one position more on every side.

use super::config::{Block, Config};
use crate::Tile;
use crate::window::{Window, reached};
use std::array::from_fn;
use std::ops::Range;

/// The windows of a tile.
pub(super) struct Windows {
    /// The window of every stage's input, at its resolution, in the order in which they run.
    pub(super) stages: Vec<Window>,
    /// The window of the decoder's output, in patches.
    pub(super) out: Window,
}

impl Windows {
    /// Returns the windows of `tile` of a latent frame of `size`, which contains it.
    pub(super) fn new(config: &Config, size: [usize; 2], tile: &Tile) -> Self {
        let stages = stages(config);
        let axes = [(size[0], &tile.rows), (size[1], &tile.columns)];
        let [rows, columns] = axes.map(|(size, part)| along_axis(&stages, size, part));
        let mut windows: Vec<Window> = rows.into_iter().zip(columns).map(|(rows, columns)| [rows, columns]).collect();
        let out = windows.pop().unwrap_or_else(|| from_fn(|axis| 0..size[axis]));
        Self { stages: windows, out }
    }
}

/// A stage's convolutions, and the factor by which the upsampling after it enlarges rows and columns.
struct Stage {
    reach: usize,
    factor: usize,
}

fn stages(config: &Config) -> Vec<Stage> {
    let mut stages = vec![Stage { reach: 1, factor: 1 }]; // the first convolution
    for block in &config.decoder_blocks {
        let Some(stage) = stages.last_mut() else { continue };
        match block {
            Block::Residual { layers } => stage.reach += 2 * layers,
            Block::Resample(resample) => {
                stage.reach += 1;
                stage.factor = resample.stride[1];
                stages.push(Stage { reach: 0, factor: 1 });
            }
        }
    }
    if let Some(stage) = stages.last_mut() {
        stage.reach += 1; // the last convolution
    }
    stages
}

/// Returns the windows along one axis: of every stage's input, in the order in which they run, then of the output.
fn along_axis(stages: &[Stage], size: usize, part: &Range<usize>) -> Vec<Range<usize>> {
    let factor: usize = stages.iter().map(|stage| stage.factor).product();
    let (mut size, mut needed) = (size * factor, part.start * factor..part.end * factor);
    let mut spans = vec![needed.clone()];
    for Stage { reach, factor } in stages.iter().rev() {
        // What the upsampling after the stage makes the next one's input of.
        needed = needed.start / factor..needed.end.div_ceil(*factor);
        size /= factor;
        needed = reached(&needed, *reach, size);
        spans.push(needed.clone());
    }
    spans.reverse();
    spans
}

/// Returns `window` at `factor` times the resolution.
pub(super) fn enlarged(window: &Window, factor: usize) -> Window {
    from_fn(|axis| factor * window[axis].start..factor * window[axis].end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_frame_needs_no_more_than_itself() {
        for (config, factors) in [(Config::ltx20(), vec![1, 2, 4, 8]), (Config::ltx23(), vec![1, 2, 4, 4, 8])] {
            let windows = Windows::new(&config, [9, 5], &Tile::whole(9, 5));
            let expected: Vec<Window> = factors.iter().map(|factor| [0..9 * factor, 0..5 * factor]).collect();
            assert_eq!((windows.stages, windows.out), (expected, [0..72, 0..40]));
        }
    }

    #[test]
    fn the_halo_is_that_of_the_layers() {
        let windows = Windows::new(&Config::ltx20(), [100, 100], &Tile { rows: 40..60, columns: 0..20 });
        // Eleven convolutions at full resolution, then half of what is needed, rounded to whole tiles of four, and eleven
        // convolutions at each resolution before; the first one, too, at the lowest.
        let rows: Vec<_> = windows.stages.iter().map(|[rows, _]| rows.clone()).collect();
        assert_eq!(rows, [16..84, 56..144, 140..260, 308..492]);
        let columns: Vec<_> = windows.stages.iter().map(|[_, columns]| columns.clone()).collect();
        assert_eq!(columns, [0..44, 0..64, 0..100, 0..172]);
        assert_eq!(windows.out, [320..480, 0..160]);
    }
}

//! [`Windows`]: the positions that each stage of a generator needs to compute some samples as they are in the whole signal.
//!
//! At the ends of the signal a window ends with it, and what lies beyond is what the layers take for it; elsewhere it has all neighbours
//! that reach what is kept, and what the layers make of its ends is left out.

use super::blocks::{Act, ResidualBlock};
use super::config::GeneratorConfig;
use std::ops::Range;

/// Taps on either side of the first convolution and of the last.
pub(super) const ENDS: usize = 3;

/// The windows of some samples.
#[derive(Debug, PartialEq)]
pub(super) struct Windows {
    /// Mel frames that are read.
    pub(super) mel: Range<usize>,
    /// Per upsampling, what is kept of its input, and of its result.
    pub(super) stages: Vec<[Range<usize>; 2]>,
    /// What is kept of the last stage's result.
    pub(super) last: Range<usize>,
    /// The samples.
    pub(super) out: Range<usize>,
}

impl Windows {
    /// Returns the windows of the samples that come from the mel frames `chunk` of so many `frames`; `reach` is that of each
    /// [`TransposedConv`](crate::conv::TransposedConv).
    pub(super) fn new(config: &GeneratorConfig, reach: &[[usize; 2]], frames: usize, chunk: &Range<usize>) -> Self {
        let factor = config.factor();
        let out = chunk.start * factor..chunk.end * factor;
        let mut length = frames * factor;
        let last = widened(&out, [ENDS + Act::reach(config.activation); 2], length);
        let blocks = config.resnet_kernel_sizes.iter().zip(&config.resnet_dilations);
        let radius = blocks.map(|(&taps, dilations)| ResidualBlock::reach(config.activation, taps, dilations)).max();
        let mut stages = Vec::with_capacity(reach.len());
        let mut kept = last.clone();
        for (&stride, &reach) in config.upsample_factors.iter().zip(reach).rev() {
            let result = widened(&kept, [radius.unwrap_or(0); 2], length);
            length /= stride;
            kept = widened(&(result.start / stride..result.end.div_ceil(stride)), reach, length);
            stages.push([kept.clone(), result]);
        }
        stages.reverse();
        Self { mel: widened(&kept, [ENDS; 2], length), stages, last, out }
    }
}

/// Returns the range and its neighbours below `length`.
fn widened(range: &Range<usize>, [before, after]: [usize; 2], length: usize) -> Range<usize> {
    range.start.saturating_sub(before)..(range.end + after).min(length)
}

#[cfg(test)]
mod tests {
    use super::super::VocoderConfig;
    use super::*;

    #[test]
    fn the_whole_signal_needs_no_more_than_itself() {
        let config = VocoderConfig::ltx23().generator;
        let windows = Windows::new(&config, &[[2, 2]; 6], 10, &(0..10));
        let lengths = [10, 50, 100, 200, 400, 800, 1600];
        let stages: Vec<_> = lengths.windows(2).map(|pair| [0..pair[0], 0..pair[1]]).collect();
        assert_eq!(windows, Windows { mel: 0..10, stages, last: 0..1600, out: 0..1600 });
    }

    #[test]
    fn the_halo_is_that_of_the_layers() {
        let config = VocoderConfig::ltx20().generator;
        let windows = Windows::new(&config, &[[2, 2]; 5], 1000, &(100..200));
        // Three samples of the last convolution, then five of eleven taps at dilations of 1, 3 and 5, and as many of dense ones.
        assert_eq!((windows.out, windows.last), (24_000..48_000, 23_997..48_003));
        assert_eq!(windows.stages[4], [11_966..24_034, 23_937..48_063]);
        assert_eq!(windows.stages[0][0].start, windows.mel.start + 3);
        assert_eq!(windows.mel, 80..220);
    }
}

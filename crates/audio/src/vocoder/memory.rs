//! The vocoder's memory beside its weights, computed from shapes alone.

use super::config::{GeneratorConfig, VocoderConfig};
use super::generator::{chunk, chunks};
use super::windows::Windows;
use crate::conv::neighbours;
use candle_core::DType;
use std::ops::Range;

/// Signals of a stage that are alive in a residual block, in its second convolution: the stage's own, the sum of the blocks before, the block's
/// input, the activation's result and the convolution's.
const ALIVE: usize = 5;

impl VocoderConfig {
    /// Returns the most bytes that so many mel frames take at a time.
    pub fn bytes(&self, mel_frames: usize) -> usize {
        let low = mel_frames * self.generator.factor() * self.generator.out_channels;
        let first = self.generator.numbers(mel_frames) + 2 * low;
        let second = self.extension.as_ref().map_or(0, |extension| {
            let frames = (mel_frames * self.generator.factor()).div_ceil(extension.hop);
            let samples = self.samples(mel_frames) * self.generator.out_channels;
            // One channel's spectrum, its squares and their roots; the generator beside the resampled waveform; the sums of both.
            let spectrum = samples + 4 * frames * extension.window;
            let generator =
                2 * frames * extension.generator.in_channels + 3 * samples + extension.generator.numbers(frames);
            low + spectrum.max(generator).max(5 * samples)
        });
        first.max(second) * DType::F32.size_in_bytes()
    }
}

impl GeneratorConfig {
    /// The numbers of the widest stage of a chunk.
    fn numbers(&self, frames: usize) -> usize {
        let kernels = self.upsample_kernel_sizes.iter().zip(&self.upsample_factors);
        let reach: Vec<_> =
            kernels.map(|(&taps, &stride)| neighbours(taps, stride, taps.saturating_sub(stride) / 2)).collect();
        let of_chunk = |part: Range<usize>| {
            let windows = Windows::new(self, &reach, frames, &part);
            let stages = windows.stages.into_iter().zip(self.channels());
            stages.map(|([_, result], channels)| ALIVE * result.len() * channels).max().unwrap_or(0)
        };
        chunks(frames, chunk(self)).map(of_chunk).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1_000_000;

    #[test]
    fn memory_grows_with_the_samples_alone() {
        let config = VocoderConfig::ltx23();
        let [five, minute, hour] = [500, 6000, 360_000].map(|frames| config.bytes(frames) / MB);
        assert!((70..130).contains(&five) && (90..220).contains(&minute), "{five} MB, {minute} MB");
        // Samples at both rates, of two channels, four bytes each.
        assert!(hour < 1000 + 60 * 60 * 2 * 4 * (16_000 + 48_000) * 6 / MB, "{hour} MB");
    }
}

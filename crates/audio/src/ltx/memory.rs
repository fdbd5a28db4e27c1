//! The autoencoder's memory beside its weights, computed from shapes alone.

use super::{CHUNK, Config};
use candle_core::DType;

/// Tensors of a residual block that are alive in one of its convolutions: the block's input, the convolution's input with zeros around it,
/// before and after the bins are padded, and what the allocator still has of the one before.
const ALIVE: usize = 4;
/// Numbers that a thread holds per channel, of inputs and of results, in Winograd's algorithm: 36 for each of 64 tiles.
const WINOGRAD: usize = 36 * 64;

impl Config {
    /// Returns the most bytes that decoding so many latents of a clip takes at a time.
    pub fn decoding_bytes(&self, latents: usize, threads: usize) -> usize {
        let frames = latents * self.factor();
        self.bytes(latents, threads) + 2 * frames * self.mel_bins * self.output_channels * DType::F32.size_in_bytes()
    }

    /// Returns the most bytes that encoding so many mel frames of a clip takes at a time.
    pub fn encoding_bytes(&self, mel_frames: usize, threads: usize) -> usize {
        let input = mel_frames * self.mel_bins * self.in_channels * DType::F32.size_in_bytes();
        self.bytes(mel_frames.div_ceil(self.factor()), threads) + 2 * input
    }

    /// The widest block of a part of the clip, and the scratch of every thread.
    fn bytes(&self, latents: usize, threads: usize) -> usize {
        let channels = self.channels();
        let stages = channels.iter().enumerate().map(|(stage, &own)| {
            let scale = self.factor() >> stage;
            let positions = latents.min(CHUNK) * scale * self.latent_bins() * scale;
            // The first block of the decoder's stage takes the channels of the one below.
            let below = channels.get(stage + 1).copied().unwrap_or(own);
            ALIVE * positions * own.max(below)
        });
        let widest = channels.iter().copied().max().unwrap_or(0);
        let scratch = threads * 2 * widest * WINOGRAD;
        (stages.max().unwrap_or(0) + scratch) * DType::F32.size_in_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_does_not_grow_with_the_clip_but_for_its_spectrogram() {
        let config = Config::ltx2();
        let [short, long] = [CHUNK, 100 * CHUNK].map(|latents| config.decoding_bytes(latents, 2));
        assert_eq!(long - short, 99 * CHUNK * 4 * 64 * 2 * 2 * 4);
        assert!(config.decoding_bytes(1, 2) < short);
        assert!(config.encoding_bytes(100 * CHUNK * 4, 2) < config.encoding_bytes(CHUNK * 4, 2) + 30_000_000);
    }
}

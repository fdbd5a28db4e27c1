//! The autoencoder's memory beside its weights, computed from shapes alone.

use super::config::{Block, Config, Resample, volume};
use super::windows::Windows;
use crate::Tile;
use crate::tile::largest_side;
use crate::window::area;
use candle_core::DType;

/// Frames that a convolution keeps.
const SEEN: usize = 2;
/// Frames that a residual block of the decoder keeps: those of two convolutions, and inputs that wait for their results.
const LOOKING_AHEAD: usize = 3 * SEEN;
/// Frames that are alive in a residual block, beside what it keeps: its input, that of the second convolution and the result.
const BLOCK: usize = 3;
/// Numbers that a thread holds per channel, of inputs and of results, in Winograd's algorithm: 36 for each of 64 tiles.
const WINOGRAD: usize = 36 * 64;
/// Latents per side below which tiles are mostly halo.
const SMALLEST_TILE: usize = 4;

/// Numbers that a stream holds at its peak.
#[derive(Default)]
struct Peak {
    /// What layers keep.
    kept: usize,
    /// Frames that wait while another goes through the later layers.
    waiting: usize,
    /// The most that a layer needs beside, with what waits then.
    widest: usize,
    /// The largest numbers of channels that a convolution takes and makes.
    channels: [usize; 2],
}

impl Peak {
    fn convolution(&mut self, inputs: usize, outputs: usize, positions: usize, beside: usize) {
        self.kept += SEEN * inputs * positions;
        self.widest = self.widest.max(self.waiting + (inputs + outputs + beside) * positions);
        self.channels = [self.channels[0].max(inputs), self.channels[1].max(outputs)];
    }

    fn residual_blocks(&mut self, count: usize, kept: usize, channels: usize, positions: usize) {
        self.kept += count * kept * channels * positions;
        self.widest = self.widest.max(self.waiting + BLOCK * channels * positions);
        self.channels = self.channels.map(|most| most.max(channels));
    }

    /// Returns the bytes, with `done`, numbers of results.
    fn bytes(&self, threads: usize, done: usize) -> usize {
        let scratch = threads * self.channels.iter().sum::<usize>() * WINOGRAD;
        (self.kept + (self.widest + done).max(2 * done) + scratch) * DType::F32.size_in_bytes()
    }
}

impl Config {
    /// Returns the most bytes that decoding holds at a time, for latents of `h × w`: what all layers keep, frames that wait
    /// while another goes through the later layers, the tensors of the widest layer, and the scratch of every thread.
    pub fn decoding_bytes(&self, h: usize, w: usize, threads: usize) -> usize {
        self.bytes_of_tile([h, w], &Tile::whole(h, w), threads)
    }

    /// Returns [`Config::decoding_bytes`] for one tile at a time, the largest of the [grid](Tile::grid) with tiles of
    /// `side`.
    pub fn tile_decoding_bytes(&self, h: usize, w: usize, side: usize, threads: usize) -> usize {
        let tiles = Tile::grid(h, w, side);
        tiles.iter().map(|tile| self.bytes_of_tile([h, w], tile, threads)).max().unwrap_or(0)
    }

    /// Returns the largest side of tiles with which decoding holds at most `bytes`, or `None` if whole frames fit; if no
    /// tile fits, the smallest sensible side.
    pub fn side_that_fits(&self, h: usize, w: usize, threads: usize, bytes: usize) -> Option<usize> {
        if self.decoding_bytes(h, w, threads) <= bytes {
            return None;
        }
        let fits = |side| self.tile_decoding_bytes(h, w, side, threads) <= bytes;
        Some(largest_side(h, w, SMALLEST_TILE, fits))
    }

    /// Returns the most bytes that encoding frames to latents of `h × w` holds at a time, beside the frames themselves.
    pub fn encoding_bytes(&self, h: usize, w: usize, threads: usize) -> usize {
        let side = self.spatial_factor() / self.patch_size;
        let (mut channels, mut positions) = (self.latent_channels, h * w * side * side);
        let mut peak = Peak::default();
        peak.convolution(self.patch_channels(), channels, positions, 0);
        for block in &self.encoder_blocks {
            match *block {
                Block::Residual { layers } => peak.residual_blocks(layers, 2 * SEEN, channels, positions),
                Block::Resample(Resample { stride, outputs, .. }) => {
                    let made = outputs / volume(stride);
                    // Both its inputs and its results wait for a whole group, which is then copied twice.
                    let group = 3 * stride[0] * channels.max(made);
                    peak.convolution(channels, made, positions, group);
                    peak.kept += (stride[0] - 1) * (channels + made) * positions;
                    (channels, positions) = (outputs, positions / (stride[1] * stride[2]));
                }
            }
        }
        peak.convolution(channels, self.latent_channels, positions, 0);
        peak.bytes(threads, 0)
    }

    fn bytes_of_tile(&self, [h, w]: [usize; 2], tile: &Tile, threads: usize) -> usize {
        let windows = Windows::new(self, [h, w], tile);
        let mut areas = windows.stages.iter().map(area);
        let (mut channels, mut positions) = (self.decoder_channels, areas.next().unwrap_or(0));
        let mut peak = Peak::default();
        peak.convolution(self.latent_channels, channels, positions, 0);
        for block in &self.decoder_blocks {
            match *block {
                Block::Residual { layers } => peak.residual_blocks(layers, LOOKING_AHEAD, channels, positions),
                Block::Resample(Resample { stride, outputs, .. }) => {
                    // The results before and after they are shuffled; or what is added to them.
                    let made = outputs * volume(stride);
                    peak.convolution(channels, made, positions, made);
                    peak.waiting += made / stride[0] * (stride[0] - 1) * positions;
                    (channels, positions) = (outputs, areas.next().unwrap_or(0));
                }
            }
        }
        peak.convolution(channels, self.patch_channels(), positions, 0);
        peak.bytes(threads, self.temporal_factor() * self.patch_channels() * area(&windows.out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: usize = 1_000_000_000;

    #[test]
    fn the_side_is_the_largest_that_fits() {
        let (config, [h, w]) = (Config::ltx23(), [34, 60]);
        assert_eq!(config.side_that_fits(h, w, 2, 100 * GB), None);
        let half = config.decoding_bytes(h, w, 2) / 2;
        let side = config.side_that_fits(h, w, 2, half).expect("half of what a whole frame takes");
        assert!(config.tile_decoding_bytes(h, w, side, 2) <= half);
        let larger = w.div_ceil(w.div_ceil(side) - 1);
        assert!(larger > side, "{side}, {larger}");
        assert!(larger == w || config.tile_decoding_bytes(h, w, larger, 2) > half, "{side}, {larger}");
        assert_eq!(config.side_that_fits(h, w, 2, 0), Some(SMALLEST_TILE));
    }
}

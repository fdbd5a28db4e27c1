//! The autoencoder's memory beside its weights, computed from shapes alone.

use super::Config;
use super::windows::Windows;
use crate::Tile;
use crate::tile::largest_side;
use crate::window::area;
use candle_core::DType;

/// Frames in the causal cache of a convolution.
const PAST: usize = 2;
/// Numbers that a thread holds per channel, of inputs and of results, in Winograd's algorithm: 36 for each of 64 tiles.
const WINOGRAD: usize = 36 * 64;
/// Frames that are alive in the second convolution of a residual block, beside its causal cache: the block's input, the
/// first convolution's result, the same after norm and `SiLU`, and the block's result.
const BLOCK: usize = 4;
/// Frames that are alive at the end of the middle's attention: its input, queries, keys and values twice (together and
/// apart), the heads' result and the block's.
const ATTENTION: usize = 9;
/// Latents per side below which tiles are mostly halo.
const SMALLEST_TILE: usize = 8;

impl Config {
    /// Returns the most bytes that decoding holds at a time, for latents of `h × w`: all causal caches, the frames that are
    /// held while another goes through the later stages, the tensors of the widest block, and the scratch of every thread.
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

    fn bytes_of_tile(&self, [h, w]: [usize; 2], tile: &Tile, threads: usize) -> usize {
        let windows = Windows::new(self, [h, w], tile);
        let dims = self.decoder_dims();
        let (first, last) = (dims[0].0, dims[dims.len() - 1].1);
        // The middle sees the whole frame.
        let mut past = (self.z_dim + 4 * first) * h * w;
        let (mut held, mut widest) = (0, ATTENTION * first * h * w);
        let mut frames = 1;
        for (stage, &(inputs, outputs)) in dims.iter().enumerate() {
            let positions = area(&windows.stages[stage]);
            past += (inputs + (2 * self.num_res_blocks + 1) * outputs) * positions;
            widest = widest.max(held + BLOCK * inputs.max(outputs) * positions);
            let Some(&doubles_frames) = self.temperal_downsample.iter().rev().nth(stage) else { continue };
            if doubles_frames {
                past += outputs * positions;
                held += outputs * positions;
                frames *= 2;
            }
            let upsampled = if self.is_residual { 2 * outputs } else { outputs / 2 }; // its shortcut too
            widest = widest.max(held + (outputs + 4 * upsampled) * positions);
            held += if self.is_residual { inputs * positions } else { 0 };
        }
        past += last * windows.stages.last().map_or(0, area);
        let done = frames * self.out_channels * area(&windows.out);
        let channels = dims.iter().map(|&(inputs, outputs)| inputs.max(outputs)).max().unwrap_or(0);
        let scratch = threads * 2 * channels * WINOGRAD;
        (PAST * past + widest + done + scratch) * DType::F32.size_in_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: usize = 1_000_000_000;

    #[test]
    fn at_full_hd_the_caches_are_most_of_it_and_tiles_save_them() {
        for (config, [h, w], whole, sixth) in
            [(Config::wan21(), [136, 240], 22..25, 4..6), (Config::wan22(), [68, 120], 19..22, 4..6)]
        {
            let found = config.decoding_bytes(h, w, 2) / GB;
            assert!(whole.contains(&found), "{found} GB");
            let found = config.tile_decoding_bytes(h, w, w / 3, 2) / GB;
            assert!(sixth.contains(&found), "{found} GB in tiles");
        }
    }

    #[test]
    fn the_side_is_the_largest_that_fits() {
        let (config, [h, w]) = (Config::wan21(), [60, 104]);
        assert_eq!(config.side_that_fits(h, w, 2, 100 * GB), None);
        let side = config.side_that_fits(h, w, 2, 2 * GB).expect("a whole frame takes 4 GB");
        assert!(config.tile_decoding_bytes(h, w, side, 2) <= 2 * GB);
        let larger = w.div_ceil(w.div_ceil(side) - 1);
        assert!(larger > side && config.tile_decoding_bytes(h, w, larger, 2) > 2 * GB, "{side}, {larger}");
        assert_eq!(config.side_that_fits(h, w, 2, 0), Some(SMALLEST_TILE));
    }
}

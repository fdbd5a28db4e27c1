//! What the autoencoder holds beside its weights, from shapes alone.

use super::Config;
use candle_core::DType;

/// Frames that a causal convolution remembers.
const PAST: usize = 2;
/// Numbers that a thread holds per channel, of inputs and of results, in Winograd's algorithm: 36 for each of 64 tiles.
const WINOGRAD: usize = 36 * 64;
/// Frames that are alive in the second convolution of a residual block, beside what it remembers: the block's input, the
/// first convolution's result, the same after norm and `SiLU`, and the block's result.
const BLOCK: usize = 4;

impl Config {
    /// The most bytes that decoding holds at a time, for latents of `h × w`: what all convolutions remember, the frames
    /// that wait while another goes through the later stages, what is alive in the widest block, and the scratch of every
    /// thread.
    pub fn decoding_bytes(&self, h: usize, w: usize, threads: usize) -> usize {
        let dims = self.decoder_dims();
        let (first, last) = (dims[0].0, dims[dims.len() - 1].1);
        let (mut positions, mut frames) = (h * w, 1);
        let mut past = (self.z_dim + 4 * first) * positions;
        let (mut waiting, mut widest) = (0, 0);
        for (stage, &(inputs, outputs)) in dims.iter().enumerate() {
            past += (inputs + (2 * self.num_res_blocks + 1) * outputs) * positions;
            widest = widest.max(waiting + BLOCK * inputs.max(outputs) * positions);
            let Some(&doubles_frames) = self.temperal_downsample.iter().rev().nth(stage) else { continue };
            if doubles_frames {
                past += outputs * positions;
                waiting += outputs * positions;
                frames *= 2;
            }
            let upsampled = if self.is_residual { 2 * outputs } else { outputs / 2 }; // its shortcut too
            widest = widest.max(waiting + (outputs + 4 * upsampled) * positions);
            waiting += if self.is_residual { inputs * positions } else { 0 };
            positions *= 4;
        }
        past += last * positions;
        let done = frames * self.out_channels * positions;
        let channels = dims.iter().map(|&(inputs, outputs)| inputs.max(outputs)).max().unwrap_or(0);
        let scratch = threads * 2 * channels * WINOGRAD;
        (PAST * past + widest + done + scratch) * DType::F32.size_in_bytes()
    }
}

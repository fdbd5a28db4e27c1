//! Memory and operations of the network, computed from shapes alone.

use crate::span::{BLOCKS, CHANNELS, SCALE, SHUFFLED};
use crate::tiles::grid;
use candle_core::DType;

/// Tensors of all channels that are alive in a block: the first convolution's result, the first block's, the block's input, its first
/// activation, what goes into a convolution and what comes out.
const ALIVE: usize = 6;
/// Numbers that a thread holds per channel, of inputs and of results, in Winograd's algorithm: 36 for each of 64 tiles; its blocks of inputs are
/// of 96 channels, those of results of 32.
const WINOGRAD: usize = 36 * 64 * (96 + 64) + 36 * 96 * 32;

/// Returns the most bytes that enlarging frames of `width`×`height` takes in `dtype`, beside the weights: the tensors of the largest tile and the
/// scratch of every thread, and the frame that they make.
pub fn bytes(width: usize, height: usize, dtype: DType, threads: usize) -> usize {
    let [rows, columns] = grid(width, height);
    let longest = |parts: &[crate::tiles::Part]| parts.iter().map(|part| part.window.len()).max().unwrap_or(0);
    let tile = longest(&rows) * longest(&columns);
    let working = tile * ALIVE * CHANNELS * dtype.size_in_bytes();
    // The result, as a tensor and then as values.
    let result = tile * SHUFFLED * 2 * DType::F32.size_in_bytes();
    let frame = 3 * width * height * SCALE * SCALE * DType::F32.size_in_bytes();
    working.max(result) + frame + threads * WINOGRAD * DType::F32.size_in_bytes()
}

/// Returns the operations of one frame of `width`×`height`, those of direct convolutions, halos included.
pub fn operations(width: usize, height: usize) -> f64 {
    let [rows, columns] = grid(width, height);
    let sum = |parts: &[crate::tiles::Part]| parts.iter().map(|part| part.window.len()).sum::<usize>();
    let wide = 9 * (3 * BLOCKS + 1) * CHANNELS * CHANNELS;
    let weights = 9 * 3 * CHANNELS + wide + 4 * CHANNELS * CHANNELS + 9 * CHANNELS * SHUFFLED;
    2.0 * weights as f64 * (sum(&rows) * sum(&columns)) as f64
}

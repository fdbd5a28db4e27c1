//! Wan's rotary position embedding over frames, rows and columns, <https://arxiv.org/abs/2104.09864>.

use candle_core::{Device, Result, Tensor};
use kinora_nn::RmsNorm;

const THETA: f64 = 10_000.0;

/// Cosines and sines of every token's angles, f32 `[L, D/2]`.
pub(super) struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// Computes the table of `frames × rows × columns` tokens: rows and columns take `head_dim / 6` pairs each, and frames
    /// the rest of the `head_dim / 2`. Angles are f64.
    pub(super) fn new(head_dim: usize, [frames, rows, columns]: [usize; 3], device: &Device) -> Result<Self> {
        let pairs = head_dim / 2;
        let space = head_dim / 6;
        let by_frame = axis(frames, pairs - 2 * space);
        let (by_row, by_column) = (axis(rows, space), axis(columns, space));
        let tokens = frames * rows * columns;
        let (mut cos, mut sin) = (Vec::with_capacity(tokens * pairs), Vec::with_capacity(tokens * pairs));
        for frame in &by_frame {
            for row in &by_row {
                for column in &by_column {
                    for (c, s) in frame.iter().chain(row).chain(column) {
                        cos.push(*c);
                        sin.push(*s);
                    }
                }
            }
        }
        let table = |values| Tensor::from_vec(values, (tokens, pairs), device);
        Ok(Self { cos: table(cos)?, sin: table(sin)? })
    }

    /// Returns `f` of both tables.
    pub(super) fn map(&self, f: impl Fn(&Tensor) -> crate::Result<Tensor>) -> crate::Result<Self> {
        Ok(Self { cos: f(&self.cos)?, sin: f(&self.sin)? })
    }

    /// Normalises `x [B, L, N, D]` over all heads together, then rotates it.
    pub(super) fn normed(&self, x: &Tensor, norm: &RmsNorm) -> Result<Tensor> {
        norm.forward_rope(x, &self.cos, &self.sin)
    }
}

/// `(cos, sin)` of `pairs` angles at each of `len` positions.
fn axis(len: usize, pairs: usize) -> Vec<Vec<(f32, f32)>> {
    let frequencies: Vec<f64> = (0..pairs).map(|i| THETA.powf(i as f64 / pairs as f64).recip()).collect();
    let turn = |angle: f64| (angle.cos() as f32, angle.sin() as f32);
    (0..len).map(|position| frequencies.iter().map(|frequency| turn(position as f64 * frequency)).collect()).collect()
}

//! [`Positions`]: the angles of all tokens of a clip, and the order in which those of video go through the blocks.
//!
//! A token's position is the middle of what it stands for: in seconds, in rows and in columns of pixels. Each is divided by a
//! largest extent, and turns pairs of channels by frequencies that are spaced evenly on a logarithmic scale. Between the streams
//! only seconds count.

use super::config::{LtxConfig, StreamConfig};
use super::inputs::Geometry;
use crate::bricks::Bricks;
use crate::{Result, Sparse};
use candle_core::{Device, Tensor};
use kinora_nn::RmsNorm;
use std::f64::consts::PI;

/// Seconds that a clip's positions are divided by, and pixels of a side.
const SECONDS: f32 = 20.0;
const PIXELS: f32 = 2048.0;
/// The ratio of the largest frequency to the smallest.
const THETA: f64 = 10_000.0;
/// Pixel frames and pixels of a side per latent.
pub(super) const FRAMES: f32 = 8.0;
const SIDE: f32 = 32.0;
/// Columns of the mel spectrogram per latent of sound, and columns in a second.
const COLUMNS: f32 = 4.0;
const HOP: f32 = 160.0;
const SAMPLE_RATE: f32 = 16_000.0;

/// The values that follow from a clip's size and rate alone.
pub(super) struct Positions {
    /// Angles of the self-attention of video.
    pub(super) video: Rope,
    /// Angles of video in the attentions between the streams.
    pub(super) video_seconds: Rope,
    /// Angles of sound, in its self-attention and between the streams.
    pub(super) audio: Rope,
    geometry: Geometry,
    /// The order of video's tokens for sparse attention; without, it is that of frames, rows, columns.
    bricks: Option<Bricks>,
    /// The reference frames that the order is for.
    references: Option<usize>,
}

impl Positions {
    pub(super) fn new(
        config: &LtxConfig,
        geometry: &Geometry,
        sparse: Option<Sparse>,
        device: &Device,
    ) -> Result<Self> {
        let bricks = sparse.map(|sparse| Bricks::new(geometry.video, sparse, device)).transpose()?;
        let arranged = |rope: Rope| match &bricks {
            Some(bricks) => rope.map(|table| bricks.arranged(table, 0)),
            None => Ok(rope),
        };
        let [frames, rows, columns] = geometry.video;
        let seconds = seconds_of_frames(frames, geometry.frame_rate);
        let sound = seconds_of_sound(geometry.audio);
        let grid = Grid { axes: [seconds, fractions_of_side(rows), fractions_of_side(columns)] };
        // The heads of both attentions between the streams are those of sound.
        Ok(Self {
            video: arranged(grid.rope(&config.video, 3, device)?)?,
            video_seconds: arranged(grid.rope(&config.audio, 1, device)?)?,
            audio: Grid { axes: [sound, vec![0.0], vec![0.0]] }.rope(&config.audio, 1, device)?,
            geometry: geometry.clone(),
            bricks,
            references: sparse.map(|sparse| sparse.references),
        })
    }

    /// Whether these are the positions of such a clip.
    pub(super) fn fit(&self, geometry: &Geometry, sparse: Option<Sparse>) -> bool {
        self.geometry == *geometry && self.references == sparse.map(|sparse| sparse.references)
    }

    /// Video's `x [B, L, ..]` in the order of the blocks, from that of frames, rows, columns.
    pub(super) fn arranged(&self, x: &Tensor) -> Result<Tensor> {
        self.bricks.as_ref().map_or_else(|| Ok(x.clone()), |bricks| bricks.arranged(x, 1))
    }

    /// The inverse of [`Positions::arranged`].
    pub(super) fn restored(&self, x: &Tensor) -> Result<Tensor> {
        self.bricks.as_ref().map_or_else(|| Ok(x.clone()), |bricks| bricks.restored(x, 1))
    }
}

/// Cosines and sines of every token's angles, f32 `[L, N·D/2]`: every head has some of the frequencies.
#[derive(Clone)]
pub(super) struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// Returns `f` of both tables.
    fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { cos: f(&self.cos)?, sin: f(&self.sin)? })
    }

    /// Normalises `x [B, L, N, D]` over all heads together, then rotates it.
    pub(super) fn normed(&self, x: &Tensor, norm: &RmsNorm) -> candle_core::Result<Tensor> {
        norm.forward_rope_split(x, &self.cos, &self.sin)
    }
}

/// The positions along three axes, as fractions of the largest; a grid of time alone has one row and one column.
struct Grid {
    axes: [Vec<f32>; 3],
}

impl Grid {
    /// Computes the table of the grid's tokens for heads of a stream, by the first `count` axes: axes take turns from one
    /// frequency to the next, and pairs for which there is no frequency come first and do not turn.
    fn rope(&self, heads: &StreamConfig, count: usize, device: &Device) -> Result<Rope> {
        let pairs = heads.dim() / 2;
        let frequencies = frequencies(heads.dim() / (2 * count));
        let still = pairs - frequencies.len() * count;
        let turns = [0, 1, 2].map(|axis| {
            let along = |position: &f32| turns(*position, &frequencies);
            self.axes[axis].iter().map(along).collect::<Vec<_>>()
        });
        let tokens: usize = self.axes.iter().map(Vec::len).product();
        let (mut cos, mut sin) = (Vec::with_capacity(tokens * pairs), Vec::with_capacity(tokens * pairs));
        for frame in &turns[0] {
            for row in &turns[1] {
                for column in &turns[2] {
                    cos.resize(cos.len() + still, 1.0);
                    sin.resize(sin.len() + still, 0.0);
                    let axes = &[frame, row, column][..count];
                    for index in 0..frequencies.len() {
                        cos.extend(axes.iter().map(|turns| turns[index].0));
                        sin.extend(axes.iter().map(|turns| turns[index].1));
                    }
                }
            }
        }
        let table = |values| Tensor::from_vec(values, (tokens, pairs), device);
        Ok(Rope { cos: table(cos)?, sin: table(sin)? })
    }
}

/// `(cos, sin)` of the angles at a position. At the largest frequency an angle shows every bit of its position, so they are
/// multiplied in f32, as models are trained.
fn turns(position: f32, frequencies: &[f32]) -> Vec<(f32, f32)> {
    let turn = |frequency: &f32| {
        let angle = f64::from((position * 2.0 - 1.0) * frequency);
        (angle.cos() as f32, angle.sin() as f32)
    };
    frequencies.iter().map(turn).collect()
}

/// Returns `count` frequencies from π/2 to π/2·θ.
fn frequencies(count: usize) -> Vec<f32> {
    let step = 1.0 / count.saturating_sub(1).max(1) as f64;
    // From both ends, like PyTorch's `linspace`.
    let exponent = |i: usize| if i < count / 2 { step * i as f64 } else { 1.0 - step * (count - 1 - i) as f64 };
    let exponent = |i: usize| if count == 1 { 0.0 } else { exponent(i) };
    (0..count).map(|i| (THETA.powf(exponent(i)) * PI / 2.0) as f32).collect()
}

/// The middle of every latent frame. The first stands for one pixel frame, each other one for eight.
fn seconds_of_frames(frames: usize, frame_rate: f64) -> Vec<f32> {
    let bound = |frame: usize| (frame as f32 * FRAMES + 1.0 - FRAMES).max(0.0) / frame_rate as f32;
    (0..frames).map(|frame| f32::midpoint(bound(frame), bound(frame + 1)) / SECONDS).collect()
}

/// The middle of every row or column of latents.
fn fractions_of_side(len: usize) -> Vec<f32> {
    (0..len).map(|at| f32::midpoint(at as f32 * SIDE, (at + 1) as f32 * SIDE) / PIXELS).collect()
}

/// The middle of every latent of sound. The first stands for one column of the spectrogram, each other one for four.
fn seconds_of_sound(latents: usize) -> Vec<f32> {
    let bound = |at: usize| (at as f32 * COLUMNS + 1.0 - COLUMNS).max(0.0) * HOP / SAMPLE_RATE;
    (0..latents).map(|at| f32::midpoint(bound(at), bound(at + 1)) / SECONDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stand_for_stretches_of_time() {
        // One frame, then eight: from 0 to 1 and from 1 to 9 of 24 in a second.
        let near = |found: Vec<f32>, expected: [f32; 3]| {
            found.iter().zip(expected).all(|(found, expected)| (found * SECONDS - expected).abs() < 1e-6)
        };
        assert!(near(seconds_of_frames(3, 24.0), [0.5 / 24.0, 5.0 / 24.0, 13.0 / 24.0]));
        assert!(near(seconds_of_sound(3), [0.005, 0.03, 0.07]));
        assert_eq!(fractions_of_side(2), [16.0 / 2048.0, 48.0 / 2048.0]);
    }
}

//! [`snake`]: tasks of some positions and all channels. Each filters the positions in between into a small buffer, for as many channels
//! as fill registers, so that nothing at twice the rate reaches main memory.

use super::math::sin_squared;
use super::{Operand, from_f32, to_f32};
use crate::SNAKE_TAPS;
use crate::level::vectorised;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use std::array::from_fn;

/// Positions that one task takes.
const POSITIONS: usize = 64;
/// Positions at twice the rate that a task needs.
const FILTERED: usize = 2 * POSITIONS + SNAKE_TAPS - 2;
/// Positions that reach one at twice the rate.
const REACH: usize = SNAKE_TAPS / 2;

/// See [`crate::Snake::forward`]; shapes are checked there.
pub fn snake(x: &Tensor, [alpha, scale, up, down]: [&Tensor; 4], padding: usize) -> Result<Tensor> {
    let (dtype, (batch, l, channels)) = (x.dtype(), x.dims3()?);
    let parameters = [to_f32(x)?, to_f32(alpha)?, to_f32(scale)?, to_f32(up)?, to_f32(down)?];
    let operands = parameters.iter().map(Operand::new).collect::<Result<Vec<_>>>()?;
    let data = operands.iter().map(Operand::slice::<f32>).collect::<Result<Vec<_>>>()?;
    let filters = Filters::new(data[3], data[4]);
    let (item, padded) = (l * channels, (l + 2 * padding) * channels);
    let mut out = vec![0f32; batch * padded];
    for (x, out) in data[0].chunks_exact(item.max(1)).zip(out.chunks_exact_mut(padded.max(1))) {
        let out = &mut out[padding * channels..][..item];
        let signals = Signals { x, l, channels, alpha: data[1], scale: data[2], filters: &filters };
        out.par_chunks_mut(POSITIONS * channels).enumerate().for_each(|(task, out)| {
            vectorised(
                #[inline(always)]
                || signals.positions(task * POSITIONS, out),
            );
        });
    }
    from_f32(&Tensor::from_vec(out, (batch, l + 2 * padding, channels), &Device::Cpu)?, dtype)
}

struct Filters {
    /// The taps over a position's neighbours that give the position itself, and the one half a step later, at twice the rate.
    up: [[f32; REACH]; 2],
    down: [f32; SNAKE_TAPS],
}

impl Filters {
    fn new(up: &[f32], down: &[f32]) -> Self {
        // Doubled, because every second value that the filter sees at twice the rate is zero.
        let up = from_fn(|odd| from_fn(|tap| 2.0 * up[SNAKE_TAPS - 1 - odd - 2 * tap]));
        Self { up, down: from_fn(|tap| down[tap]) }
    }
}

/// The signals of one item.
struct Signals<'a> {
    x: &'a [f32],
    l: usize,
    channels: usize,
    alpha: &'a [f32],
    scale: &'a [f32],
    filters: &'a Filters,
}

impl Signals<'_> {
    /// Writes the positions from `first` on, as many as `out` has, in all channels.
    #[inline(always)]
    fn positions(&self, first: usize, out: &mut [f32]) {
        let mut channel = 0;
        while channel + 16 <= self.channels {
            self.lanes::<16>(first, channel, out);
            channel += 16;
        }
        while channel + 8 <= self.channels {
            self.lanes::<8>(first, channel, out);
            channel += 8;
        }
        while channel < self.channels {
            self.lanes::<1>(first, channel, out);
            channel += 1;
        }
    }

    /// Writes `N` channels from `channel` on.
    #[inline(always)]
    fn lanes<const N: usize>(&self, first: usize, channel: usize, out: &mut [f32]) {
        let mut filtered = [[0f32; N]; FILTERED];
        let count = 2 * (out.len() / self.channels) + SNAKE_TAPS - 2;
        let (alpha, scale) = (load::<N>(self.alpha, channel), load::<N>(self.scale, channel));
        for (at, filtered) in filtered[..count].iter_mut().enumerate() {
            // Before the first and after the last position their values are repeated.
            let position = (2 * first + at).saturating_sub(REACH - 1).min(2 * self.l - 1);
            let sum = self.between::<N>(position, channel);
            for lane in 0..N {
                filtered[lane] = sum[lane] + scale[lane] * sin_squared(alpha[lane] * sum[lane]);
            }
        }
        for (at, row) in out.chunks_exact_mut(self.channels).enumerate() {
            let mut sum = [0f32; N];
            for (tap, filtered) in self.filters.down.iter().zip(&filtered[2 * at..]) {
                for lane in 0..N {
                    sum[lane] += tap * filtered[lane];
                }
            }
            row[channel..channel + N].copy_from_slice(&sum);
        }
    }

    /// Returns `N` channels of a position at twice the rate.
    #[inline(always)]
    fn between<const N: usize>(&self, position: usize, channel: usize) -> [f32; N] {
        let (near, odd) = (position / 2, position % 2);
        let mut sum = [0f32; N];
        for (at, tap) in self.filters.up[odd].iter().enumerate() {
            let neighbour = (near + at + odd).saturating_sub(REACH / 2).min(self.l - 1);
            let x = load::<N>(self.x, neighbour * self.channels + channel);
            for lane in 0..N {
                sum[lane] += tap * x[lane];
            }
        }
        sum
    }
}

#[inline(always)]
fn load<const N: usize>(values: &[f32], first: usize) -> [f32; N] {
    let mut loaded = [0f32; N];
    loaded.copy_from_slice(&values[first..first + N]);
    loaded
}

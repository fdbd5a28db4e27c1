//! [`Snake`]: a periodic activation at twice the rate of its input, between two filters.

use crate::profile::{Work, timed};
use crate::{cpu, reference};
use candle_core::{Result, Tensor, bail};

/// Taps of each of a [`Snake`]'s filters.
pub const SNAKE_TAPS: usize = 12;

/// The activation `x + scale · sin²(alpha · x)` of signals (<https://arxiv.org/abs/2006.08195>), anti-aliased as in `BigVGAN`
/// (<https://arxiv.org/abs/2206.04658>, section 3.3): the signal's rate is doubled first and halved after it, each by a low-pass filter, at whose ends
/// the first and the last value are repeated.
pub struct Snake {
    alpha: Tensor,
    scale: Tensor,
    up: Tensor,
    down: Tensor,
}

impl Snake {
    /// Takes the parameters of every channel, `alpha` and `scale` `[C]`, and the filters `up` and `down` `[12]`, whose taps sum to 1.
    ///
    /// # Errors
    /// Other shapes.
    pub fn new(alpha: Tensor, scale: Tensor, up: Tensor, down: Tensor) -> Result<Self> {
        let filters = [up.dims(), down.dims()];
        if alpha.dims() != scale.dims() || alpha.rank() != 1 || filters != [[SNAKE_TAPS]; 2] {
            bail!("snake: alpha {:?}, scale {:?} and filters {filters:?} do not fit", alpha.dims(), scale.dims());
        }
        Ok(Self { alpha, scale, up, down })
    }

    /// `x [B, L, C]` → `[B, L + 2·padding, C]` in `x`'s dtype, with zeros before and after, as a convolution takes them.
    ///
    /// # Errors
    /// An empty `x`, or one of another number of channels.
    pub fn forward(&self, x: &Tensor, padding: usize) -> Result<Tensor> {
        let (_, l, c) = x.dims3()?;
        if self.alpha.dims() != [c] || l == 0 {
            bail!("snake: x {:?} does not fit alpha {:?}", x.dims(), self.alpha.dims());
        }
        let parameters = [&self.alpha, &self.scale, &self.up, &self.down];
        timed("snake", Work::Moves, || {
            if cpu::supports(x) {
                return cpu::snake(x, parameters, padding);
            }
            reference::snake(x, parameters, padding)
        })
    }
}

//! Halving and doubling: the learned layers between two stages, the parameterless shortcuts beside them in Wan 2.2, and
//! patchify.

use super::cache::StreamState;
use candle_core::{Result, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::upsample_nearest_2x;
use kinora_nn::{CausalConv3d, Conv2d};

type Load<T> = kinora_checkpoint::Result<T>;

/// Halves height and width, and the frames too where it has a temporal convolution.
pub(super) struct Downsample {
    spatial: Conv2d,
    temporal: Option<CausalConv3d>,
}

impl Downsample {
    pub(super) fn new(weights: &Weights, dim: usize, temporal: bool) -> Load<Self> {
        let time_conv = || CausalConv3d::new(&weights.pp("time_conv"), dim, dim, [3, 1, 1], [2, 1, 1], [0; 2]);
        Ok(Self {
            spatial: Conv2d::new(&weights.pp("resample").pp(1), dim, dim, 3, 2, (0, 1))?,
            temporal: if temporal { Some(time_conv()?) } else { None },
        })
    }

    /// `x [B, C, F, H, W]` → `[B, C, F', H/2, W/2]`. The clip's first frame stays a frame of its own.
    pub(super) fn forward(&self, x: &Tensor, state: &mut StreamState) -> Result<Tensor> {
        let x = self.spatial.forward(x)?;
        let Some(temporal) = &self.temporal else { return Ok(x) };
        if state.is_first() {
            *state.slot() = Some(x.clone());
            return Ok(x);
        }
        temporal.forward(&x, state.slot())
    }
}

/// Doubles height and width, and the frames too where it has a temporal convolution.
pub(super) struct Upsample {
    temporal: Option<CausalConv3d>,
    spatial: Conv2d,
}

impl Upsample {
    pub(super) fn new(weights: &Weights, inputs: usize, outputs: usize, temporal: bool) -> Load<Self> {
        let time_conv = || CausalConv3d::new(&weights.pp("time_conv"), inputs, 2 * inputs, [3, 1, 1], [1; 3], [0; 2]);
        Ok(Self {
            temporal: if temporal { Some(time_conv()?) } else { None },
            spatial: Conv2d::new(&weights.pp("resample").pp(1), inputs, outputs, 3, 1, (1, 1))?,
        })
    }

    /// `x [B, inputs, F, H, W]` → `[B, outputs, F', 2H, 2W]`. The clip's first frame stays a single frame, which the
    /// temporal convolution never sees: to it, the clip begins with zeros and then the second chunk.
    pub(super) fn forward(&self, x: Tensor, state: &mut StreamState) -> Result<Tensor> {
        let x = match &self.temporal {
            Some(temporal) => {
                let first = state.is_first();
                let slot = state.slot();
                if first { x } else { interleave_frames(&temporal.forward(&x, slot)?)? }
            }
            None => x,
        };
        self.spatial.forward(&upsample_nearest_2x(&x)?)
    }
}

/// `[B, 2C, F, H, W]` → `[B, C, 2F, H, W]`: the halves of the channels are the even and the odd frames.
fn interleave_frames(x: &Tensor) -> Result<Tensor> {
    let (b, c, f, h, w) = x.dims5()?;
    x.reshape((b, 2, c / 2, f, h, w))?.permute((0, 2, 3, 1, 4, 5))?.reshape((b, c / 2, 2 * f, h, w))
}

/// A parameterless shortcut over `temporal` frames × `spatial` × `spatial` positions.
pub(super) struct Shortcut {
    pub(super) outputs: usize,
    pub(super) temporal: usize,
    pub(super) spatial: usize,
}

impl Shortcut {
    /// Positions become channels, of which groups are averaged: `x [B, C, F, H, W]` → `[B, outputs, F/t, H/s, W/s]`.
    /// Zeros are put before the frames where they do not divide, which is the clip's first frame.
    pub(super) fn average(&self, x: &Tensor) -> Result<Tensor> {
        let &Self { outputs, temporal: t, spatial: s } = self;
        let x = x.pad_with_zeros(2, (t - x.dim(2)? % t) % t, 0)?;
        let (b, c, f, h, w) = x.dims5()?;
        let (f, h, w) = (f / t, h / s, w / s);
        let x = x.reshape(vec![b, c, f, t, h, s, w, s])?.permute(vec![0, 1, 3, 5, 7, 2, 4, 6])?;
        x.reshape((b, outputs, c * t * s * s / outputs, f, h, w))?.mean(2)
    }

    /// Channels are repeated and become positions: `x [B, C, F, H, W]` → `[B, outputs, F·t, H·s, W·s]`. In the clip's
    /// first chunk only the last of the `t` frames is kept.
    pub(super) fn repeat(&self, x: &Tensor, first_chunk: bool) -> Result<Tensor> {
        let &Self { outputs, temporal: t, spatial: s } = self;
        let (b, c, f, h, w) = x.dims5()?;
        let repeats = outputs * t * s * s / c;
        let x = x.unsqueeze(2)?.broadcast_as((b, c, repeats, f, h, w))?.reshape(vec![b, outputs, t, s, s, f, h, w])?;
        let x = x.permute(vec![0, 1, 5, 2, 6, 3, 7, 4])?.reshape((b, outputs, f * t, h * s, w * s))?;
        if first_chunk { x.narrow(2, t - 1, f * t + 1 - t) } else { Ok(x) }
    }
}

/// `[B, C, F, H, W]` → `[B, C·p·p, F, H/p, W/p]`, channels in the order colour, column, row.
pub(super) fn patchify(x: &Tensor, p: usize) -> Result<Tensor> {
    if p == 1 {
        return Ok(x.clone());
    }
    let (b, c, f, h, w) = x.dims5()?;
    let x = x.reshape(vec![b, c, f, h / p, p, w / p, p])?.permute(vec![0, 1, 6, 4, 2, 3, 5])?;
    x.reshape((b, c * p * p, f, h / p, w / p))
}

/// The inverse of [`patchify`].
pub(super) fn unpatchify(x: &Tensor, p: usize) -> Result<Tensor> {
    if p == 1 {
        return Ok(x.clone());
    }
    let (b, c, f, h, w) = x.dims5()?;
    let c = c / (p * p);
    let x = x.reshape(vec![b, c, p, p, f, h, w])?.permute(vec![0, 1, 4, 5, 3, 6, 2])?;
    x.reshape((b, c, f, h * p, w * p))
}

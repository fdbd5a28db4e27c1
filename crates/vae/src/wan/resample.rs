//! Downsampling and upsampling: the learned layers between two stages, the parameterless shortcuts beside them in Wan 2.2,
//! and patchify.

use super::blocks::CausalLayer;
use super::cache::{Slots, StreamState};
use candle_core::{Result, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{FrameConvOptions, Repeat, repeat_channels};
use kinora_nn::Conv2d;

type Load<T> = kinora_checkpoint::Result<T>;

/// Halves height and width, and, with a temporal convolution, the number of frames.
pub(super) struct Downsample {
    spatial: Conv2d,
    temporal: Option<CausalLayer>,
}

impl Downsample {
    pub(super) fn new(weights: &Weights, slots: &Slots, dim: usize, temporal: bool) -> Load<Self> {
        let options = FrameConvOptions { stride: 2, padding: (0, 1), ..Default::default() };
        let time_conv = || CausalLayer::temporal(&weights.pp("time_conv"), slots, dim, dim, 2);
        Ok(Self {
            spatial: Conv2d::new(&weights.pp("resample").pp(1), dim, dim, 3, options)?,
            temporal: if temporal { Some(time_conv()?) } else { None },
        })
    }

    pub(super) fn halves_frames(&self) -> bool {
        self.temporal.is_some()
    }

    /// `x [B, H, W, C]` → `[B, H/2, W/2, C]`.
    pub(super) fn reduce(&self, x: &Tensor) -> Result<Tensor> {
        self.spatial.forward(x, None)
    }

    /// Makes one frame of two, where the frames halve. The clip's first frame stays a frame of its own.
    pub(super) fn merge(&self, mut frames: Vec<Tensor>, state: &mut StreamState) -> Result<Tensor> {
        match &self.temporal {
            Some(temporal) if !state.is_first() => temporal.forward(&frames, state, None),
            temporal => {
                let frame = frames.remove(0);
                if let Some(temporal) = temporal {
                    temporal.remember(frame.clone(), state);
                }
                Ok(frame)
            }
        }
    }
}

/// Doubles height and width, and, with a temporal convolution, the number of frames.
pub(super) struct Upsample {
    temporal: Option<CausalLayer>,
    spatial: Conv2d,
}

impl Upsample {
    pub(super) fn new(weights: &Weights, slots: &Slots, inputs: usize, outputs: usize, temporal: bool) -> Load<Self> {
        let options = FrameConvOptions { padding: (1, 1), upsample: true, ..Default::default() };
        let time_conv = || CausalLayer::temporal(&weights.pp("time_conv"), slots, inputs, 2 * inputs, 1);
        Ok(Self {
            temporal: if temporal { Some(time_conv()?) } else { None },
            spatial: Conv2d::new(&weights.pp("resample").pp(1), inputs, outputs, 3, options)?,
        })
    }

    /// Returns the number of frames that one frame becomes, except the clip's first.
    pub(super) fn factor(&self) -> usize {
        if self.temporal.is_some() { 2 } else { 1 }
    }

    /// Returns the frames that `x [B, H, W, C]` becomes, still of that size. The clip's first frame stays a single frame and
    /// does not go through the temporal convolution, for which the clip begins with zeros and the second chunk.
    pub(super) fn frames(&self, x: Tensor, state: &mut StreamState) -> Result<Vec<Tensor>> {
        let Some(temporal) = &self.temporal else { return Ok(vec![x]) };
        if state.is_first() {
            return Ok(vec![x]);
        }
        let channels = x.dim(3)?;
        let both = temporal.forward(&[x], state, None)?; // [B, H, W, 2C]: the channels of one frame, then of the other
        [0, channels].into_iter().map(|first| both.narrow(3, first, channels)?.contiguous()).collect()
    }

    /// `x [B, H, W, inputs]` → `[B, 2H, 2W, outputs]`, plus `residual` of that shape.
    pub(super) fn enlarge(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        self.spatial.forward(x, residual)
    }
}

/// A parameterless shortcut over `temporal` frames × `spatial` × `spatial` positions.
pub(super) struct Shortcut {
    pub(super) outputs: usize,
    pub(super) temporal: usize,
    pub(super) spatial: usize,
}

impl Shortcut {
    /// Computes a pixel unshuffle and averages groups of its channels: up to `t` frames `[B, H, W, C]` →
    /// `[B, H/s, W/s, outputs]`. Missing frames, before the clip's first, are zeros.
    pub(super) fn average(&self, frames: &[Tensor]) -> Result<Tensor> {
        let &Self { outputs, temporal: t, spatial: s } = self;
        let x = Tensor::stack(frames, 1)?;
        let x = x.pad_with_zeros(1, t - frames.len(), 0)?;
        let (b, _, h, w, c) = x.dims5()?;
        let (h, w) = (h / s, w / s);
        let x = x.reshape(vec![b, t, h, s, w, s, c])?.permute(vec![0, 2, 4, 6, 1, 3, 5])?; // [B, h, w, C, t, s, s]
        x.reshape((b, h, w, outputs, c * t * s * s / outputs))?.mean(4)
    }

    /// Repeats channels and computes a pixel shuffle: `x [B, H, W, C]` → frame `index`, `[B, H·s, W·s, outputs]`, of the `t`
    /// frames that it becomes.
    pub(super) fn repeat(&self, x: &Tensor, index: usize) -> Result<Tensor> {
        let &Self { outputs, temporal, spatial } = self;
        repeat_channels(x, Repeat { outputs, frames: temporal, side: spatial }, index)
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

//! Blocks that the encoder and the decoder share. They work on one frame `[B, H, W, C]` at a time.

use super::cache::{Slots, StreamState};
use candle_core::{Result, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::FrameConvOptions;
use kinora_nn::{CausalCache, CausalConv3d, ChannelRmsNorm, Conv2d};
use std::slice::from_ref;

type Load<T> = kinora_checkpoint::Result<T>;

/// A convolution over time, with a causal cache of the frames before.
pub(super) struct CausalLayer {
    conv: CausalConv3d,
    slot: usize,
}

impl CausalLayer {
    /// The 3×3×3 convolution that keeps the size.
    pub(super) fn new(weights: &Weights, slots: &Slots, inputs: usize, outputs: usize) -> Load<Self> {
        Ok(Self { conv: CausalConv3d::new(weights, inputs, outputs, [3; 3], 1, 1)?, slot: slots.next() })
    }

    /// The convolution over time alone that makes a frame of `stride`.
    pub(super) fn temporal(
        weights: &Weights,
        slots: &Slots,
        inputs: usize,
        outputs: usize,
        stride: usize,
    ) -> Load<Self> {
        Ok(Self { conv: CausalConv3d::new(weights, inputs, outputs, [3, 1, 1], stride, 0)?, slot: slots.next() })
    }

    /// `x [B, H, W, inputs]`, one or as many as the stride → `[B, H, W, outputs]`, plus `residual` of that shape.
    pub(super) fn forward(&self, x: &[Tensor], state: &mut StreamState, residual: Option<&Tensor>) -> Result<Tensor> {
        self.conv.forward(x, state.cache(self.slot), residual)
    }

    /// Sets the causal cache to `x` as the last frame, with none before it.
    pub(super) fn remember(&self, x: Tensor, state: &mut StreamState) {
        *state.cache(self.slot) = CausalCache::of(x);
    }
}

/// The 1×1×1 convolution.
pub(super) struct Pointwise(CausalConv3d);

impl Pointwise {
    pub(super) fn new(weights: &Weights, inputs: usize, outputs: usize) -> Load<Self> {
        Ok(Self(CausalConv3d::new(weights, inputs, outputs, [1; 3], 1, 0)?))
    }

    /// `x [B, H, W, inputs]` → `[B, H, W, outputs]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(from_ref(x), &mut CausalCache::default(), None)
    }
}

/// Two causal convolutions, each after norm and `SiLU`, added to the input.
pub(super) struct ResidualBlock {
    norm1: ChannelRmsNorm,
    conv1: CausalLayer,
    norm2: ChannelRmsNorm,
    conv2: CausalLayer,
    shortcut: Option<Pointwise>,
}

impl ResidualBlock {
    pub(super) fn new(weights: &Weights, slots: &Slots, inputs: usize, outputs: usize) -> Load<Self> {
        let residual = weights.pp("residual");
        let shortcut = || Pointwise::new(&weights.pp("shortcut"), inputs, outputs);
        Ok(Self {
            norm1: frame_norm(&residual.pp(0), inputs)?,
            conv1: CausalLayer::new(&residual.pp(2), slots, inputs, outputs)?,
            norm2: frame_norm(&residual.pp(3), outputs)?,
            conv2: CausalLayer::new(&residual.pp(6), slots, outputs, outputs)?,
            shortcut: if inputs == outputs { None } else { Some(shortcut()?) },
        })
    }

    /// `x [B, H, W, inputs]` → `[B, H, W, outputs]`.
    pub(super) fn forward(&self, x: Tensor, state: &mut StreamState) -> Result<Tensor> {
        // One expression, so that intermediate tensors are freed (or held by the causal cache alone) before the next layer.
        let h = self.norm2.forward_silu(&self.conv1.forward(&[self.norm1.forward_silu(&x)?], state, None)?)?;
        let x = match &self.shortcut {
            Some(shortcut) => shortcut.forward(&x)?,
            None => x,
        };
        self.conv2.forward(&[h], state, Some(&x))
    }
}

/// Single-head attention among the positions of a frame, added to the input.
struct AttentionBlock {
    norm: ChannelRmsNorm,
    to_qkv: Conv2d,
    proj: Conv2d,
}

impl AttentionBlock {
    fn new(weights: &Weights, dim: usize) -> Load<Self> {
        let linear = |name, outputs| Conv2d::new(&weights.pp(name), dim, outputs, 1, FrameConvOptions::default());
        let norm = ChannelRmsNorm::new(&weights.pp("norm"), (dim, 1, 1))?;
        Ok(Self { norm, to_qkv: linear("to_qkv", 3 * dim)?, proj: linear("proj", dim)? })
    }

    /// `x [B, H, W, C]` → the same shape.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, h, w, c) = x.dims4()?;
        let qkv = self.to_qkv.forward(&self.norm.forward(x)?, None)?.reshape((b, h * w, 1, 3 * c))?; // one head
        let [q, k, v] = [0, c, 2 * c].map(|start| qkv.narrow(3, start, c)?.contiguous());
        let y = kinora_kernels::attention(&q?, &k?, &v?, 1.0 / (c as f64).sqrt(), None)?;
        self.proj.forward(&y.reshape((b, h, w, c))?, Some(x))
    }
}

/// Residual block, attention, residual block: the lowest resolution of encoder and decoder.
pub(super) struct Middle {
    before: ResidualBlock,
    attention: AttentionBlock,
    after: ResidualBlock,
}

impl Middle {
    pub(super) fn new(weights: &Weights, slots: &Slots, dim: usize) -> Load<Self> {
        Ok(Self {
            before: ResidualBlock::new(&weights.pp(0), slots, dim, dim)?,
            attention: AttentionBlock::new(&weights.pp(1), dim)?,
            after: ResidualBlock::new(&weights.pp(2), slots, dim, dim)?,
        })
    }

    /// `x [B, H, W, C]` → the same shape.
    pub(super) fn forward(&self, x: Tensor, state: &mut StreamState) -> Result<Tensor> {
        let x = self.before.forward(x, state)?;
        self.after.forward(self.attention.forward(&x)?, state)
    }
}

/// Norm, `SiLU` and the last convolution of encoder and decoder.
pub(super) struct Head {
    norm: ChannelRmsNorm,
    conv: CausalLayer,
}

impl Head {
    pub(super) fn new(weights: &Weights, slots: &Slots, inputs: usize, outputs: usize) -> Load<Self> {
        let conv = CausalLayer::new(&weights.pp(2), slots, inputs, outputs)?;
        Ok(Self { norm: frame_norm(&weights.pp(0), inputs)?, conv })
    }

    /// `x [B, H, W, inputs]` → `[B, H, W, outputs]`.
    pub(super) fn forward(&self, x: &Tensor, state: &mut StreamState) -> Result<Tensor> {
        self.conv.forward(&[self.norm.forward_silu(x)?], state, None)
    }
}

/// Reads the norm over a clip's channels, whose `gamma` has one axis more than an image's.
fn frame_norm(weights: &Weights, dim: usize) -> Load<ChannelRmsNorm> {
    ChannelRmsNorm::new(weights, (dim, 1, 1, 1))
}

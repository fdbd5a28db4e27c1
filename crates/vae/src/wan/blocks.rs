//! Blocks that the encoder and the decoder share.

use super::cache::StreamState;
use candle_core::{Result, Tensor};
use kinora_checkpoint::Weights;
use kinora_nn::{CausalConv3d, ChannelRmsNorm, Conv2d};

type Load<T> = kinora_checkpoint::Result<T>;

/// Two causal convolutions, each after norm and `SiLU`, added to the input.
pub(super) struct ResidualBlock {
    norm1: ChannelRmsNorm,
    conv1: CausalConv3d,
    norm2: ChannelRmsNorm,
    conv2: CausalConv3d,
    shortcut: Option<CausalConv3d>,
}

impl ResidualBlock {
    pub(super) fn new(weights: &Weights, inputs: usize, outputs: usize) -> Load<Self> {
        let residual = weights.pp("residual");
        let shortcut = || pointwise_conv(&weights.pp("shortcut"), inputs, outputs);
        Ok(Self {
            norm1: frame_norm(&residual.pp(0), inputs)?,
            conv1: causal_conv(&residual.pp(2), inputs, outputs)?,
            norm2: frame_norm(&residual.pp(3), outputs)?,
            conv2: causal_conv(&residual.pp(6), outputs, outputs)?,
            shortcut: if inputs == outputs { None } else { Some(shortcut()?) },
        })
    }

    /// `x [B, inputs, F, H, W]` → `[B, outputs, F, H, W]`.
    pub(super) fn forward(&self, x: &Tensor, state: &mut StreamState) -> Result<Tensor> {
        // One expression per convolution, so that its input is freed before the next.
        let h = self.conv1.forward(&self.norm1.forward_silu(x)?, state.slot())?;
        let h = self.conv2.forward(&self.norm2.forward_silu(&h)?, state.slot())?;
        match &self.shortcut {
            Some(shortcut) => h + shortcut.forward(x, &mut None)?,
            None => h + x,
        }
    }
}

/// Single-head attention among the positions of each frame, added to the input.
struct AttentionBlock {
    norm: ChannelRmsNorm,
    to_qkv: Conv2d,
    proj: Conv2d,
}

impl AttentionBlock {
    fn new(weights: &Weights, dim: usize) -> Load<Self> {
        Ok(Self {
            norm: ChannelRmsNorm::new(&weights.pp("norm"), (dim, 1, 1))?,
            to_qkv: Conv2d::new(&weights.pp("to_qkv"), dim, 3 * dim, 1, 1, (0, 0))?,
            proj: Conv2d::new(&weights.pp("proj"), dim, dim, 1, 1, (0, 0))?,
        })
    }

    /// `x [B, C, F, H, W]` → the same shape.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, c, f, h, w) = x.dims5()?;
        let qkv = self.to_qkv.forward(&self.norm.forward(x)?)?;
        // [B, 3C, F, H, W] -> [B·F, H·W, 1, 3C]
        let qkv = qkv.permute((0, 2, 3, 4, 1))?.reshape((b * f, h * w, 1, 3 * c))?;
        let [q, k, v] = [0, c, 2 * c].map(|start| qkv.narrow(3, start, c)?.contiguous());
        let y = kinora_kernels::attention(&q?, &k?, &v?, 1.0 / (c as f64).sqrt(), None)?;
        let y = y.reshape((b, f, h, w, c))?.permute((0, 4, 1, 2, 3))?.contiguous()?; // [B, C, F, H, W]
        self.proj.forward(&y)? + x
    }
}

/// Residual block, attention, residual block: the lowest resolution of encoder and decoder.
pub(super) struct Middle {
    before: ResidualBlock,
    attention: AttentionBlock,
    after: ResidualBlock,
}

impl Middle {
    pub(super) fn new(weights: &Weights, dim: usize) -> Load<Self> {
        Ok(Self {
            before: ResidualBlock::new(&weights.pp(0), dim, dim)?,
            attention: AttentionBlock::new(&weights.pp(1), dim)?,
            after: ResidualBlock::new(&weights.pp(2), dim, dim)?,
        })
    }

    /// `x [B, C, F, H, W]` → the same shape.
    pub(super) fn forward(&self, x: &Tensor, state: &mut StreamState) -> Result<Tensor> {
        let x = self.before.forward(x, state)?;
        self.after.forward(&self.attention.forward(&x)?, state)
    }
}

/// Norm, `SiLU` and the last convolution of encoder and decoder.
pub(super) struct Head {
    norm: ChannelRmsNorm,
    conv: CausalConv3d,
}

impl Head {
    pub(super) fn new(weights: &Weights, inputs: usize, outputs: usize) -> Load<Self> {
        let conv = causal_conv(&weights.pp(2), inputs, outputs)?;
        Ok(Self { norm: frame_norm(&weights.pp(0), inputs)?, conv })
    }

    /// `x [B, inputs, F, H, W]` → `[B, outputs, F, H, W]`.
    pub(super) fn forward(&self, x: &Tensor, state: &mut StreamState) -> Result<Tensor> {
        self.conv.forward(&self.norm.forward_silu(x)?, state.slot())
    }
}

/// The 3×3×3 causal convolution that keeps the size.
pub(super) fn causal_conv(weights: &Weights, inputs: usize, outputs: usize) -> Load<CausalConv3d> {
    CausalConv3d::new(weights, inputs, outputs, [3; 3], [1; 3], [1; 2])
}

/// The 1×1×1 convolution.
pub(super) fn pointwise_conv(weights: &Weights, inputs: usize, outputs: usize) -> Load<CausalConv3d> {
    CausalConv3d::new(weights, inputs, outputs, [1; 3], [1; 3], [0; 2])
}

/// The norm over a clip's channels, whose `gamma` has one axis more than that over an image's.
fn frame_norm(weights: &Weights, dim: usize) -> Load<ChannelRmsNorm> {
    ChannelRmsNorm::new(weights, (dim, 1, 1, 1))
}

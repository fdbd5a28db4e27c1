//! Layers that the encoder and the decoder share. They work on mel frames `[B, L, M, C]`, time before bins, and are causal along time: a
//! layer keeps the last frames of its input, so that the frames of a clip may come in parts.

use super::Config;
use candle_core::{DType, Result, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{FrameConvOptions, rms_norm, silu};
use kinora_nn::Conv2d;
use std::cell::Cell;

type Load<T> = kinora_checkpoint::Result<T>;

const EPS: f64 = 1e-6;

/// Numbers the layers that keep frames, while a network is built.
#[derive(Default)]
pub(super) struct Slots(Cell<usize>);

impl Slots {
    fn next(&self) -> usize {
        self.0.replace(self.0.get() + 1)
    }
}

/// The last input frames of every layer, by the numbers of [`Slots`]; none at the start of a clip.
#[derive(Default)]
pub(super) struct StreamState(Vec<Option<Tensor>>);

impl StreamState {
    /// Returns the frames that the layer has kept, and keeps the last ones of `x` instead, from `first` on.
    fn replace(&mut self, slot: usize, x: &Tensor, first: usize) -> Result<()> {
        // A copy, because a view would keep all of `x` alive.
        let kept = x.narrow(1, first, x.dim(1)? - first)?.force_contiguous()?;
        if slot >= self.0.len() {
            self.0.resize(slot + 1, None);
        }
        self.0[slot] = Some(kept);
        Ok(())
    }

    fn kept(&self, slot: usize) -> Option<&Tensor> {
        self.0.get(slot).and_then(Option::as_ref)
    }

    /// Returns `x` behind the frames that the layer has kept, or behind two of zeros at the start of a clip.
    fn with_past(&self, slot: usize, x: &Tensor) -> Result<Tensor> {
        match self.kept(slot) {
            Some(past) => Tensor::cat(&[past, x], 1),
            None => x.pad_with_zeros(1, 2, 0),
        }
    }
}

/// The 3×3 convolution that keeps the size.
pub(super) struct CausalConv {
    conv: Conv2d,
    slot: usize,
}

impl CausalConv {
    pub(super) fn new(weights: &Weights, slots: &Slots, inputs: usize, outputs: usize) -> Load<Self> {
        let conv = Conv2d::new(&weights.pp("conv"), inputs, outputs, 3, FrameConvOptions::default())?;
        Ok(Self { conv, slot: slots.next() })
    }

    /// `x [B, L, M, inputs]` → `[B, L, M, outputs]`, plus `residual` of that shape.
    pub(super) fn forward(&self, x: Tensor, state: &mut StreamState, residual: Option<&Tensor>) -> Result<Tensor> {
        let padded = state.with_past(self.slot, &x)?;
        drop(x);
        state.replace(self.slot, &padded, padded.dim(1)? - 2)?;
        let wide = padded.pad_with_zeros(2, 1, 1)?;
        drop(padded);
        self.conv.forward(&wide, residual)
    }
}

/// The 3×3 convolution that halves frames and bins.
pub(super) struct Downsample {
    conv: Conv2d,
    slot: usize,
}

impl Downsample {
    pub(super) fn new(weights: &Weights, slots: &Slots, channels: usize) -> Load<Self> {
        let options = FrameConvOptions { stride: 2, ..FrameConvOptions::default() };
        Ok(Self { conv: Conv2d::new(&weights.pp("conv"), channels, channels, 3, options)?, slot: slots.next() })
    }

    /// `x [B, L, M, C]` → `[B, L', M/2, C]`: the first frame alone, then one for each two.
    pub(super) fn forward(&self, x: &Tensor, state: &mut StreamState) -> Result<Tensor> {
        let padded = state.with_past(self.slot, x)?;
        let frames = (padded.dim(1)? - 1) / 2;
        state.replace(self.slot, &padded, 2 * frames)?;
        self.conv.forward(&padded.pad_with_zeros(2, 0, 1)?, None)
    }
}

/// Doubles frames and bins by repeating them, before a 3×3 convolution.
pub(super) struct Upsample {
    conv: Conv2d,
    slot: usize,
}

impl Upsample {
    pub(super) fn new(weights: &Weights, slots: &Slots, channels: usize) -> Load<Self> {
        let options = FrameConvOptions { upsample: true, padding: (1, 1), ..FrameConvOptions::default() };
        let conv = Conv2d::new(&weights.pp("conv").pp("conv"), channels, channels, 3, options)?;
        Ok(Self { conv, slot: slots.next() })
    }

    /// `x [B, L, M, C]` → `[B, 2L, 2M, C]`, without the clip's first frame.
    pub(super) fn forward(&self, x: &Tensor, state: &mut StreamState) -> Result<Tensor> {
        let frames = x.dim(1)?;
        // The causal convolution without its first frame is the centred one without its last.
        let (first, count, x) = match state.kept(self.slot) {
            Some(past) => (1, 2 * frames, Tensor::cat(&[past, x], 1)?),
            None => (0, 2 * frames - 1, x.clone()),
        };
        state.replace(self.slot, &x, x.dim(1)? - 1)?;
        self.conv.forward(&x, None)?.narrow(1, first, count)?.contiguous()
    }
}

/// The root-mean-square norm over channels, without weights, and `SiLU`.
pub(super) struct Norm(Tensor);

impl Norm {
    pub(super) fn new(weights: &Weights, channels: usize) -> Result<Self> {
        Ok(Self(Tensor::ones(channels, DType::F32, weights.device())?))
    }

    /// `x [B, L, M, C]` → the same shape.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        silu(&rms_norm(x, &self.0, EPS)?)
    }
}

/// Two convolutions, each after norm and `SiLU`, added to the input.
pub(super) struct ResidualBlock {
    norm1: Norm,
    conv1: CausalConv,
    norm2: Norm,
    conv2: CausalConv,
    shortcut: Option<Conv2d>,
}

impl ResidualBlock {
    pub(super) fn new(weights: &Weights, slots: &Slots, inputs: usize, outputs: usize) -> Load<Self> {
        let shortcut = weights.pp("nin_shortcut").pp("conv");
        let shortcut = || Conv2d::new(&shortcut, inputs, outputs, 1, FrameConvOptions::default());
        Ok(Self {
            norm1: Norm::new(weights, inputs)?,
            conv1: CausalConv::new(&weights.pp("conv1"), slots, inputs, outputs)?,
            norm2: Norm::new(weights, outputs)?,
            conv2: CausalConv::new(&weights.pp("conv2"), slots, outputs, outputs)?,
            shortcut: if inputs == outputs { None } else { Some(shortcut()?) },
        })
    }

    /// `x [B, L, M, inputs]` → `[B, L, M, outputs]`.
    pub(super) fn forward(&self, x: Tensor, state: &mut StreamState) -> Result<Tensor> {
        let h = self.conv1.forward(self.norm1.forward(&x)?, state, None)?;
        let h = self.norm2.forward(&h)?;
        let x = match &self.shortcut {
            Some(shortcut) => shortcut.forward(&x, None)?,
            None => x,
        };
        self.conv2.forward(h, state, Some(&x))
    }
}

/// The two residual blocks at the lowest resolution.
pub(super) struct Middle([ResidualBlock; 2]);

impl Middle {
    pub(super) fn new(weights: &Weights, slots: &Slots, channels: usize) -> Load<Self> {
        let block = |name| ResidualBlock::new(&weights.pp("mid").pp(name), slots, channels, channels);
        Ok(Self([block("block_1")?, block("block_2")?]))
    }

    /// `x [B, L, M, C]` → the same shape.
    pub(super) fn forward(&self, x: Tensor, state: &mut StreamState) -> Result<Tensor> {
        let x = self.0[0].forward(x, state)?;
        self.0[1].forward(x, state)
    }
}

/// Norm, `SiLU` and the last convolution of encoder and decoder.
pub(super) struct Head {
    norm: Norm,
    conv: CausalConv,
}

impl Head {
    pub(super) fn new(weights: &Weights, slots: &Slots, inputs: usize, outputs: usize) -> Load<Self> {
        let conv = CausalConv::new(&weights.pp("conv_out"), slots, inputs, outputs)?;
        Ok(Self { norm: Norm::new(weights, inputs)?, conv })
    }

    /// `x [B, L, M, inputs]` → `[B, L, M, outputs]`.
    pub(super) fn forward(&self, x: &Tensor, state: &mut StreamState) -> Result<Tensor> {
        self.conv.forward(self.norm.forward(x)?, state, None)
    }
}

/// Returns the residual blocks of a stage below `weights`, the first of which changes the channels.
pub(super) fn blocks(
    weights: &Weights,
    slots: &Slots,
    [inputs, outputs]: [usize; 2],
    count: usize,
) -> Load<Vec<ResidualBlock>> {
    let block = |at| {
        let inputs = if at == 0 { inputs } else { outputs };
        ResidualBlock::new(&weights.pp("block").pp(at), slots, inputs, outputs)
    };
    (0..count).map(block).collect()
}

/// Returns the latent channels of the encoder's last convolution.
pub(super) fn moments(config: &Config) -> usize {
    if config.double_z { 2 * config.latent_channels } else { config.latent_channels }
}

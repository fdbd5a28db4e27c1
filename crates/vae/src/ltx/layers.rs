//! The layers of encoder and decoder. They take frames `[B, H, W, C]`, one after the other, and return those that are
//! complete with each.

use super::config::{Resample, volume};
use super::conv::{Conv, Kind, Seen};
use candle_core::{DType, Result, Tensor};
use kinora_checkpoint::Weights;
use std::collections::VecDeque;

type Load<T> = kinora_checkpoint::Result<T>;

/// Added to the mean square of the channels.
const EPS: f64 = 1e-8;

/// What a layer keeps of the frames of a clip.
#[derive(Default)]
pub(super) struct State {
    first: Seen,
    second: Seen,
    /// Frames that came in and wait for what is added to them.
    inputs: VecDeque<Tensor>,
    /// Results of a convolution that wait for those after them.
    outputs: VecDeque<Tensor>,
    /// Whether a result of the clip was returned.
    begun: bool,
}

/// A layer of a network.
pub(super) enum Layer {
    Conv(Conv),
    Residual(ResidualBlock),
    Down(Down),
    Up(Up),
    Head(Head),
}

impl Layer {
    /// Takes the next frame and returns the results that are complete with it.
    pub(super) fn push(&self, x: Tensor, state: &mut State) -> Result<Vec<Tensor>> {
        let frame = match self {
            Self::Conv(conv) => conv.push(x, &mut state.first, None)?,
            Self::Residual(block) => block.push(x, state)?,
            Self::Down(down) => down.push(x, state)?,
            Self::Up(up) => return up.push(x, state),
            Self::Head(head) => head.push(x, state)?,
        };
        Ok(frame.into_iter().collect())
    }

    /// Ends the clip and returns the next of the results that are left; nothing if there are none. Downsampling leaves none.
    pub(super) fn end(&self, state: &mut State) -> Result<Vec<Tensor>> {
        let frame = match self {
            Self::Conv(conv) | Self::Head(Head { conv, .. }) => conv.end(&mut state.first, None)?,
            Self::Residual(block) => block.end(state)?,
            Self::Down(_) => None,
            Self::Up(up) => return up.end(state),
        };
        Ok(frame.into_iter().collect())
    }
}

/// The norm of each position over its channels, without parameters: `x / √(mean(x²) + 1e-8)`.
struct PixelNorm {
    ones: Tensor,
}

impl PixelNorm {
    fn new(weights: &Weights, channels: usize) -> Result<Self> {
        Ok(Self { ones: Tensor::ones(channels, DType::F32, weights.device())? })
    }

    /// Computes `silu(norm(x))` in one pass.
    fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        kinora_kernels::rms_norm_silu(x, &self.ones, EPS)
    }
}

/// Two convolutions, each after norm and `SiLU`, added to the input.
pub(super) struct ResidualBlock {
    norm: PixelNorm,
    conv1: Conv,
    conv2: Conv,
}

impl ResidualBlock {
    pub(super) fn new(weights: &Weights, kind: Kind, channels: usize) -> Load<Self> {
        Ok(Self {
            norm: PixelNorm::new(weights, channels)?,
            conv1: Conv::new(&weights.pp("conv1"), kind, channels, channels)?,
            conv2: Conv::new(&weights.pp("conv2"), kind, channels, channels)?,
        })
    }

    fn push(&self, x: Tensor, state: &mut State) -> Result<Option<Tensor>> {
        let normed = self.norm.forward_silu(&x)?;
        state.inputs.push_back(x);
        match self.conv1.push(normed, &mut state.first, None)? {
            Some(h) => self.second(h, state),
            None => Ok(None),
        }
    }

    /// Takes the next result of the first convolution through the second.
    fn second(&self, h: Tensor, state: &mut State) -> Result<Option<Tensor>> {
        let normed = self.norm.forward_silu(&h)?;
        drop(h); // before the convolution needs memory
        let y = self.conv2.push(normed, &mut state.second, state.inputs.front())?;
        if y.is_some() {
            state.inputs.pop_front();
        }
        Ok(y)
    }

    fn end(&self, state: &mut State) -> Result<Option<Tensor>> {
        if let Some(h) = self.conv1.end(&mut state.first, None)?
            && let Some(y) = self.second(h, state)?
        {
            return Ok(Some(y));
        }
        let y = self.conv2.end(&mut state.second, state.inputs.front())?;
        state.inputs.clear();
        Ok(y)
    }
}

/// Norm, `SiLU` and the last convolution.
pub(super) struct Head {
    norm: PixelNorm,
    conv: Conv,
}

impl Head {
    pub(super) fn new(weights: &Weights, channels: usize, conv: Conv) -> Result<Self> {
        Ok(Self { norm: PixelNorm::new(weights, channels)?, conv })
    }

    fn push(&self, x: Tensor, state: &mut State) -> Result<Option<Tensor>> {
        let normed = self.norm.forward_silu(&x)?;
        drop(x); // before the convolution needs memory
        self.conv.push(normed, &mut state.first, None)
    }
}

/// A convolution whose results become channels of fewer positions, beside the means of the inputs' groups.
pub(super) struct Down {
    conv: Conv,
    resample: Resample,
}

impl Down {
    pub(super) fn new(weights: &Weights, kind: Kind, inputs: usize, resample: Resample) -> Load<Self> {
        let made = resample.outputs / volume(resample.stride);
        Ok(Self { conv: Conv::new(&weights.pp("conv"), kind, inputs, made)?, resample })
    }

    fn push(&self, x: Tensor, state: &mut State) -> Result<Option<Tensor>> {
        let Resample { stride, outputs, .. } = self.resample;
        // The clip's first frame counts as often as it takes to make a whole group.
        let times = if state.begun { 1 } else { stride[0] };
        let Some(y) = self.conv.push(x.clone(), &mut state.first, None)? else { return Ok(None) };
        state.begun = true;
        state.inputs.extend(std::iter::repeat_n(x, times));
        state.outputs.extend(std::iter::repeat_n(y, times));
        if state.inputs.len() < stride[0] {
            return Ok(None);
        }
        let y = unshuffled(state.outputs.make_contiguous(), stride)?;
        state.outputs.clear();
        let skipped = unshuffled(state.inputs.make_contiguous(), stride)?;
        state.inputs.clear();
        let (b, h, w, c) = skipped.dims4()?;
        let skipped = if c == outputs { skipped } else { skipped.reshape((b, h, w, outputs, c / outputs))?.mean(4)? };
        Ok(Some((y + skipped)?))
    }
}

/// Makes channels of positions: `stride[0]` frames `[B, H, W, C]` become one, channels in the order channel, frame, row,
/// column.
fn unshuffled(frames: &[Tensor], [t, s, _]: [usize; 3]) -> Result<Tensor> {
    let x = Tensor::stack(frames, 1)?;
    let (b, _, h, w, c) = x.dims5()?;
    let (h, w) = (h / s, w / s);
    let x = x.reshape(vec![b, t, h, s, w, s, c])?.permute(vec![0, 2, 4, 6, 1, 3, 5])?; // [B, h, w, C, t, s, s]
    x.reshape((b, h, w, c * t * s * s))
}

/// A convolution whose channels become positions (a pixel shuffle), plus the shuffled and repeated input where the
/// resampling is residual. Of the clip's first frame only the last of the frames that it becomes is kept.
pub(super) struct Up {
    conv: Conv,
    inputs: usize,
    resample: Resample,
}

impl Up {
    pub(super) fn new(weights: &Weights, kind: Kind, inputs: usize, resample: Resample) -> Load<Self> {
        let (outputs, volume) = (resample.outputs, volume(resample.stride));
        let order = |x: &Tensor| positions_first(x, outputs, volume);
        let conv = Conv::reordered(&weights.pp("conv"), kind, inputs, outputs * volume, order)?;
        Ok(Self { conv, inputs, resample })
    }

    pub(super) fn stride(&self) -> [usize; 3] {
        self.resample.stride
    }

    fn push(&self, x: Tensor, state: &mut State) -> Result<Vec<Tensor>> {
        let residual = self.residual(state)?;
        let y = self.conv.push(x, &mut state.first, residual.as_ref())?;
        drop(residual);
        self.shuffled(y, state)
    }

    fn end(&self, state: &mut State) -> Result<Vec<Tensor>> {
        let residual = self.residual(state)?;
        let y = self.conv.end(&mut state.first, residual.as_ref())?;
        drop(residual);
        self.shuffled(y, state)
    }

    /// Returns what is added to the next result of the convolution, whose frame came last: its channels in the order
    /// position, repetition, channel.
    fn residual(&self, state: &State) -> Result<Option<Tensor>> {
        let (Some(x), true) = (state.first.last(), self.resample.residual) else { return Ok(None) };
        let (volume, (b, h, w, _)) = (volume(self.resample.stride), x.dims4()?);
        let channels = self.inputs / volume;
        let x = x.reshape(vec![b, h, w, channels, volume])?.transpose(3, 4)?.contiguous()?.unsqueeze(4)?;
        let x = Tensor::cat(&vec![&x; self.resample.outputs / channels], 4)?; // [B, H, W, volume, repeats, channels]
        x.reshape((b, h, w, volume * self.resample.outputs)).map(Some)
    }

    /// Returns the frames of the shuffled `x [B, H, W, volume·outputs]`, channels in the order frame, row, column, output.
    fn shuffled(&self, x: Option<Tensor>, state: &mut State) -> Result<Vec<Tensor>> {
        let Some(x) = x else { return Ok(Vec::new()) };
        let Resample { stride: [t, s, _], outputs, .. } = self.resample;
        let (b, h, w, _) = x.dims4()?;
        let x = x.reshape(vec![b, h, w, t, s, s * outputs])?;
        let skipped = if state.begun { 0 } else { t - 1 };
        state.begun = true;
        let frame = |index| {
            let x = x.narrow(3, index, 1)?.squeeze(3)?; // [B, H, W, s, s·outputs]
            x.transpose(2, 3)?.force_contiguous()?.reshape((b, h * s, w * s, outputs))
        };
        (skipped..t).map(frame).collect()
    }
}

/// Puts the first axis, whose order is output, position, into the order position, output.
pub(super) fn positions_first(x: &Tensor, outputs: usize, positions: usize) -> Result<Tensor> {
    let shape = x.dims().to_vec();
    let x = x.reshape((outputs, positions, ()))?.transpose(0, 1)?.contiguous()?;
    x.reshape(shape)
}

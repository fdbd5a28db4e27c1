//! The layers of an upsampler, over all frames of a clip.

use super::config::GROUPS;
use crate::ltx::layers::positions_first;
use candle_core::{DType, Result, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{FrameConv, FrameConvOptions, silu};

type Load<T> = kinora_checkpoint::Result<T>;

/// Added to variances.
const EPS: f64 = 1e-5;

/// Makes rows and columns of the channels of `x [B, H, W, s·s·C]`, whose order is row, column, channel: `[B, s·H, s·W, C]`.
pub(super) fn shuffled(x: &Tensor, s: usize) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    let c = c / (s * s);
    let x = x.reshape((b, h, w, s, s * c))?.transpose(2, 3)?.contiguous()?;
    x.reshape((b, h * s, w * s, c))
}

/// Blurs every channel of `x [B, H, W, C]` with `kernel [1, 1, 5, 5]` and keeps each `stride`-th row and column.
pub(super) fn blurred(x: &Tensor, kernel: &Tensor, stride: usize) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    let planes = x.to_dtype(DType::F32)?.permute((0, 3, 1, 2))?.reshape((b * c, 1, h, w))?;
    let planes = planes.conv2d(kernel, 2, stride, 1, 1)?;
    let (_, _, h, w) = planes.dims4()?;
    planes.reshape((b, c, h, w))?.permute((0, 2, 3, 1))?.contiguous()?.to_dtype(x.dtype())
}

/// A convolution over one frame, or over three with zeros around the clip.
pub(super) struct Conv {
    conv: FrameConv,
    taps: usize,
}

impl Conv {
    /// The 3×3×3 convolution.
    pub(super) fn new(weights: &Weights, inputs: usize, outputs: usize) -> Load<Self> {
        Self::packed(&weights.get("weight", (outputs, inputs, 3, 3, 3))?, &weights.get("bias", outputs)?, 3)
    }

    /// The convolution over `taps` frames whose `outputs·positions` results become positions: here their order is position,
    /// output.
    pub(super) fn shuffled(weights: &Weights, outputs: usize, taps: usize, positions: usize) -> Load<Self> {
        let made = outputs * positions;
        let weight = if taps == 1 {
            weights.get("weight", (made, outputs, 3, 3))?.unsqueeze(2)?
        } else {
            weights.get("weight", (made, outputs, taps, 3, 3))?
        };
        let bias = weights.get("bias", made)?;
        if !weight.is_contiguous() {
            return Self::packed(&weight, &bias, taps); // a placeholder
        }
        Self::packed(&positions_first(&weight, outputs, positions)?, &positions_first(&bias, outputs, positions)?, taps)
    }

    fn packed(weight: &Tensor, bias: &Tensor, taps: usize) -> Load<Self> {
        let options = FrameConvOptions { padding: (1, 1), ..Default::default() };
        Ok(Self { conv: FrameConv::new(weight, bias, options)?, taps })
    }

    /// Frees each frame when the last result that needs it is there.
    pub(super) fn forward(&self, frames: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let reach = self.taps / 2;
        let mut frames: Vec<Option<Tensor>> = frames.into_iter().map(Some).collect();
        let mut out = Vec::with_capacity(frames.len());
        for at in 0..frames.len() {
            let tap = |tap: usize| (at + tap).checked_sub(reach).and_then(|at| frames.get(at)?.as_ref());
            let taps: Vec<Option<&Tensor>> = (0..self.taps).map(tap).collect();
            out.push(self.conv.forward(&taps, None)?);
            if let Some(done) = at.checked_sub(reach) {
                frames[done] = None;
            }
        }
        Ok(out)
    }
}

/// Two convolutions, each before a norm, then `SiLU`, the second after the input was added.
pub(super) struct ResidualBlock {
    conv1: Conv,
    norm1: GroupNorm,
    conv2: Conv,
    norm2: GroupNorm,
}

impl ResidualBlock {
    pub(super) fn new(weights: &Weights, channels: usize) -> Load<Self> {
        Ok(Self {
            conv1: Conv::new(&weights.pp("conv1"), channels, channels)?,
            norm1: GroupNorm::new(&weights.pp("norm1"), channels)?,
            conv2: Conv::new(&weights.pp("conv2"), channels, channels)?,
            norm2: GroupNorm::new(&weights.pp("norm2"), channels)?,
        })
    }

    pub(super) fn forward(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let mut frames = self.conv1.forward(inputs.clone())?;
        self.norm1.apply(&mut frames)?;
        activate(&mut frames)?;
        let mut frames = self.conv2.forward(frames)?;
        self.norm2.apply(&mut frames)?;
        for (frame, input) in frames.iter_mut().zip(inputs) {
            *frame = silu(&(&*frame + input)?)?;
        }
        Ok(frames)
    }
}

pub(super) fn activate(frames: &mut [Tensor]) -> Result<()> {
    for frame in frames {
        *frame = silu(frame)?;
    }
    Ok(())
}

/// A norm over groups of channels of all positions of all frames, in f32.
pub(super) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
}

impl GroupNorm {
    pub(super) fn new(weights: &Weights, channels: usize) -> Load<Self> {
        let parameter = |name| weights.get_dtype(name, channels, DType::F32);
        Ok(Self { weight: parameter("weight")?.contiguous()?, bias: parameter("bias")?.contiguous()? })
    }

    /// Normalises a clip's frames `[B, H, W, C]`.
    pub(super) fn apply(&self, frames: &mut [Tensor]) -> Result<()> {
        let Some(first) = frames.first() else { return Ok(()) };
        let (b, h, w, c) = first.dims4()?;
        let count = (frames.len() * h * w * (c / GROUPS)) as f64;
        let ones = Tensor::ones((b, 1, h * w), DType::F32, first.device())?;
        // Sums over positions are products with ones; those of a group are spread over its channels again.
        let means = |frames: &[Tensor], f: &dyn Fn(&Tensor) -> Result<Tensor>| {
            let mut sums = Tensor::zeros((b, 1, c), DType::F32, ones.device())?;
            for frame in frames {
                sums = (sums + ones.matmul(&f(&frame.reshape((b, h * w, c))?.to_dtype(DType::F32)?)?)?)?;
            }
            let means = (sums.reshape((b, GROUPS, c / GROUPS))?.sum_keepdim(2)? / count)?;
            means.broadcast_as((b, GROUPS, c / GROUPS))?.contiguous()?.reshape((b, 1, c))
        };
        let mean = means(frames, &|x| Ok(x.clone()))?;
        let (shift, zeros) = (mean.neg()?, mean.zeros_like()?);
        let variance = means(frames, &|x| kinora_kernels::modulate(x, &shift, &zeros)?.sqr())?;
        let scale = (variance + EPS)?.sqrt()?.recip()?.broadcast_mul(&self.weight)?;
        let shift = (scale.mul(&shift)?).broadcast_add(&self.bias)?;
        let scale = (scale - 1.0)?;
        for frame in frames {
            let x = kinora_kernels::modulate(&frame.reshape((b, h * w, c))?, &shift, &scale)?;
            *frame = x.reshape((b, h, w, c))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_norm_takes_the_groups_of_all_frames_together() {
        let channels = 3 * GROUPS;
        let tensor = |shape: &[usize], f: &dyn Fn(usize) -> f64| {
            let values: Vec<f32> = (0..shape.iter().product()).map(|i| f(i) as f32).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape has")
        };
        // Means far from zero, which differ between frames.
        let frames: Vec<Tensor> = (0..2)
            .map(|frame| tensor(&[1, 2, 3, channels], &|i| 5.0 + f64::from(frame) + (0.7 * i as f64).sin()))
            .collect();
        let (weight, bias) = (tensor(&[channels], &|i| (i as f64).cos()), tensor(&[channels], &|i| 0.1 * i as f64));
        let norm = GroupNorm { weight, bias };
        let mut found = frames.clone();
        norm.apply(&mut found).expect("shapes fit");
        let values = |x: &Tensor| x.flatten_all().and_then(|x| x.to_vec1::<f32>()).expect("f32");
        let inputs: Vec<f64> = frames.iter().flat_map(values).map(f64::from).collect();
        for (at, found) in found.iter().flat_map(values).enumerate() {
            let channel = at % channels;
            let group: Vec<f64> = (0..inputs.len())
                .filter(|other| other % channels / 3 == channel / 3)
                .map(|other| inputs[other])
                .collect();
            let mean = group.iter().sum::<f64>() / group.len() as f64;
            let variance = group.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / group.len() as f64;
            let normed = (inputs[at] - mean) / (variance + EPS).sqrt();
            let expected = normed * (channel as f64).cos() + 0.1 * channel as f64;
            assert!((f64::from(found) - expected).abs() < 1e-5, "{at}: {found}, {expected}");
        }
    }
}

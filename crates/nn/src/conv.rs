//! Convolutions of the causal video VAEs, as in the Wan VAE
//! (<https://github.com/Wan-Video/Wan2.2/blob/42bf4cfaa384/wan/modules/vae2_2.py>). Frames are `[B, H, W, C]`.

use candle_core::{Result, Tensor, bail};
use kinora_checkpoint::Weights;
use kinora_kernels::{FrameConv, FrameConvOptions};

/// A 3-D convolution over present and past frames only. It takes as many frames at a time as make one frame of the result;
/// the past frames that it needs are in an explicit causal cache, one per layer and clip.
pub struct CausalConv3d {
    conv: FrameConv,
    kernel: usize,
    stride: usize,
}

/// The last input frames of a [`CausalConv3d`], oldest first; none at the start of a clip.
#[derive(Debug, Clone, Default)]
pub struct CausalCache {
    frames: Vec<Tensor>,
}

impl CausalCache {
    /// Returns the causal cache of a layer whose last frame was `frame`.
    pub fn of(frame: Tensor) -> Self {
        Self { frames: vec![frame] }
    }
}

impl CausalConv3d {
    /// Reads `weight [outputs, inputs, kf, kh, kw]` and `bias [outputs]`; `stride` is over frames, at most `kf`, and
    /// `padding` is added on all sides of rows and columns.
    pub fn new(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        kernel: [usize; 3],
        stride: usize,
        padding: usize,
    ) -> kinora_checkpoint::Result<Self> {
        let [kf, kh, kw] = kernel;
        if stride == 0 || stride > kf {
            return Err(
                candle_core::Error::Msg(format!("causal conv3d: stride {stride} over kernel {kernel:?}")).into()
            );
        }
        let weight = weights.get("weight", (outputs, inputs, kf, kh, kw))?;
        let options = FrameConvOptions { padding: (padding, padding), ..Default::default() };
        let conv = FrameConv::new(&weight, &weights.get("bias", outputs)?, options)?;
        Ok(Self { conv, kernel: kf, stride })
    }

    /// Takes the next frames, as many as the stride, `[B, H, W, C]`, and returns one frame `[B, H', W', O]`, plus `residual`
    /// of that shape.
    ///
    /// The `kf - stride` input frames before them come from `cache`, or are zeros at the clip's start, and the last input
    /// frames are left there. They are kept whole, because a view would keep the whole tensor alive.
    pub fn forward(&self, frames: &[Tensor], cache: &mut CausalCache, residual: Option<&Tensor>) -> Result<Tensor> {
        if frames.len() != self.stride {
            bail!("causal conv3d takes {} frames at a time, not {}", self.stride, frames.len());
        }
        cache.frames.extend_from_slice(frames);
        let excess = cache.frames.len().saturating_sub(self.kernel);
        cache.frames.drain(..excess);
        let absent = std::iter::repeat_n(None, self.kernel - cache.frames.len());
        let taps: Vec<Option<&Tensor>> = absent.chain(cache.frames.iter().map(Some)).collect();
        let out = self.conv.forward(&taps, residual)?;
        let excess = cache.frames.len().saturating_sub(self.kernel - self.stride);
        cache.frames.drain(..excess);
        Ok(out)
    }
}

/// A 2-D convolution, or a linear layer as one.
pub struct Conv2d {
    conv: FrameConv,
}

impl Conv2d {
    /// Reads `weight [outputs, inputs, kernel, kernel]` and `bias [outputs]`.
    pub fn new(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        options: FrameConvOptions,
    ) -> kinora_checkpoint::Result<Self> {
        let weight = weights.get("weight", (outputs, inputs, kernel, kernel))?.unsqueeze(2)?; // [O, C, 1, k, k]
        Ok(Self { conv: FrameConv::new(&weight, &weights.get("bias", outputs)?, options)? })
    }

    /// `x [B, H, W, C]` → `[B, H', W', O]`, plus `residual` of that shape.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        self.conv.forward(&[Some(x)], residual)
    }
}

//! Convolutions of the causal video VAEs, as in the Wan VAE
//! (<https://github.com/Wan-Video/Wan2.2/blob/42bf4cfaa384/wan/modules/vae2_2.py>). Frames are `[B, H, W, C]`.

use candle_core::{Result, Tensor, bail};
use kinora_checkpoint::Weights;
use kinora_kernels::{FrameConv, FrameConvOptions};

/// A 3-D convolution that sees the present and the past only, fed as many frames at a time as make one frame.
///
/// What it must remember of the past is an explicit causal cache, one per layer and clip.
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
    /// A cache whose layer saw `frame` last.
    pub fn of(frame: Tensor) -> Self {
        Self { frames: vec![frame] }
    }
}

impl CausalConv3d {
    /// Reads `weight [outputs, inputs, kf, kh, kw]` and `bias [outputs]`; `stride` is that over frames, at most `kf`,
    /// and `padding` that of rows and columns, on all sides.
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

    /// The next frames, as many as the stride, `[B, H, W, C]` → one frame `[B, H', W', O]`, plus `residual` of that
    /// shape.
    ///
    /// Takes the `kf - stride` input frames before them from `cache`, zeros where the clip has not that many, and
    /// leaves the new last ones there. They are kept as they are: views would keep alive what they are views of.
    pub fn forward(&self, frames: &[Tensor], cache: &mut CausalCache, residual: Option<&Tensor>) -> Result<Tensor> {
        if frames.len() != self.stride {
            bail!("causal conv3d: {} frames at a time, not {}", self.stride, frames.len());
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

//! Convolutions of the causal video VAEs, as in the Wan VAE
//! (<https://github.com/Wan-Video/Wan2.2/blob/main/wan/modules/vae2_2.py>).

use candle_core::{Result, Tensor, bail};
use kinora_checkpoint::Weights;
use kinora_kernels::{Conv3dOptions, conv3d};

/// A 3-D convolution that sees the present and the past only, fed a few frames at a time.
///
/// What it must remember of the past is an explicit causal cache, one per layer and clip, which starts as `None`.
pub struct CausalConv3d {
    weight: Tensor,
    bias: Tensor,
    options: Conv3dOptions,
    /// Input frames that the next chunk needs again.
    overlap: usize,
}

impl CausalConv3d {
    /// Reads `weight [outputs, inputs, kf, kh, kw]` and `bias [outputs]`; `padding` is that of rows and of columns.
    ///
    /// The temporal stride must not exceed `kf`.
    pub fn new(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        kernel: [usize; 3],
        stride: [usize; 3],
        padding: [usize; 2],
    ) -> kinora_checkpoint::Result<Self> {
        let [kf, kh, kw] = kernel;
        let Some(overlap) = kf.checked_sub(stride[0]) else {
            return Err(
                candle_core::Error::Msg(format!("causal conv3d: stride {stride:?} over kernel {kernel:?}")).into()
            );
        };
        let weight = weights.get("weight", (outputs, inputs, kf, kh, kw))?;
        let padding = [(0, 0), (padding[0], padding[0]), (padding[1], padding[1])];
        let options = Conv3dOptions { stride, padding };
        Ok(Self { weight, bias: weights.get("bias", outputs)?, options, overlap })
    }

    /// The next frames `x [B, C, F, H, W]` → `[B, O, F', H', W']`.
    ///
    /// Prepends the `kf - stride` last input frames from `cache`, or zeros when it is `None`, and leaves the new last
    /// ones there. With a temporal stride, `F` must be a multiple of it, and `F' = F / stride`.
    pub fn forward(&self, x: &Tensor, cache: &mut Option<Tensor>) -> Result<Tensor> {
        let (b, c, f, h, w) = x.dims5()?;
        if f % self.options.stride[0] != 0 {
            bail!("causal conv3d: {f} frames are not a multiple of the stride {}", self.options.stride[0]);
        }
        if self.overlap == 0 {
            return conv3d(x, &self.weight, Some(&self.bias), self.options);
        }
        let past = match cache.take() {
            Some(past) => past,
            None => Tensor::zeros((b, c, self.overlap, h, w), x.dtype(), x.device())?,
        };
        let x = Tensor::cat(&[&past, x], 2)?; // [B, C, overlap + F, H, W]
        // A copy: a view would keep the whole chunk alive.
        *cache = Some(x.narrow(2, f, self.overlap)?.force_contiguous()?);
        conv3d(&x, &self.weight, Some(&self.bias), self.options)
    }
}

/// A 2-D convolution applied to every frame.
pub struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    options: Conv3dOptions,
}

impl Conv2d {
    /// Reads `weight [outputs, inputs, kernel, kernel]` and `bias [outputs]`; `padding` is that before and after, the
    /// same for rows and columns: `(0, 1)` pads below and on the right only.
    pub fn new(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        padding: (usize, usize),
    ) -> kinora_checkpoint::Result<Self> {
        let weight = weights.get("weight", (outputs, inputs, kernel, kernel))?.unsqueeze(2)?; // [O, C, 1, k, k]
        let options = Conv3dOptions { stride: [1, stride, stride], padding: [(0, 0), padding, padding] };
        Ok(Self { weight, bias: weights.get("bias", outputs)?, options })
    }

    /// `x [B, C, F, H, W]` → `[B, O, F, H', W']`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv3d(x, &self.weight, Some(&self.bias), self.options)
    }
}

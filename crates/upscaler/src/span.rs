//! SPAN, the "swift parameter-free attention network" for enlarging pictures, with 48 channels and four times as many pixels
//! per side (<https://arxiv.org/abs/2311.12770>). Names and graph are those of the original release
//! (<https://github.com/hongyuanyu/SPAN/blob/138efa38d99238a6a8fe20ee5f7325747448f0b4/basicsr/archs/span_arch.py>), whose training-time
//! branches are merged into one convolution each.

use candle_core::{DType, Device, Result, Tensor};
use kinora_checkpoint::{TensorFile, Weights};
use kinora_kernels::{FrameConv, FrameConvOptions, parameter_free_attention, silu};
use kinora_nn::Conv2d;

/// Pixels per side that the network makes of one.
pub const SCALE: usize = 4;
/// Channels of every layer.
pub(crate) const CHANNELS: usize = 48;
/// Channels before the pixel shuffle.
pub(crate) const SHUFFLED: usize = 3 * SCALE * SCALE;
/// Blocks of three convolutions each.
pub(crate) const BLOCKS: usize = 6;
/// Pixels to each side that a pixel of the result depends on: one for each 3×3 convolution in a row.
pub(crate) const REACH: usize = 1 + 3 * BLOCKS + 1 + 1;
/// The largest value of a colour, as the network takes them.
const LARGEST: f64 = 255.0;

type Load<T> = kinora_checkpoint::Result<T>;

/// The network.
pub struct Span {
    mean: Tensor,
    conv_1: Conv2d,
    blocks: Vec<Block>,
    conv_2: Conv2d,
    conv_cat: Concatenated,
    upsampler: Conv2d,
    device: Device,
    dtype: DType,
}

impl Span {
    /// Reads the network that is compiled into the program, to compute on `device` in `dtype`.
    ///
    /// # Errors
    /// Whatever candle fails on.
    pub fn embedded(device: &Device, dtype: DType) -> Load<Self> {
        let file = TensorFile::from_static("span_x4.safetensors", kinora_span::WEIGHTS)?;
        let weights = Weights::from_files(vec![file], &[], device, dtype)?;
        let network = Self::new(&weights)?;
        weights.finish()?;
        Ok(network)
    }

    /// Reads the network from `weights`, with the names of the original release.
    ///
    /// # Errors
    /// A tensor that is missing or misshapen.
    pub fn new(weights: &Weights) -> Load<Self> {
        Ok(Self {
            mean: weights.get("mean", 3)?,
            conv_1: conv3(&weights.pp("conv_1.eval_conv"), 3, CHANNELS)?,
            blocks: (1..=BLOCKS).map(|block| Block::new(&weights.pp(format!("block_{block}")))).collect::<Load<_>>()?,
            conv_2: conv3(&weights.pp("conv_2.eval_conv"), CHANNELS, CHANNELS)?,
            conv_cat: Concatenated::new(&weights.pp("conv_cat"))?,
            upsampler: conv3(&weights.pp("upsampler.0"), CHANNELS, SHUFFLED)?,
            device: weights.device().clone(),
            dtype: weights.dtype(),
        })
    }

    /// Returns the device that the network computes on.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Takes pictures `x [B, H, W, 3]` in 0..1, any dtype, on the network's device, and returns f32 `[B, H, W, 48]` on it, nominally
    /// 0..1: of each pixel, for each of three colours, the [`SCALE`]×[`SCALE`] pixels that it becomes, row by row.
    ///
    /// # Errors
    /// Pictures of another shape; whatever candle fails on.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x.to_dtype(self.dtype)?.broadcast_sub(&self.mean)? * LARGEST)?;
        let first = self.conv_1.forward(&x, None)?; // [B, H, W, 48], as all that follow
        let (mut x, mut activated) = (first.clone(), None);
        let mut after_block_1 = None;
        for block in &self.blocks {
            drop(activated.take());
            let (result, first_activation) = block.forward(&x)?;
            (x, activated) = (result, Some(first_activation));
            after_block_1.get_or_insert_with(|| x.clone());
        }
        let last = self.conv_2.forward(&x, None)?;
        drop(x);
        let parts = [Some(first), Some(last), after_block_1, activated];
        let x = self.conv_cat.forward(parts.into_iter().flatten())?;
        self.upsampler.forward(&x, None)?.to_dtype(DType::F32)
    }
}

/// Three convolutions, and the attention that their result pays to itself.
#[expect(clippy::struct_field_names, reason = "the names of the release")]
struct Block {
    c1_r: Conv2d,
    c2_r: Conv2d,
    c3_r: Conv2d,
}

impl Block {
    fn new(weights: &Weights) -> Load<Self> {
        let conv = |name: &str| conv3(&weights.pp(name).pp("eval_conv"), CHANNELS, CHANNELS);
        Ok(Self { c1_r: conv("c1_r")?, c2_r: conv("c2_r")?, c3_r: conv("c3_r")? })
    }

    /// `x [B, H, W, C]` → the block's result and its first activation, of that shape.
    fn forward(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let activated = silu(&self.c1_r.forward(x, None)?)?;
        let y = self.c3_r.forward(&silu(&self.c2_r.forward(&activated, None)?)?, None)?;
        Ok((parameter_free_attention(x, &y)?, activated))
    }
}

/// The 1×1 convolution over several concatenated tensors, as a sum of one over each: the concatenation would be a copy of them all.
struct Concatenated(Vec<FrameConv>);

impl Concatenated {
    fn new(weights: &Weights) -> Load<Self> {
        const PARTS: usize = 4;
        let weight = weights.get("weight", (CHANNELS, PARTS * CHANNELS, 1, 1))?.unsqueeze(2)?; // [O, C, 1, 1, 1]
        let bias = weights.get("bias", CHANNELS)?;
        let zeros = bias.zeros_like()?;
        let conv = |part: usize| {
            let weight = weight.narrow(1, part * CHANNELS, CHANNELS)?.contiguous()?;
            FrameConv::new(&weight, if part == 0 { &bias } else { &zeros }, FrameConvOptions::default())
        };
        Ok(Self((0..PARTS).map(conv).collect::<Result<_>>()?))
    }

    /// `parts`, each `[B, H, W, C]` → `[B, H, W, C]`; each part is freed when it was multiplied.
    fn forward(&self, parts: impl Iterator<Item = Tensor>) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for (conv, part) in self.0.iter().zip(parts) {
            sum = Some(conv.forward(&[Some(&part)], sum.as_ref())?);
        }
        sum.ok_or_else(|| candle_core::Error::Msg("no tensors to concatenate".into()))
    }
}

/// The 3×3 convolution that keeps the size.
fn conv3(weights: &Weights, inputs: usize, outputs: usize) -> Load<Conv2d> {
    Conv2d::new(weights, inputs, outputs, 3, FrameConvOptions { padding: (1, 1), ..FrameConvOptions::default() })
}

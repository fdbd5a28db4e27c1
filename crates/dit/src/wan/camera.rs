//! `control_adapter`: embeds the rays of a camera, to be added to the tokens of the latents.
//!
//! Architecture and names after
//! <https://github.com/aigc-apps/VideoX-Fun/blob/804a4258e260/videox_fun/models/wan_camera_adapter.py>. It runs once per clip, a
//! frame at a time, so that its unfolded 3×3 neighbourhoods stay small.

use super::WanConfig;
use crate::Result;
use candle_core::{DType, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{Epilogue, LinearWeight, linear};

/// Channels of the rays per latent frame: six numbers for each of four frames.
pub(super) const CHANNELS: usize = 24;
/// Rows and columns of rays per row and column of latents, unless a model says another number: those of its VAE.
pub(super) const SCALE: usize = 8;

pub(super) struct CameraAdapter {
    conv: Conv,
    first: Conv,
    second: Conv,
    patch: [usize; 2],
    scale: usize,
}

impl CameraAdapter {
    pub(super) fn new(config: &WanConfig, weights: &Weights) -> Result<Self> {
        let (dim, [_, ph, pw], scale) = (config.dim(), config.patch_size, config.camera_scale);
        // The adapter adds to a model that works without it.
        let weights = weights.allowing_zeros();
        let block = weights.pp("residual_blocks").pp(0);
        Ok(Self {
            conv: Conv::new(&weights.pp("conv"), [dim, CHANNELS * scale * scale, ph, pw])?,
            first: Conv::new(&block.pp("conv1"), [dim, dim, 3, 3])?,
            second: Conv::new(&block.pp("conv2"), [dim, dim, 3, 3])?,
            patch: [ph, pw],
            scale,
        })
    }

    /// `rays [B, 24, F, s·H, s·W]`, s the scale, → `[B, L, dim]`.
    pub(super) fn forward(&self, rays: &Tensor) -> Result<Tensor> {
        let frames = rays.dim(2)?;
        let frame = |i| self.frame(&rays.narrow(2, i, 1)?.squeeze(2)?);
        Ok(Tensor::cat(&(0..frames).map(frame).collect::<Result<Vec<_>>>()?, 1)?)
    }

    /// `[B, 24, s·H, s·W]` → `[B, h·w, dim]`.
    fn frame(&self, rays: &Tensor) -> Result<Tensor> {
        let patches = patches(rays, self.patch, self.scale)?; // [B, h, w, 24·s·s·ph·pw]
        let x = self.conv.forward(&patches, Epilogue::None)?; // [B, h, w, dim]
        let y = self.first.forward(&neighbourhoods(&x)?, Epilogue::None)?.relu()?;
        let x = self.second.forward(&neighbourhoods(&y)?, Epilogue::Residual(&x))?;
        Ok(x.flatten(1, 2)?)
    }
}

/// Unshuffles squares of rays into channels, and squares of those into patches: `[B, C, s·H, s·W]` →
/// `[B, h, w, C·s·s·ph·pw]`.
fn patches(rays: &Tensor, [ph, pw]: [usize; 2], s: usize) -> Result<Tensor> {
    let (b, c, rows, columns) = rays.dims4()?;
    let (h, w) = (rows / s / ph, columns / s / pw);
    Ok(rays
        .reshape(vec![b, c, h, ph, s, w, pw, s])? // [B, C, h, ph, s, w, pw, s]
        .permute(vec![0, 2, 5, 1, 4, 7, 3, 6])? // [B, h, w, C, s, s, ph, pw]
        .reshape((b, h, w, c * s * s * ph * pw))?)
}

/// Returns the 3×3 neighbourhood of each position, zeros past the edges: `x [B, h, w, C]` → `[B, h, w, C·3·3]`.
fn neighbourhoods(x: &Tensor) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    let padded = x.pad_with_zeros(1, 1, 1)?.pad_with_zeros(2, 1, 1)?; // [B, h + 2, w + 2, C]
    let shifted = |i: usize| padded.narrow(1, i / 3, h)?.narrow(2, i % 3, w);
    let shifted = (0..9).map(shifted).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::stack(&shifted, 4)?.reshape((b, h, w, c * 9))?)
}

/// A convolution as a linear layer over the neighbourhood of each position.
struct Conv {
    weight: LinearWeight,
    bias: Tensor,
}

impl Conv {
    /// `weight [out, in, kh, kw]`, `bias [out]`.
    fn new(weights: &Weights, kernel: [usize; 4]) -> Result<Self> {
        let weight = weights.get("weight", kernel.to_vec())?.flatten_from(1)?;
        Ok(Self { weight: LinearWeight::new(&weight)?, bias: weights.get_dtype("bias", kernel[0], DType::F32)? })
    }

    /// `[.., in·kh·kw]` → `[.., out]`.
    fn forward(&self, x: &Tensor, epilogue: Epilogue) -> Result<Tensor> {
        Ok(linear(x, &self.weight, Some(&self.bias), epilogue)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Every ray of a patch is there once, in the order of the convolution's weights: channel, row and column within the
    /// square, row and column of the patch.
    #[test]
    fn patches_hold_the_rays_of_their_squares() {
        for (s, ph, pw) in [(8, 2, 2), (16, 2, 1)] {
            let (c, rows, columns) = (3, 2 * s * ph, 3 * s * pw);
            let rays = Tensor::arange(0u32, (c * rows * columns) as u32, &Device::Cpu).unwrap();
            let found = patches(&rays.reshape((1, c, rows, columns)).unwrap(), [ph, pw], s).unwrap();
            assert_eq!(found.dims(), [1, 2, 3, c * s * s * ph * pw]);
            let found: Vec<u32> =
                found.narrow(1, 1, 1).unwrap().narrow(2, 2, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let mut index = 0;
            for channel in 0..c {
                for (y, x) in (0..s).flat_map(|y| (0..s).map(move |x| (y, x))) {
                    for (py, px) in (0..ph).flat_map(|py| (0..pw).map(move |px| (py, px))) {
                        let (row, column) = ((ph + py) * s + y, (2 * pw + px) * s + x);
                        assert_eq!(found[index], ((channel * rows + row) * columns + column) as u32);
                        index += 1;
                    }
                }
            }
        }
    }
}

//! The Wan transformer: 2.1 (1.3B, 14B), 2.2 A14B (one of these per expert) and 2.2 TI2V-5B (one timestep per token).
//!
//! All follow a text. Image-to-video models also attend to pictures (2.1) and have more channels appended to the latents;
//! VACE has control blocks, Fun-Camera an adapter for the rays of a camera.
//!
//! Architecture and names after
//! <https://github.com/Wan-Video/Wan2.1/blob/main/wan/modules/model.py> and
//! <https://github.com/Wan-Video/Wan2.2/blob/main/wan/modules/model.py>; the dtypes of single operations after
//! <https://github.com/huggingface/diffusers/blob/main/src/diffusers/models/transformers/transformer_wan.py>:
//! the timestep's embedding, norms, modulation and gates are f32 in a model of any dtype, angles of positions are f64.

mod block;
mod blocks;
mod camera;
mod config;
mod control;
mod image;
mod inputs;
mod keys;
mod memory;
mod padding;
mod patch;
mod rope;
mod time;

use crate::{ComputeAll, Conditioning, CrossKeysValues, Prepared, Result, Reuse, VideoDit};
use block::{Pass, modulated};
use blocks::Blocks;
use camera::CameraAdapter;
use candle_core::{DType, Device, Tensor};
pub use config::WanConfig;
use control::ControlBranch;
use image::ImageEmbedding;
use inputs::{check_conditioning, check_forward};
pub use keys::canonical_from_diffusers;
use kinora_checkpoint::Weights;
use kinora_kernels::{Epilogue, Replay};
use kinora_nn::Linear;
use padding::without_repetitions;
use patch::{PatchEmbedding, unpatchify};
use rope::Rope;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use time::{Time, TimeEmbedding};

/// A Wan transformer.
pub struct WanModel {
    config: WanConfig,
    dtype: DType,
    patch_embedding: PatchEmbedding,
    text_embedding: TextEmbedding,
    time_embedding: TimeEmbedding,
    image_embedding: Option<ImageEmbedding>,
    camera_adapter: Option<CameraAdapter>,
    blocks: Blocks,
    control: Option<ControlBranch>,
    head: Head,
    /// The last clip's.
    rope: Mutex<Option<([usize; 3], Arc<Rope>)>>,
}

impl WanModel {
    /// Reads the weights, by their original names.
    ///
    /// # Errors
    /// A configuration that makes no sense; missing or misshapen tensors.
    pub fn new(config: &WanConfig, weights: &Weights) -> Result<Self> {
        config.validate()?;
        Self::with_blocks(config, weights, || Blocks::resident(config, weights))
    }

    /// The same for a CUDA device that has no room for all weights: those of the blocks wait in the host's memory, and are
    /// copied while the blocks before compute. The numbers are the same. Making it takes room for three blocks.
    ///
    /// # Errors
    /// Those of [`WanModel::new`]; another device, too little memory.
    pub fn streamed(config: &WanConfig, weights: &Weights) -> Result<Self> {
        config.validate()?;
        Self::with_blocks(config, weights, || Blocks::streamed(config, weights))
    }

    fn with_blocks(config: &WanConfig, weights: &Weights, blocks: impl FnOnce() -> Result<Blocks>) -> Result<Self> {
        let control = config.vace_in_channels.map(|channels| ControlBranch::new(config, channels, weights));
        // Little work, and errors that every block would see.
        let unrounded = &weights.with_quant(None);
        let image = config.image_dim.map(|width| ImageEmbedding::new(config, width, &unrounded.pp("img_emb")));
        let camera = config.camera.then(|| CameraAdapter::new(config, &unrounded.pp("control_adapter")));
        Ok(Self {
            patch_embedding: PatchEmbedding::new(config, config.in_channels, &unrounded.pp("patch_embedding"))?,
            text_embedding: TextEmbedding::new(config, &unrounded.pp("text_embedding"))?,
            time_embedding: TimeEmbedding::new(config, unrounded)?,
            image_embedding: image.transpose()?,
            camera_adapter: camera.transpose()?,
            blocks: blocks()?,
            control: control.transpose()?,
            head: Head::new(config, &unrounded.pp("head"))?,
            rope: Mutex::default(),
            config: config.clone(),
            dtype: weights.dtype(),
        })
    }

    /// The model's dimensions.
    pub fn config(&self) -> &WanConfig {
        &self.config
    }

    /// The angles of `grid`'s tokens, which stay the same over all steps of a clip.
    fn rope(&self, grid: [usize; 3], device: &Device) -> Result<Arc<Rope>> {
        let mut last = self.rope.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, rope)) = &*last
            && *of == grid
        {
            return Ok(rope.clone());
        }
        let rope = Arc::new(Rope::new(self.config.head_dim, grid, device)?);
        *last = Some((grid, rope.clone()));
        Ok(rope)
    }

    /// Whether passes over `grid`'s tokens are so small that queueing their kernels is much of their time.
    fn replays(&self, grid: [usize; 3]) -> bool {
        self.config.replay_bytes(grid.iter().product(), self.dtype) > 0 && self.blocks.are_resident()
    }

    /// `x [B, L, dim]` → the same.
    fn through_blocks(&self, mut x: Tensor, pass: &Pass, reuse: &mut dyn Reuse) -> Result<Tensor> {
        let mut control = match (&self.control, &pass.prepared.control) {
            (Some(branch), Some(control)) => Some(branch.stream(&x, control)?),
            _ => None,
        };
        let mut reused = false;
        self.blocks.each(&mut |i, block| {
            let mut next = block.forward(&x, pass, i)?;
            if let Some(stream) = &mut control {
                next = stream.after_block(i, next, pass, self.blocks.len())?;
            }
            if i == 0
                && let Some(last) = reuse.after_first_block(&x, &next)?
            {
                (x, reused) = (last, true);
                return Ok(ControlFlow::Break(()));
            }
            x = next;
            Ok(ControlFlow::Continue(()))
        })?;
        if !reused {
            reuse.after_last_block(&x)?;
        }
        Ok(x)
    }

    /// Keys and values of every block's cross-attention, those of the control blocks last, if they take `cache_bytes` at
    /// most; `context [B, S, dim]`, `image [B, T, dim]`.
    fn cross_keys_values(
        &self,
        context: &Tensor,
        image: Option<&Tensor>,
        cache_bytes: usize,
    ) -> Result<Vec<CrossKeysValues>> {
        let control = || self.control.iter().flat_map(ControlBranch::blocks);
        let elements = context.elem_count() + image.map_or(0, Tensor::elem_count);
        let bytes = 2 * (self.blocks.len() + control().count()) * elements * self.dtype.size_in_bytes();
        if bytes > cache_bytes {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        self.blocks.each(&mut |_, block| {
            found.push(block.cross_keys_values(context, image)?);
            Ok(ControlFlow::Continue(()))
        })?;
        for block in control() {
            found.push(block.cross_keys_values(context, image)?);
        }
        Ok(found)
    }
}

impl VideoDit for WanModel {
    fn prepare(&self, conditioning: &Conditioning, cache_bytes: usize) -> Result<Prepared> {
        let sizes = check_conditioning(&self.config, conditioning)?;
        let (dim, dtype) = (self.config.dim(), self.dtype);
        let (context, bias) = without_repetitions(&conditioning.context.to_dtype(dtype)?)?;
        let context = self.text_embedding.forward(&context)?; // [B, S, dim]
        let image = self.image_embedding.as_ref().zip(conditioning.image.as_ref());
        let image = image.map(|(net, image)| net.forward(&image.to_dtype(dtype)?)).transpose()?; // [B, T, dim]
        let control = self.control.as_ref().zip(conditioning.control.as_ref());
        let camera = self.camera_adapter.as_ref().zip(conditioning.camera.as_ref());
        Ok(Prepared {
            latents: conditioning.latents.as_ref().map(|latents| latents.to_dtype(dtype)).transpose()?,
            control: control.map(|(net, control)| net.prepare(control, dim, dtype)).transpose()?,
            camera: camera.map(|(net, rays)| net.forward(&rays.to_dtype(dtype)?)).transpose()?,
            sizes,
            cross: self.cross_keys_values(&context, image.as_ref(), cache_bytes)?,
            context,
            bias,
            image,
            replay: Replay::default(),
        })
    }

    fn forward_with(
        &self,
        latents: &Tensor,
        timestep: &Tensor,
        prepared: &Prepared,
        reuse: &mut dyn Reuse,
    ) -> Result<Tensor> {
        let grid = check_forward(&self.config, latents, timestep, prepared)?;
        let rope = self.rope(grid, latents.device())?;
        let time = self.time_embedding.forward(timestep, latents.device())?;
        let latents = latents.to_dtype(self.dtype)?;
        let latents = match &prepared.latents {
            Some(appended) => Tensor::cat(&[&latents, appended], 1)?, // [B, C_in, F, H, W]
            None => latents,
        };
        let x = self.patch_embedding.forward(&latents, prepared.camera.as_ref())?; // [B, L, dim]
        // [B, L, pt·ph·pw·C]
        let x = if self.replays(grid)
            && !reuse.concerns()
            && let Some([embedding, projection]) = time.of_clips()
        {
            let through = |inputs: &[Tensor]| {
                let time = Time::of(inputs[1].clone(), inputs[2].clone());
                let pass = Pass { time: &time, rope: &rope, prepared };
                self.head.forward(&self.through_blocks(inputs[0].clone(), &pass, &mut ComputeAll)?, &time)
            };
            prepared.replay.run(&[x, embedding, projection], || Box::new(rope.clone()), through)?
        } else {
            let x = match reuse.before_blocks(&x, time.embedding())? {
                Some(x) => x,
                None => self.through_blocks(x, &Pass { time: &time, rope: &rope, prepared }, reuse)?,
            };
            self.head.forward(&x, &time)?
        };
        Ok(unpatchify(&x, grid, self.config.patch_size)?)
    }

    fn patch_size(&self) -> [usize; 3] {
        self.config.patch_size
    }

    fn in_channels(&self) -> usize {
        self.config.in_channels
    }

    fn out_channels(&self) -> usize {
        self.config.out_channels
    }
}

/// `text_embedding`. It makes a constant, not a zero, of the context's padding.
struct TextEmbedding {
    first: Linear,
    second: Linear,
}

impl TextEmbedding {
    fn new(config: &WanConfig, weights: &Weights) -> Result<Self> {
        let dim = config.dim();
        let first = Linear::new(&weights.pp(0), config.text_dim, dim)?;
        Ok(Self { first, second: Linear::new(&weights.pp(2), dim, dim)? })
    }

    /// `[B, S, text_dim]` → `[B, S, dim]`.
    fn forward(&self, context: &Tensor) -> Result<Tensor> {
        Ok(self.second.forward(&self.first.forward_then(context, Epilogue::GeluTanh)?)?)
    }
}

/// `head`: modulated by the timestep's embedding itself, not by its projection.
struct Head {
    modulation: Tensor,
    projection: Linear,
    eps: f64,
}

impl Head {
    fn new(config: &WanConfig, weights: &Weights) -> Result<Self> {
        let dim = config.dim();
        let outputs = config.out_channels * config.patch_size.iter().product::<usize>();
        Ok(Self {
            modulation: weights.get_dtype("modulation", (1, 2, dim), DType::F32)?,
            projection: Linear::new(&weights.pp("head"), dim, outputs)?,
            eps: config.eps,
        })
    }

    /// `[B, L, dim]` → `[B, L, pt·ph·pw·C]`.
    fn forward(&self, x: &Tensor, time: &Time) -> Result<Tensor> {
        let [shift, scale] = time.for_head(&self.modulation)?;
        Ok(self.projection.forward_after(x, modulated(&shift, &scale, self.eps))?)
    }
}

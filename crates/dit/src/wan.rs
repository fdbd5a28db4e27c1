//! The Wan transformer: 2.1 (1.3B, 14B), 2.2 A14B (one of these per expert) and 2.2 TI2V-5B (one timestep per token).
//!
//! All are conditioned on a text. Image-to-video models also attend to pictures (2.1) and have more channels appended to
//! the latents; VACE has control blocks, Fun-Camera an adapter for the rays of a camera.
//!
//! Architecture and names after
//! <https://github.com/Wan-Video/Wan2.1/blob/9737cba9c1c3/wan/modules/model.py> and
//! <https://github.com/Wan-Video/Wan2.2/blob/42bf4cfaa384/wan/modules/model.py>; the dtypes of single operations after
//! <https://github.com/huggingface/diffusers/blob/v0.42.1/src/diffusers/models/transformers/transformer_wan.py>:
//! the timestep's embedding, norms, modulation and gates are f32 in a model of any dtype, angles of positions are f64.

mod block;
mod camera;
mod config;
mod control;
mod image;
mod inputs;
mod keys;
mod memory;
mod padding;
mod patch;
mod positions;
mod prepared;
mod rope;
mod time;

use crate::stack::{KvCache, Stack};
use crate::{Conditioning, Result, Reuse, Sparse, VideoDit};
use block::{Block, Pass, modulated};
use camera::CameraAdapter;
use candle_core::{DType, Device, Tensor};
pub use config::WanConfig;
use control::ControlBranch;
use image::ImageEmbedding;
use inputs::{check_conditioning, check_forward};
pub use keys::canonical_from_diffusers;
use kinora_checkpoint::Weights;
use kinora_kernels::Epilogue;
use kinora_nn::Linear;
use padding::without_repetitions;
use patch::{PatchEmbedding, unpatchify};
use positions::Positions;
use prepared::{CrossKeysValues, Prepared};
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
    blocks: Stack<Block>,
    control: Option<ControlBranch>,
    head: Head,
    /// The positions of the last clip.
    positions: Mutex<Option<Arc<Positions>>>,
}

impl WanModel {
    /// Reads the weights, by their original names.
    ///
    /// # Errors
    /// A configuration that makes no sense; missing or misshapen tensors.
    pub fn new(config: &WanConfig, weights: &Weights) -> Result<Self> {
        Self::with_blocks(config, weights, |load| Stack::resident(config.num_layers, weights, load))
    }

    /// Reads the weights for a CUDA device that has no room for all of them: the blocks are streamed from host memory,
    /// each while the one before it computes. The bits are the same. Loading takes room for three blocks.
    ///
    /// # Errors
    /// As [`WanModel::new`]; another device, or too little memory.
    pub fn streamed(config: &WanConfig, weights: &Weights) -> Result<Self> {
        Self::with_blocks(config, weights, |load| Stack::streamed(config.num_layers, weights, load))
    }

    fn with_blocks(
        config: &WanConfig,
        weights: &Weights,
        blocks: impl FnOnce(&dyn Fn(&Weights, usize) -> Result<Block>) -> Result<Stack<Block>>,
    ) -> Result<Self> {
        config.validate()?;
        let control = config.vace_in_channels.map(|channels| ControlBranch::new(config, channels, weights));
        // These are little work, and every block would see their errors.
        let unquantised = &weights.with_quant(None).with_exact(true);
        let image = config.image_dim.map(|width| ImageEmbedding::new(config, width, &unquantised.pp("img_emb")));
        let camera = config.camera.then(|| CameraAdapter::new(config, &unquantised.pp("control_adapter")));
        Ok(Self {
            patch_embedding: PatchEmbedding::new(config, config.in_channels, &unquantised.pp("patch_embedding"))?,
            text_embedding: TextEmbedding::new(config, &unquantised.pp("text_embedding"))?,
            time_embedding: TimeEmbedding::new(config, unquantised)?,
            image_embedding: image.transpose()?,
            camera_adapter: camera.transpose()?,
            blocks: blocks(&|weights, index| Block::new(config, &weights.pp("blocks").pp(index)))?,
            control: control.transpose()?,
            head: Head::new(config, &unquantised.pp("head"))?,
            positions: Mutex::default(),
            config: config.clone(),
            dtype: weights.dtype(),
        })
    }

    /// Returns the model's dimensions.
    pub fn config(&self) -> &WanConfig {
        &self.config
    }

    /// Returns the positions of `grid`'s tokens, which are the same on all steps of a clip.
    fn positions(&self, grid: [usize; 3], sparse: Option<Sparse>, device: &Device) -> Result<Arc<Positions>> {
        let mut last = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(positions) if positions.fit(grid, sparse) => Ok(positions.clone()),
            _ => Ok(last.insert(Arc::new(Positions::new(self.config.head_dim, grid, sparse, device)?)).clone()),
        }
    }

    /// Computes keys and values of every block's cross-attention, if they fit in `budget` bytes; `context [B, S, dim]`,
    /// `image [B, T, dim]`.
    fn kv_cache(&self, context: &Tensor, image: Option<&Tensor>, budget: usize) -> Result<KvCache<CrossKeysValues>> {
        let control = || self.control.iter().flat_map(ControlBranch::blocks);
        let elements = context.elem_count() + image.map_or(0, Tensor::elem_count);
        let bytes = 2 * (self.blocks.len() + control().count()) * elements * self.dtype.size_in_bytes();
        KvCache::within(budget, bytes, || {
            let mut found = Vec::new();
            self.blocks.each(|_, block| {
                found.push(block.cross_keys_values(context, image)?);
                Ok(ControlFlow::Continue(()))
            })?;
            for block in control() {
                found.push(block.cross_keys_values(context, image)?);
            }
            Ok(found)
        })
    }

    /// Takes `x [B, L, dim]` through the blocks, and through the control blocks where there are any.
    fn through_blocks(&self, x: Tensor, pass: &Pass, reuse: &mut dyn Reuse) -> Result<Tensor> {
        let control = self.control.as_ref().zip(pass.prepared.control.as_ref());
        let mut hints = None;
        let [x] = self.blocks.run([x], pass.time.embedding(), reuse, |index, block, [x]| {
            if index == 0 {
                hints = control.map(|(branch, control)| branch.stream(x, control, pass.positions)).transpose()?;
            }
            let next = block.forward(x, pass, index)?;
            match &mut hints {
                Some(stream) => Ok([stream.after_block(index, next, pass, self.blocks.len())?]),
                None => Ok([next]),
            }
        })?;
        Ok(x)
    }
}

impl VideoDit for WanModel {
    fn prepare(&self, conditioning: &Conditioning, kv_cache_bytes: usize) -> Result<crate::Prepared> {
        let sizes = check_conditioning(&self.config, conditioning)?;
        let (dim, dtype) = (self.config.dim(), self.dtype);
        let (context, bias) = without_repetitions(&conditioning.context.to_dtype(dtype)?)?;
        let context = self.text_embedding.forward(&context)?; // [B, S, dim]
        let image = self.image_embedding.as_ref().zip(conditioning.image.as_ref());
        let image = image.map(|(net, image)| net.forward(&image.to_dtype(dtype)?)).transpose()?; // [B, T, dim]
        let control = self.control.as_ref().zip(conditioning.control.as_ref());
        let camera = self.camera_adapter.as_ref().zip(conditioning.camera.as_ref());
        let kv_cache = self.kv_cache(&context, image.as_ref(), kv_cache_bytes)?;
        let cached_blocks = kv_cache.len();
        let prepared = Prepared {
            latents: conditioning.latents.as_ref().map(|latents| latents.to_dtype(dtype)).transpose()?,
            control: control.map(|(net, control)| net.prepare(control, dim, dtype)).transpose()?,
            camera: camera.map(|(net, rays)| net.forward(&rays.to_dtype(dtype)?)).transpose()?,
            sizes,
            kv_cache,
            context,
            bias,
            image,
        };
        Ok(crate::Prepared::new(prepared, cached_blocks))
    }

    fn forward_with(
        &self,
        latents: &Tensor,
        timestep: &Tensor,
        conditioning: &crate::Prepared,
        sparse: Option<Sparse>,
        reuse: &mut dyn Reuse,
    ) -> Result<Tensor> {
        let prepared: &Prepared = conditioning.parts()?;
        let grid = check_forward(&self.config, latents, timestep, prepared)?;
        let positions = self.positions(grid, sparse, latents.device())?;
        let timestep = if timestep.rank() == 2 { positions.arranged(timestep)? } else { timestep.clone() };
        let time = self.time_embedding.forward(&timestep, latents.device())?;
        let latents = latents.to_dtype(self.dtype)?;
        let latents = match &prepared.latents {
            Some(appended) => Tensor::cat(&[&latents, appended], 1)?, // [B, C_in, F, H, W]
            None => latents,
        };
        let x = positions.arranged(&self.patch_embedding.forward(&latents, prepared.camera.as_ref())?)?; // [B, L, dim]
        // Where passes are so small that queueing their kernels takes much of their time.
        let replays =
            self.config.replay_bytes(grid.iter().product(), self.dtype) > 0 && time.is_per_clip() && sparse.is_none();
        let replay = replays.then_some(&conditioning.replay);
        let inputs = [x, time.embedding().clone(), time.projection().clone()];
        let through = |[x, embedding, projection]: [Tensor; 3], reuse: &mut dyn Reuse| {
            let time = &time.with(embedding, projection);
            let choice = sparse.filter(|sparse| !sparse.dense).map(|sparse| sparse.choice(grid));
            let pass = Pass { time, positions: &positions, choice, prepared };
            self.head.forward(&self.through_blocks(x, &pass, reuse)?, pass.time)
        };
        let x = self.blocks.replay_or_compute(replay, inputs, positions.clone(), reuse, through)?; // [B, L, pt·ph·pw·C]
        Ok(unpatchify(&positions.restored(&x)?, grid, self.config.patch_size)?)
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

/// `text_embedding`. The padding of the context becomes a constant, not zero.
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

/// `head`. It is modulated by the timestep's embedding itself, not by its projection.
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

//! CLIP's vision tower, a vision transformer, up to the input of its last layer.
//!
//! Maths: vision transformer <https://arxiv.org/abs/2010.11929>, CLIP <https://arxiv.org/abs/2103.00020>. Names and
//! numbers are those of
//! <https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/models/clip/modeling_clip.py>. Wan 2.1 is
//! conditioned on the hidden states before the last layer of ViT-H/14; that layer, the norm after it and the projection
//! are never loaded.

mod block;
mod config;
mod keys;
mod memory;
mod preprocess;

use crate::{Error, Result};
use block::Block;
use candle_core::{DType, Device, Tensor};
pub use config::{Activation, ClipVisionConfig};
pub use keys::key_maps;
use kinora_checkpoint::Weights;
use kinora_kernels::{Epilogue, LinearWeight, linear};
use kinora_nn::LayerNorm;
pub use preprocess::ClipPreprocess;

/// The vision tower.
pub struct ClipVision {
    config: ClipVisionConfig,
    embeddings: Embeddings,
    norm: LayerNorm,
    blocks: Vec<Block>,
    device: Device,
    dtype: DType,
}

impl ClipVision {
    /// Reads the parameters below `weights`, those of all layers but the last.
    pub fn new(config: &ClipVisionConfig, weights: &Weights) -> Result<Self> {
        config.validate()?;
        let tower = weights.pp("vision_model");
        let norm = LayerNorm::affine(&tower.pp("pre_layrnorm"), config.hidden_size, config.layer_norm_eps)?;
        Ok(Self {
            config: config.clone(),
            embeddings: Embeddings::new(config, &tower.pp("embeddings"))?,
            norm,
            blocks: (0..config.num_hidden_layers - 1)
                .map(|i| Block::new(config, &tower.pp("encoder.layers").pp(i)))
                .collect::<kinora_checkpoint::Result<_>>()?,
            device: weights.device().clone(),
            dtype: weights.dtype(),
        })
    }

    /// Asks for what [`ClipVision::new`] does and for the last layer, which a checkpoint has although nothing needs it:
    /// with [`Weights::headers_only`], [`Weights::finish`] then says whether the checkpoint is this tower's.
    pub fn check(config: &ClipVisionConfig, weights: &Weights) -> Result<()> {
        Self::new(config, weights)?;
        let last = weights.pp("vision_model.encoder.layers").pp(config.num_hidden_layers - 1);
        Block::new(config, &last)?;
        Ok(())
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &ClipVisionConfig {
        &self.config
    }

    /// Hidden states before the last layer, `[B, T, C]` in the dtype of the weights, of normalised `pixels
    /// [B, 3, s, s]`; the first of the `T` tokens is the class token's, the others are patches row by row.
    ///
    /// # Errors
    /// Pixels of another shape, or whatever candle fails on.
    pub fn penultimate(&self, pixels: &Tensor) -> Result<Tensor> {
        let (size, shape) = (self.config.image_size, pixels.dims());
        if !matches!(*shape, [b, 3, h, w] if b > 0 && h == size && w == size) {
            let expected = format!("[B, 3, {size}, {size}]");
            return Err(Error::Shape { what: "the pixels", found: shape.to_vec(), expected });
        }
        let pixels = pixels.to_device(&self.device)?.to_dtype(self.dtype)?;
        let mut x = self.norm.forward(&self.embeddings.forward(&pixels)?)?; // [B, T, C]
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        Ok(x)
    }
}

/// Pixels to tokens: a class token, then the patches, each with its place.
struct Embeddings {
    class: Tensor, // [1, 1, C]
    patches: LinearWeight,
    positions: Tensor, // [1, T, C]
    patch: usize,
}

impl Embeddings {
    fn new(config: &ClipVisionConfig, weights: &Weights) -> kinora_checkpoint::Result<Self> {
        let (c, t, patch) = (config.hidden_size, config.tokens(), config.patch_size);
        // The original release has both tables with the axes that they are added with.
        let original = weights.contains(keys::ORIGINAL_CLASS);
        let (class, positions) = if original {
            (weights.get(keys::ORIGINAL_CLASS, (1, 1, c))?, weights.get(keys::ORIGINAL_POSITIONS, (1, t, c))?)
        } else {
            let positions = weights.get("position_embedding.weight", (t, c))?;
            (weights.get("class_embedding", c)?.reshape((1, 1, c))?, positions.unsqueeze(0)?)
        };
        let kernel = weights.get("patch_embedding.weight", (c, 3, patch, patch))?;
        Ok(Self { class, patches: LinearWeight::new(&kernel.flatten_from(1)?)?, positions, patch })
    }

    /// `[B, 3, s, s]` → `[B, T, C]`. The convolution's stride is its kernel's size: a linear layer over patches.
    fn forward(&self, pixels: &Tensor) -> candle_core::Result<Tensor> {
        let (b, _, s, _) = pixels.dims4()?;
        let (p, side) = (self.patch, s / self.patch);
        let x = pixels.reshape(vec![b, 3, side, p, side, p])?.permute(vec![0, 2, 4, 1, 3, 5])?;
        let x = x.reshape((b, side * side, 3 * p * p))?; // [B, L, 3·p·p]
        let x = linear(&x, &self.patches, None, Epilogue::None)?; // [B, L, C]
        let class = self.class.broadcast_as((b, 1, x.dim(2)?))?;
        Tensor::cat(&[&class, &x], 1)?.broadcast_add(&self.positions)
    }
}

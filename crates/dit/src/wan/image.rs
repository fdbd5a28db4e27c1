//! `img_emb`: embeds the hidden states of one or two pictures as rows for the cross-attention.

use super::WanConfig;
use crate::Result;
use candle_core::Tensor;
use kinora_checkpoint::Weights;
use kinora_kernels::gelu_erf;
use kinora_nn::{LayerNorm, Linear};

/// Epsilon of both norms, which are not the model's own.
const EPS: f64 = 1e-5;

pub(super) struct ImageEmbedding {
    /// `[1, T, image_dim]`.
    positions: Option<Tensor>,
    first_norm: LayerNorm,
    first: Linear,
    second: Linear,
    second_norm: LayerNorm,
}

impl ImageEmbedding {
    /// Reads the weights for hidden states of `image_dim` channels.
    pub(super) fn new(config: &WanConfig, image_dim: usize, weights: &Weights) -> Result<Self> {
        // They begin as zeros when the model is trained.
        let unset = weights.allowing_zeros();
        let positions = config.pos_embed_seq_len.map(|rows| unset.get("emb_pos", (1, rows, image_dim)));
        let (dim, layer) = (config.dim(), |i: usize| weights.pp("proj").pp(i));
        Ok(Self {
            positions: positions.transpose()?,
            first_norm: LayerNorm::affine(&layer(0), image_dim, EPS)?,
            first: Linear::new(&layer(1), image_dim, image_dim)?,
            second: Linear::new(&layer(3), image_dim, dim)?,
            second_norm: LayerNorm::affine(&layer(4), dim, EPS)?,
        })
    }

    /// `image [B, T, image_dim]` → `[B, T, dim]`.
    pub(super) fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let x = match &self.positions {
            Some(positions) => image.broadcast_add(positions)?,
            None => image.clone(),
        };
        let x = gelu_erf(&self.first.forward(&self.first_norm.forward(&x)?)?)?;
        Ok(self.second_norm.forward(&self.second.forward(&x)?)?)
    }
}

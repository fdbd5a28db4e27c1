//! [`WanConfig`]: the dimensions of a Wan transformer, from either kind of config.json or from the tensors themselves.

mod diffusers;
mod infer;
mod original;

use super::camera;
use crate::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// Far above any model, and small enough that products of dimensions stay within 64 bits.
const LARGEST_DIM: usize = 1 << 20;
/// Width of a head in every released Wan model; the tensors' shapes do not say it.
const RELEASED_HEAD_DIM: usize = 128;

/// Dimensions of a Wan transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct WanConfig {
    /// Latent frames, rows and columns that make one token.
    pub patch_size: [usize; 3],
    /// Attention heads.
    pub num_heads: usize,
    /// Width of one head, an even number.
    pub head_dim: usize,
    /// Latent channels that go in: those that are predicted, then those that are conditioned on.
    pub in_channels: usize,
    /// Latent channels that come out.
    pub out_channels: usize,
    /// Width of the text encoder's hidden states.
    pub text_dim: usize,
    /// Rows that a prompt's context is padded to; the network itself takes any number.
    pub text_len: usize,
    /// Width of the sinusoidal timestep embedding, an even number.
    pub freq_dim: usize,
    /// Inner width of the feed-forward layers.
    pub ffn_dim: usize,
    /// Transformer blocks.
    pub num_layers: usize,
    /// Whether the cross-attention's input is normalised.
    pub cross_attn_norm: bool,
    /// Epsilon of every norm.
    pub eps: f64,
    /// Tokens along one axis that the position embedding reaches.
    pub rope_max_seq_len: usize,
    /// Width of the image encoder's hidden states, where pictures are attended to.
    pub image_dim: Option<usize>,
    /// Rows of the hidden states of two pictures, where they have a position embedding of their own.
    pub pos_embed_seq_len: Option<usize>,
    /// Blocks after which a control block's hint is added (VACE), in ascending order from 0; none in other models.
    pub vace_layers: Vec<usize>,
    /// Channels of the latents that control, where there are control blocks.
    pub vace_in_channels: Option<usize>,
    /// Whether the model is conditioned on the rays of a camera.
    pub camera: bool,
    /// Rows and columns of rays per row and column of latents.
    pub camera_scale: usize,
}

impl WanConfig {
    /// Width of the residual stream.
    pub fn dim(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// Operations of one pass over `tokens`, two for each product: linear layers and attention of all blocks. Of prompts, pictures
    /// and embeddings, only what grows with the clip is counted.
    pub fn operations(&self, tokens: usize) -> f64 {
        let [tokens, dim, ffn, text] = [tokens, self.dim(), self.ffn_dim, self.text_len].map(|size| size as f64);
        let linear = 6.0 * dim * dim + 2.0 * dim * ffn;
        let attention = 2.0 * dim * (tokens + text);
        2.0 * tokens * (linear + attention) * (self.num_layers + self.vace_layers.len()) as f64
    }

    /// Latent channels that are conditioned on, beside those that are predicted.
    pub(super) fn appended_channels(&self) -> usize {
        self.in_channels.saturating_sub(self.out_channels)
    }

    /// Checks that every dimension makes sense.
    pub(crate) fn validate(&self) -> Result<()> {
        self.validate_dims()?;
        self.validate_conditioning()
    }

    fn validate_dims(&self) -> Result<()> {
        let dims = [
            ("num_attention_heads", self.num_heads),
            ("attention_head_dim", self.head_dim),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("text_dim", self.text_dim),
            ("text_len", self.text_len),
            ("freq_dim", self.freq_dim),
            ("ffn_dim", self.ffn_dim),
            ("num_layers", self.num_layers),
            ("rope_max_seq_len", self.rope_max_seq_len),
            ("camera_scale", self.camera_scale),
        ];
        let patch = self.patch_size.map(|size| ("patch_size", size));
        let optional = [
            ("image_dim", self.image_dim),
            ("pos_embed_seq_len", self.pos_embed_seq_len),
            ("vace_in_channels", self.vace_in_channels),
        ];
        let optional = optional.into_iter().filter_map(|(field, value)| Some((field, value?)));
        for (field, value) in dims.into_iter().chain(patch).chain(optional) {
            let largest = if field == "patch_size" { 64 } else { LARGEST_DIM };
            if value == 0 || value > largest {
                return Err(Error::Config { field, problem: format!("is {value}, expected 1 to {largest}") });
            }
        }
        if self.dim() > LARGEST_DIM {
            let problem =
                format!("is {} of {} each, expected at most {LARGEST_DIM} in all", self.num_heads, self.head_dim);
            return Err(Error::Config { field: "num_attention_heads", problem });
        }
        for (field, value) in [("attention_head_dim", self.head_dim), ("freq_dim", self.freq_dim)] {
            if !value.is_multiple_of(2) {
                return Err(Error::Config { field, problem: format!("is {value}, expected an even number") });
            }
        }
        if !(self.eps > 0.0 && self.eps < 1.0) {
            return Err(Error::Config { field: "eps", problem: format!("is {}, expected 0 to 1", self.eps) });
        }
        Ok(())
    }

    fn validate_conditioning(&self) -> Result<()> {
        let error = |field, problem| Err(Error::Config { field, problem });
        if self.in_channels < self.out_channels {
            let problem =
                format!("is {}, expected the {} of `out_channels` at least", self.in_channels, self.out_channels);
            return error("in_channels", problem);
        }
        if let (Some(rows), None) = (self.pos_embed_seq_len, self.image_dim) {
            return error("pos_embed_seq_len", format!("is {rows}, without an `image_dim`"));
        }
        let layers = &self.vace_layers;
        let ascending = layers.is_sorted_by(|a, b| a < b) && layers.last().is_none_or(|&last| last < self.num_layers);
        if layers.first().is_some_and(|&first| first != 0) || !ascending {
            let expected = format!("0 and later ones of the {} layers, in ascending order", self.num_layers);
            return error("vace_layers", format!("is {layers:?}, expected {expected}"));
        }
        if layers.is_empty() != self.vace_in_channels.is_none() {
            let problem = format!("is {layers:?}, beside `vace_in_channels` {:?}", self.vace_in_channels);
            return error("vace_layers", problem);
        }
        if self.camera && self.patch_size[0] != 1 {
            let problem = format!("is {:?}, but a model with a camera adapter takes single frames", self.patch_size);
            return error("patch_size", problem);
        }
        Ok(())
    }

    /// The values of every released model, which files may leave out.
    fn base() -> Self {
        Self {
            patch_size: [1, 2, 2],
            num_heads: 40,
            head_dim: RELEASED_HEAD_DIM,
            in_channels: 16,
            out_channels: 16,
            text_dim: 4096,
            text_len: 512,
            freq_dim: 256,
            ffn_dim: 13824,
            num_layers: 40,
            cross_attn_norm: true,
            eps: 1e-6,
            rope_max_seq_len: 1024,
            image_dim: None,
            pos_embed_seq_len: None,
            vace_layers: Vec::new(),
            vace_in_channels: None,
            camera: false,
            camera_scale: camera::SCALE,
        }
    }
}

/// Fields that no model here sets. Those that begin with `_` are the library's own notes.
fn reject_unknown(rest: &BTreeMap<String, Value>) -> Result<()> {
    let set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    match rest.iter().find(|(field, value)| !field.starts_with('_') && set(value)) {
        Some((field, value)) => Err(unsupported(field, value)),
        None => Ok(()),
    }
}

fn require(field: &str, value: &str, expected: &str) -> Result<()> {
    if value == expected { Ok(()) } else { Err(unsupported(field, format!("`{value}`"))) }
}

fn unsupported(field: &str, value: impl std::fmt::Display) -> Error {
    Error::Unsupported { field: field.to_string(), value: value.to_string() }
}

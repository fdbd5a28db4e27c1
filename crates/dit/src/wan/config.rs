//! [`WanConfig`]: the dimensions of a Wan transformer, from either kind of config.json or from the tensors themselves.

use crate::{Error, Result};
use serde::Deserialize;
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
    /// Latent channels that go in.
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
}

impl WanConfig {
    /// Width of the residual stream.
    pub fn dim(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// Reads the config.json of a diffusers directory; absent fields have diffusers' defaults.
    ///
    /// # Errors
    /// Fields that ask for what is not supported (image conditioning, control blocks, other norms) or that make no
    /// sense.
    pub fn from_diffusers_config(json: &[u8]) -> Result<Self> {
        let file: DiffusersConfig = serde_json::from_slice(json)?;
        reject_unknown(&file.rest)?;
        require("_class_name", &file.class_name, "WanTransformer3DModel")?;
        require("qk_norm", file.qk_norm.as_deref().unwrap_or("null"), "rms_norm_across_heads")?;
        let config = Self {
            patch_size: file.patch_size,
            num_heads: file.num_attention_heads,
            head_dim: file.attention_head_dim,
            in_channels: file.in_channels,
            out_channels: file.out_channels.unwrap_or(file.in_channels),
            text_dim: file.text_dim,
            freq_dim: file.freq_dim,
            ffn_dim: file.ffn_dim,
            num_layers: file.num_layers,
            cross_attn_norm: file.cross_attn_norm,
            eps: file.eps,
            rope_max_seq_len: file.rope_max_seq_len,
            ..Self::base()
        };
        config.validate()?;
        Ok(config)
    }

    /// Reads the config.json of an original checkpoint; absent fields have the original code's defaults.
    ///
    /// # Errors
    /// As of [`WanConfig::from_diffusers_config`].
    pub fn from_original_config(json: &[u8]) -> Result<Self> {
        let file: OriginalConfig = serde_json::from_slice(json)?;
        reject_unknown(&file.rest)?;
        if !matches!(file.model_type.as_str(), "t2v" | "ti2v") {
            return Err(unsupported("model_type", &file.model_type));
        }
        if !file.qk_norm {
            return Err(unsupported("qk_norm", file.qk_norm));
        }
        if file.window_size != [-1, -1] {
            return Err(unsupported("window_size", format!("{:?}", file.window_size)));
        }
        if file.num_heads == 0 || !file.dim.is_multiple_of(file.num_heads) {
            let problem = format!("is {}, which {} heads cannot share", file.dim, file.num_heads);
            return Err(Error::Config { field: "dim", problem });
        }
        let config = Self {
            patch_size: file.patch_size,
            num_heads: file.num_heads,
            head_dim: file.dim / file.num_heads,
            in_channels: file.in_dim,
            out_channels: file.out_dim,
            text_dim: file.text_dim,
            text_len: file.text_len,
            freq_dim: file.freq_dim,
            ffn_dim: file.ffn_dim,
            num_layers: file.num_layers,
            cross_attn_norm: file.cross_attn_norm,
            eps: file.eps,
            ..Self::base()
        };
        config.validate()?;
        Ok(config)
    }

    /// Tells the configuration from the canonical names and shapes of a checkpoint that comes without one. What shapes
    /// cannot say (head width, epsilon, text length) is what every released model has.
    ///
    /// # Errors
    /// Missing or misshapen tensors, tensors of model kinds that are not supported, a width that is no multiple of 128.
    pub fn infer(tensors: &[(String, Vec<usize>)]) -> Result<Self> {
        let shapes: BTreeMap<&str, &[usize]> = tensors.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
        reject_other_models(&shapes)?;
        let [dim, in_channels, frames, rows, columns] = shape(&shapes, "patch_embedding.weight")?;
        let [_, text_dim] = shape(&shapes, "text_embedding.0.weight")?;
        let [_, freq_dim] = shape(&shapes, "time_embedding.0.weight")?;
        let [ffn_dim, _] = shape(&shapes, "blocks.0.ffn.0.weight")?;
        let [outputs, _] = shape(&shapes, "head.head.weight")?;
        let has = |name: &str| shapes.contains_key(name);
        if !dim.is_multiple_of(RELEASED_HEAD_DIM) {
            let problem = format!("a width of {dim} is no multiple of the {RELEASED_HEAD_DIM} of one head");
            return Err(Error::Infer { problem });
        }
        let config = Self {
            patch_size: [frames, rows, columns],
            num_heads: dim / RELEASED_HEAD_DIM,
            in_channels,
            out_channels: outputs / frames.saturating_mul(rows).saturating_mul(columns).max(1),
            text_dim,
            freq_dim,
            ffn_dim,
            num_layers: (0..shapes.len()).take_while(|i| has(&format!("blocks.{i}.modulation"))).count(),
            cross_attn_norm: has("blocks.0.norm3.weight"),
            ..Self::base()
        };
        config.validate()?;
        Ok(config)
    }

    /// Checks that every dimension makes sense.
    pub(crate) fn validate(&self) -> Result<()> {
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
        ];
        let patch = self.patch_size.map(|size| ("patch_size", size));
        for (field, value) in dims.into_iter().chain(patch) {
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

    /// What files may leave out because every released model has it.
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
        }
    }
}

/// config.json of diffusers' `WanTransformer3DModel`, with its defaults.
#[derive(Deserialize)]
#[serde(default)]
struct DiffusersConfig {
    #[serde(rename = "_class_name")]
    class_name: String,
    patch_size: [usize; 3],
    num_attention_heads: usize,
    attention_head_dim: usize,
    in_channels: usize,
    out_channels: Option<usize>,
    text_dim: usize,
    freq_dim: usize,
    ffn_dim: usize,
    num_layers: usize,
    cross_attn_norm: bool,
    qk_norm: Option<String>,
    eps: f64,
    rope_max_seq_len: usize,
    /// `image_dim`, `added_kv_proj_dim`, `pos_embed_seq_len`, `vace_layers` and whatever else another model has.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

impl Default for DiffusersConfig {
    fn default() -> Self {
        let base = WanConfig::base();
        Self {
            class_name: "WanTransformer3DModel".to_string(),
            patch_size: base.patch_size,
            num_attention_heads: base.num_heads,
            attention_head_dim: base.head_dim,
            in_channels: base.in_channels,
            out_channels: Some(base.out_channels),
            text_dim: base.text_dim,
            freq_dim: base.freq_dim,
            ffn_dim: base.ffn_dim,
            num_layers: base.num_layers,
            cross_attn_norm: base.cross_attn_norm,
            qk_norm: Some("rms_norm_across_heads".to_string()),
            eps: base.eps,
            rope_max_seq_len: base.rope_max_seq_len,
            rest: BTreeMap::new(),
        }
    }
}

/// config.json of the original `WanModel`, with its defaults.
#[derive(Deserialize)]
#[serde(default)]
struct OriginalConfig {
    model_type: String,
    patch_size: [usize; 3],
    text_len: usize,
    in_dim: usize,
    dim: usize,
    ffn_dim: usize,
    freq_dim: usize,
    text_dim: usize,
    out_dim: usize,
    num_heads: usize,
    num_layers: usize,
    window_size: [i64; 2],
    qk_norm: bool,
    cross_attn_norm: bool,
    eps: f64,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

impl Default for OriginalConfig {
    fn default() -> Self {
        let base = WanConfig::base();
        Self {
            model_type: "t2v".to_string(),
            patch_size: base.patch_size,
            text_len: base.text_len,
            in_dim: base.in_channels,
            dim: 2048,
            ffn_dim: 8192,
            freq_dim: base.freq_dim,
            text_dim: base.text_dim,
            out_dim: base.out_channels,
            num_heads: 16,
            num_layers: 32,
            window_size: [-1, -1],
            qk_norm: true,
            cross_attn_norm: true,
            eps: base.eps,
            rest: BTreeMap::new(),
        }
    }
}

/// Fields that no text-to-video model sets. Those that begin with `_` are the library's own notes.
fn reject_unknown(rest: &BTreeMap<String, Value>) -> Result<()> {
    let set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    match rest.iter().find(|(field, value)| !field.starts_with('_') && set(value)) {
        Some((field, value)) => Err(unsupported(field, value)),
        None => Ok(()),
    }
}

/// Tensors that only image-conditioned, controlled or speech-driven relatives have.
fn reject_other_models(shapes: &BTreeMap<&str, &[usize]>) -> Result<()> {
    let known = ["patch_embedding.", "text_embedding.", "time_embedding.", "time_projection.", "blocks.", "head."];
    let foreign = |name: &str| !known.iter().any(|start| name.starts_with(start)) || name.contains("_img.");
    match shapes.iter().find(|(name, _)| foreign(name)) {
        Some((name, shape)) => Err(unsupported(name, format!("a tensor of shape {shape:?}"))),
        None => Ok(()),
    }
}

fn shape<const N: usize>(shapes: &BTreeMap<&str, &[usize]>, name: &str) -> Result<[usize; N]> {
    let found = shapes.get(name).ok_or_else(|| Error::Infer { problem: format!("there is no `{name}`") })?;
    (*found)
        .try_into()
        .map_err(|_| Error::Infer { problem: format!("`{name}` has shape {found:?}, expected {N} dimensions") })
}

fn require(field: &str, value: &str, expected: &str) -> Result<()> {
    if value == expected { Ok(()) } else { Err(unsupported(field, format!("`{value}`"))) }
}

fn unsupported(field: &str, value: impl std::fmt::Display) -> Error {
    Error::Unsupported { field: field.to_string(), value: value.to_string() }
}

//! [`ClipVisionConfig`]: the dimensions of a vision tower, from transformers' config.json.

use crate::error::{within, wrong};
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

/// Dimensions of a CLIP vision tower; the fields are those of transformers' `CLIPVisionConfig`.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipVisionConfig {
    /// Channels of the hidden states.
    pub hidden_size: usize,
    /// Inner channels of the feed-forward layers.
    pub intermediate_size: usize,
    /// Layers; all but the last are computed.
    pub num_hidden_layers: usize,
    /// Attention heads, a divisor of `hidden_size`.
    pub num_attention_heads: usize,
    /// Height and width of a picture, in pixels.
    pub image_size: usize,
    /// Height and width of the patch of pixels that makes one token, a divisor of `image_size`.
    pub patch_size: usize,
    /// The activation between the two matrices of the feed-forward layers.
    pub hidden_act: Activation,
    /// Epsilon of every norm.
    pub layer_norm_eps: f64,
}

/// The activations that CLIP models are trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// GELU, exact.
    Gelu,
    /// `x · sigmoid(1.702 · x)`.
    QuickGelu,
}

impl Default for ClipVisionConfig {
    /// ViT-H/14, which Wan 2.1 uses.
    fn default() -> Self {
        Self {
            hidden_size: 1280,
            intermediate_size: 5120,
            num_hidden_layers: 32,
            num_attention_heads: 16,
            image_size: 224,
            patch_size: 14,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-5,
        }
    }
}

impl ClipVisionConfig {
    /// Reads transformers' config.json, of a vision tower or of a whole CLIP model (`vision_config`). Absent fields have
    /// transformers' defaults, which are not those of [`ClipVisionConfig::default`].
    ///
    /// # Errors
    /// JSON of another form, or dimensions that cannot be computed.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let mut value: Value = serde_json::from_slice(json)?;
        if let Some(nested @ Value::Object(_)) = value.get_mut("vision_config") {
            value = nested.take();
        }
        let fields: Fields = serde_json::from_value(value)?;
        within("num_channels", fields.num_channels, 3, 3)?;
        let config = Self {
            hidden_size: fields.hidden_size,
            intermediate_size: fields.intermediate_size,
            num_hidden_layers: fields.num_hidden_layers,
            num_attention_heads: fields.num_attention_heads,
            image_size: fields.image_size,
            patch_size: fields.patch_size,
            hidden_act: Activation::from_name(&fields.hidden_act)?,
            layer_norm_eps: fields.layer_norm_eps,
        };
        config.validate()?;
        Ok(config)
    }

    /// Checks that the dimensions fit together; the first that does not is the error.
    pub fn validate(&self) -> Result<()> {
        within("hidden_size", self.hidden_size, 1, 1 << 16)?;
        within("intermediate_size", self.intermediate_size, 1, 1 << 18)?;
        within("num_hidden_layers", self.num_hidden_layers, 1, 1 << 10)?;
        within("num_attention_heads", self.num_attention_heads, 1, self.hidden_size)?;
        within("image_size", self.image_size, 1, 1 << 14)?;
        within("patch_size", self.patch_size, 1, self.image_size)?;
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let problem = format!("is {}, no divisor of `hidden_size` {}", self.num_attention_heads, self.hidden_size);
            return wrong("num_attention_heads", problem);
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            return wrong(
                "patch_size",
                format!("is {}, no divisor of `image_size` {}", self.patch_size, self.image_size),
            );
        }
        if !self.layer_norm_eps.is_finite() || self.layer_norm_eps < 0.0 {
            return wrong("layer_norm_eps", format!("is {}", self.layer_norm_eps));
        }
        Ok(())
    }

    /// Tokens of one picture: its patches, and the class token before them.
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2) + 1
    }
}

impl Activation {
    fn from_name(name: &str) -> Result<Self> {
        match name {
            "gelu" => Ok(Self::Gelu),
            "quick_gelu" => Ok(Self::QuickGelu),
            _ => Err(Error::Config {
                field: "hidden_act",
                problem: format!("is `{name}`, only `gelu` and `quick_gelu` are supported"),
            }),
        }
    }
}

/// config.json, with the defaults of transformers' `CLIPVisionConfig`.
#[derive(Deserialize)]
#[serde(default)]
struct Fields {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_channels: usize,
    image_size: usize,
    patch_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: "quick_gelu".to_string(),
            layer_norm_eps: 1e-5,
        }
    }
}

//! config.json of a diffusers directory.

use super::{WanConfig, reject_unknown, require, unsupported};
use crate::Result;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

const PLAIN: &str = "WanTransformer3DModel";
const CONTROLLED: &str = "WanVACETransformer3DModel";

impl WanConfig {
    /// Reads the config.json of a diffusers directory; absent fields have diffusers' defaults. `"camera": true` is an
    /// extension, for models with a camera adapter.
    ///
    /// # Errors
    /// Fields that ask for unsupported features (other norms, faces and poses, speech) or that make no sense.
    pub fn from_diffusers_config(json: &[u8]) -> Result<Self> {
        let mut file: DiffusersConfig = serde_json::from_slice(json)?;
        let controlled = file.class_name == CONTROLLED;
        let control = controlled.then(|| file.take_control()).transpose()?;
        reject_unknown(&file.rest)?;
        if !controlled {
            require("_class_name", &file.class_name, PLAIN)?;
        }
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
            image_dim: file.image_dim,
            pos_embed_seq_len: file.pos_embed_seq_len,
            vace_in_channels: control.as_ref().map(|control| control.vace_in_channels),
            vace_layers: control.map(|control| control.vace_layers).unwrap_or_default(),
            camera: file.camera,
            ..Self::base()
        };
        config.validate()?;
        // The keys of a picture are made of what it was embedded in, which has the width of the model.
        match (file.image_dim, file.added_kv_proj_dim) {
            (None, None) => Ok(config),
            (Some(_), Some(width)) if width == config.dim() => Ok(config),
            (Some(image_dim), None) => Err(unsupported("image_dim", image_dim)),
            (_, Some(width)) => Err(unsupported("added_kv_proj_dim", width)),
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
    image_dim: Option<usize>,
    added_kv_proj_dim: Option<usize>,
    pos_embed_seq_len: Option<usize>,
    camera: bool,
    /// The fields of `WanVACETransformer3DModel` and of other models.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

impl DiffusersConfig {
    /// Takes the fields of `WanVACETransformer3DModel` out of the remaining ones.
    fn take_control(&mut self) -> Result<Control> {
        let taken = ["vace_layers", "vace_in_channels"].into_iter().filter_map(|field| self.rest.remove_entry(field));
        let taken = taken.filter(|(_, value)| !value.is_null()).collect();
        Ok(serde_json::from_value(Value::Object(taken))?)
    }
}

impl Default for DiffusersConfig {
    fn default() -> Self {
        let base = WanConfig::base();
        Self {
            class_name: PLAIN.to_string(),
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
            image_dim: None,
            added_kv_proj_dim: None,
            pos_embed_seq_len: None,
            camera: false,
            rest: BTreeMap::new(),
        }
    }
}

/// The additional fields of `WanVACETransformer3DModel`, with its defaults.
#[derive(Deserialize)]
#[serde(default)]
struct Control {
    vace_layers: Vec<usize>,
    vace_in_channels: usize,
}

impl Default for Control {
    fn default() -> Self {
        Self { vace_layers: (0..40).step_by(5).collect(), vace_in_channels: 96 }
    }
}

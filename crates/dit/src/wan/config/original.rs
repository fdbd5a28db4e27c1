//! config.json of an original checkpoint.

use super::{LARGEST_DIM, WanConfig, reject_unknown, unsupported};
use crate::wan::camera;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Width of the hidden states of the image encoder of every released model, which the original configuration leaves out.
const IMAGE_DIM: usize = 1280;
/// Rows of two pictures, which it leaves out, too.
const TWO_PICTURES: usize = 514;

impl WanConfig {
    /// Reads the config.json of an original checkpoint, or of VideoX-Fun's relatives; absent fields have the original
    /// code's defaults. `i2v` is read as in Wan 2.1, with an image encoder; where it is Wan 2.2's, which has none, only
    /// the tensors say so ([`WanConfig::infer`]).
    ///
    /// # Errors
    /// As [`WanConfig::from_diffusers_config`].
    pub fn from_original_config(json: &[u8]) -> Result<Self> {
        let mut file: OriginalConfig = serde_json::from_slice(json)?;
        let (image_dim, pos_embed_seq_len, controlled) = match file.model_type.as_str() {
            "t2v" | "ti2v" => (None, None, false),
            "i2v" => (Some(IMAGE_DIM), None, false),
            "flf2v" => (Some(IMAGE_DIM), Some(TWO_PICTURES), false),
            "vace" => (None, None, true),
            other => return Err(unsupported("model_type", other)),
        };
        let control = controlled.then(|| file.take_control()).transpose()?;
        reject_unknown(&file.rest)?;
        let (vace_layers, vace_in_channels) = control.unzip();
        if let Some(channels) = file.in_dim_control_adapter.filter(|&channels| channels != camera::CHANNELS) {
            return Err(unsupported("in_dim_control_adapter", channels));
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
            image_dim,
            pos_embed_seq_len,
            vace_layers: vace_layers.unwrap_or_default(),
            vace_in_channels,
            camera: file.add_control_adapter,
            camera_scale: file.downscale_factor_control_adapter.unwrap_or(camera::SCALE),
            ..Self::base()
        };
        config.validate()?;
        Ok(config)
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
    /// VideoX-Fun's fields: whether there is a camera adapter, and how many channels it takes.
    add_control_adapter: bool,
    in_dim_control_adapter: Option<usize>,
    downscale_factor_control_adapter: Option<usize>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

impl OriginalConfig {
    /// Takes the controlled layers and the channels of control out of the remaining fields.
    fn take_control(&mut self) -> Result<(Vec<usize>, usize)> {
        let taken = ["vace_layers", "vace_in_dim"].into_iter().filter_map(|field| self.rest.remove_entry(field));
        let control: OriginalControl = serde_json::from_value(Value::Object(taken.collect()))?;
        let layers = control.vace_layers.unwrap_or_else(|| (0..self.num_layers.min(LARGEST_DIM)).step_by(2).collect());
        Ok((layers, control.vace_in_dim.unwrap_or(self.in_dim)))
    }
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
            add_control_adapter: false,
            in_dim_control_adapter: None,
            downscale_factor_control_adapter: None,
            rest: BTreeMap::new(),
        }
    }
}

/// The additional fields of the original `VaceWanModel`.
#[derive(Deserialize)]
struct OriginalControl {
    /// Every other layer by default.
    vace_layers: Option<Vec<usize>>,
    /// The channels of the latents by default.
    vace_in_dim: Option<usize>,
}

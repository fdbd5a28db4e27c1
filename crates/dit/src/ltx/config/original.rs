//! The configuration in the metadata of an original file.

use super::{LtxConfig, StreamConfig, TextModulation, require, require_sizes, unsupported};
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

impl LtxConfig {
    /// Reads the JSON that the metadata of an original file hold under `config`, whose object `transformer` is the
    /// transformer's; absent fields have the original code's defaults, and fields of other parts, such as the connectors, are left
    /// to them.
    ///
    /// # Errors
    /// As [`LtxConfig::from_diffusers_config`]; a file without a transformer.
    pub fn from_original_config(json: &[u8]) -> Result<Self> {
        let file: OriginalFile = serde_json::from_slice(json)?;
        let Some(file) = file.transformer else {
            let problem = "the file's configuration has no `transformer`".to_string();
            return Err(Error::Infer { problem });
        };
        file.check()?;
        let stream = |channels, num_heads, head_dim, ff_bias| StreamConfig { channels, num_heads, head_dim, ff_bias };
        let heads = (file.audio_num_attention_heads, file.audio_attention_head_dim);
        let config = Self {
            video: stream(file.in_channels, file.num_attention_heads, file.attention_head_dim, file.ff_bias),
            audio: stream(file.audio_in_channels, heads.0, heads.1, file.audio_ff_bias),
            num_layers: file.num_layers,
            text_dim: (!file.caption_proj_before_connector).then_some(file.caption_channels),
            gated_attention: file.apply_gated_attention,
            text_modulation: TextModulation::new(file.cross_attention_adaln, file.use_prompt_adaln_single),
            cross_timestep: file.cross_attention_adaln,
            gate_multiplier: file.av_ca_timestep_scale_multiplier / super::TIMESTEP_MULTIPLIER,
            keyframes: file.use_keyframes_abs_pos_embedding,
            eps: file.norm_eps,
        };
        config.validate()?;
        require_sizes([
            ("cross_attention_dim", file.cross_attention_dim, config.video.dim()),
            ("audio_cross_attention_dim", file.audio_cross_attention_dim, config.audio.dim()),
        ])?;
        Ok(config)
    }
}

#[derive(Deserialize)]
struct OriginalFile {
    transformer: Option<OriginalConfig>,
}

/// The fields of the original `LTXModel`, with its defaults
/// (<https://github.com/Lightricks/LTX-2/blob/400fd3105459/packages/ltx-core/src/ltx_core/model/transformer/model_configurator.py>).
#[derive(Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools, reason = "they are the file's")]
struct OriginalConfig {
    in_channels: usize,
    out_channels: usize,
    num_attention_heads: usize,
    attention_head_dim: usize,
    cross_attention_dim: usize,
    audio_in_channels: usize,
    audio_out_channels: usize,
    audio_num_attention_heads: usize,
    audio_attention_head_dim: usize,
    audio_cross_attention_dim: usize,
    num_layers: usize,
    norm_eps: f64,
    caption_channels: usize,
    caption_proj_before_connector: bool,
    av_ca_timestep_scale_multiplier: f64,
    rope_type: String,
    frequencies_precision: Value,
    apply_gated_attention: bool,
    cross_attention_adaln: bool,
    use_prompt_adaln_single: bool,
    ff_bias: bool,
    audio_ff_bias: bool,
    use_keyframes_abs_pos_embedding: bool,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl OriginalConfig {
    /// Checks the fields that say what is computed, not how large it is.
    fn check(&self) -> Result<()> {
        require(
            &self.rest,
            &[
                ("dropout", json!(0)),
                ("attention_bias", json!(true)),
                ("num_vector_embeds", Value::Null),
                ("activation_fn", json!("gelu-approximate")),
                ("use_linear_projection", json!(false)),
                ("only_cross_attention", json!(false)),
                ("cross_attention_norm", json!(true)),
                ("double_self_attention", json!(false)),
                ("upcast_attention", json!(false)),
                ("standardization_norm", json!("rms_norm")),
                ("norm_elementwise_affine", json!(false)),
                ("qk_norm", json!("rms_norm")),
                ("positional_embedding_type", json!("rope")),
                ("positional_embedding_theta", json!(10000)),
                ("positional_embedding_max_pos", json!([20, 2048, 2048])),
                ("audio_positional_embedding_max_pos", json!([20])),
                ("use_audio_video_cross_attention", json!(true)),
                ("share_ff", json!(false)),
                ("av_cross_ada_norm", json!(true)),
                ("use_middle_indices_grid", json!(true)),
                ("timestep_scale_multiplier", json!(1000)),
            ],
        )?;
        if self.rope_type != "split" {
            return Err(unsupported("rope_type", format!("`{}`", self.rope_type)));
        }
        if self.frequencies_precision != json!("float64") {
            return Err(unsupported("frequencies_precision", &self.frequencies_precision));
        }
        require_sizes([
            ("out_channels", self.out_channels, self.in_channels),
            ("audio_out_channels", self.audio_out_channels, self.audio_in_channels),
        ])
    }
}

impl Default for OriginalConfig {
    fn default() -> Self {
        Self {
            in_channels: 128,
            out_channels: 128,
            num_attention_heads: 32,
            attention_head_dim: 128,
            cross_attention_dim: 4096,
            audio_in_channels: 128,
            audio_out_channels: 128,
            audio_num_attention_heads: 32,
            audio_attention_head_dim: 64,
            audio_cross_attention_dim: 2048,
            num_layers: 48,
            norm_eps: 1e-6,
            caption_channels: 3840,
            caption_proj_before_connector: false,
            av_ca_timestep_scale_multiplier: 1.0,
            rope_type: "split".to_string(),
            frequencies_precision: Value::Bool(false),
            apply_gated_attention: false,
            cross_attention_adaln: false,
            use_prompt_adaln_single: true,
            ff_bias: true,
            audio_ff_bias: true,
            use_keyframes_abs_pos_embedding: false,
            rest: Map::new(),
        }
    }
}

//! config.json of a diffusers directory.

use super::{LtxConfig, StreamConfig, TextModulation, require, require_sizes, unsupported};
use crate::Result;
use serde::Deserialize;
use serde_json::{Map, Value, json};

impl LtxConfig {
    /// Reads the config.json of a diffusers directory; absent fields have diffusers' defaults.
    ///
    /// # Errors
    /// Fields that ask for unsupported features (other positions, other norms, patches of several latents) or that make no
    /// sense.
    pub fn from_diffusers_config(json: &[u8]) -> Result<Self> {
        let file: DiffusersConfig = serde_json::from_slice(json)?;
        file.check()?;
        let stream = |channels, num_heads, head_dim, ff_bias| StreamConfig { channels, num_heads, head_dim, ff_bias };
        let video = stream(file.in_channels, file.num_attention_heads, file.attention_head_dim, file.ff_bias);
        let heads = (file.audio_num_attention_heads, file.audio_attention_head_dim);
        let config = Self {
            video,
            audio: stream(file.audio_in_channels, heads.0, heads.1, file.audio_ff_bias),
            num_layers: file.num_layers,
            text_dim: file.use_prompt_embeddings.then_some(file.caption_channels),
            gated_attention: file.gated_attn,
            text_modulation: TextModulation::new(file.cross_attn_mod, file.use_prompt_adaln_single),
            cross_timestep: file.cross_attn_mod,
            gate_multiplier: file.cross_attn_timestep_scale_multiplier / file.timestep_scale_multiplier,
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

/// config.json of diffusers' `LTX2VideoTransformer3DModel`, with its defaults.
#[derive(Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools, reason = "they are the file's")]
struct DiffusersConfig {
    in_channels: usize,
    out_channels: Option<usize>,
    num_attention_heads: usize,
    attention_head_dim: usize,
    cross_attention_dim: usize,
    gated_attn: bool,
    cross_attn_mod: bool,
    audio_in_channels: usize,
    audio_out_channels: Option<usize>,
    audio_num_attention_heads: usize,
    audio_attention_head_dim: usize,
    audio_cross_attention_dim: usize,
    audio_gated_attn: bool,
    audio_cross_attn_mod: bool,
    num_layers: usize,
    norm_eps: f64,
    caption_channels: usize,
    timestep_scale_multiplier: f64,
    cross_attn_timestep_scale_multiplier: f64,
    rope_type: String,
    use_prompt_embeddings: bool,
    ff_bias: bool,
    audio_ff_bias: bool,
    use_prompt_adaln_single: bool,
    use_keyframes_abs_pos_embedding: bool,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl DiffusersConfig {
    /// Checks the fields that say what is computed, not how large it is.
    fn check(&self) -> Result<()> {
        let fixed = fixed();
        require(&self.rest, &fixed)?;
        // What a pass leaves out is said by the pass.
        let known = |field: &str| {
            field.starts_with('_') || field == "perturbed_attn" || fixed.iter().any(|(name, _)| *name == field)
        };
        if let Some((field, value)) = self.rest.iter().find(|(field, value)| !known(field) && is_set(value)) {
            return Err(unsupported(field, value));
        }
        if self.rope_type != "split" {
            return Err(unsupported("rope_type", format!("`{}`", self.rope_type)));
        }
        for (field, own, other) in [
            ("audio_gated_attn", self.audio_gated_attn, self.gated_attn),
            ("audio_cross_attn_mod", self.audio_cross_attn_mod, self.cross_attn_mod),
        ] {
            if own != other {
                return Err(unsupported(field, own));
            }
        }
        require_sizes([
            ("out_channels", self.out_channels.unwrap_or(self.in_channels), self.in_channels),
            ("audio_out_channels", self.audio_out_channels.unwrap_or(self.audio_in_channels), self.audio_in_channels),
        ])?;
        if self.timestep_scale_multiplier.to_bits() != super::TIMESTEP_MULTIPLIER.to_bits() {
            return Err(unsupported("timestep_scale_multiplier", self.timestep_scale_multiplier));
        }
        Ok(())
    }
}

/// Returns the fields that have one value in every released model.
fn fixed() -> [(&'static str, Value); 21] {
    [
        ("_class_name", json!("LTX2VideoTransformer3DModel")),
        ("patch_size", json!(1)),
        ("patch_size_t", json!(1)),
        ("audio_patch_size", json!(1)),
        ("audio_patch_size_t", json!(1)),
        ("vae_scale_factors", json!([8, 32, 32])),
        ("pos_embed_max_pos", json!(20)),
        ("base_height", json!(2048)),
        ("base_width", json!(2048)),
        ("audio_scale_factor", json!(4)),
        ("audio_pos_embed_max_pos", json!(20)),
        ("audio_sampling_rate", json!(16000)),
        ("audio_hop_length", json!(160)),
        ("activation_fn", json!("gelu-approximate")),
        ("qk_norm", json!("rms_norm_across_heads")),
        ("norm_elementwise_affine", json!(false)),
        ("attention_bias", json!(true)),
        ("attention_out_bias", json!(true)),
        ("rope_theta", json!(10000)),
        ("rope_double_precision", json!(true)),
        ("causal_offset", json!(1)),
    ]
}

/// Whether a field that is not known asks for anything.
fn is_set(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

impl Default for DiffusersConfig {
    fn default() -> Self {
        Self {
            in_channels: 128,
            out_channels: Some(128),
            num_attention_heads: 32,
            attention_head_dim: 128,
            cross_attention_dim: 4096,
            gated_attn: false,
            cross_attn_mod: false,
            audio_in_channels: 128,
            audio_out_channels: Some(128),
            audio_num_attention_heads: 32,
            audio_attention_head_dim: 64,
            audio_cross_attention_dim: 2048,
            audio_gated_attn: false,
            audio_cross_attn_mod: false,
            num_layers: 48,
            norm_eps: 1e-6,
            caption_channels: 3840,
            timestep_scale_multiplier: super::TIMESTEP_MULTIPLIER,
            cross_attn_timestep_scale_multiplier: super::TIMESTEP_MULTIPLIER,
            rope_type: "interleaved".to_string(),
            use_prompt_embeddings: true,
            ff_bias: true,
            audio_ff_bias: true,
            use_prompt_adaln_single: true,
            use_keyframes_abs_pos_embedding: false,
            rest: Map::new(),
        }
    }
}

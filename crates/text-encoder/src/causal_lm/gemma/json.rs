//! transformers' config.json of Gemma 3 and Gemma 4, of the text model or of a whole one.

use super::{PATTERN, PLACEHOLDERS, pattern};
use crate::causal_lm::{AttentionConfig, CausalLmConfig, LayerKind, Rope};
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

impl CausalLmConfig {
    /// Reads transformers' config.json of Gemma 3 or Gemma 4; absent fields have transformers' defaults, those of old versions
    /// are read as well.
    ///
    /// # Errors
    /// JSON of another form or model; features that are not computed; sizes that do not fit together.
    pub fn from_gemma_json(json: &[u8]) -> Result<Self> {
        let broken = |error: serde_json::Error| Error::Config { reason: error.to_string() };
        let mut value: Value = serde_json::from_slice(json).map_err(broken)?;
        let mut whole = None;
        if let Some(nested @ Value::Object(_)) = value.get_mut("text_config") {
            let text = nested.take();
            whole = Some(serde_json::from_value(value).map_err(broken)?);
            value = text;
        }
        let fields: Fields = serde_json::from_value(value).map_err(broken)?;
        let mut config = match fields.model_type.as_str() {
            "gemma3" | "gemma3_text" => fields.gemma3()?,
            "gemma4" | "gemma4_text" | "gemma4_unified" | "gemma4_unified_text" => fields.gemma4()?,
            other => {
                return refuse(format!("`model_type` is `{other}`, expected `gemma3_text` or `gemma4_unified_text`"));
            }
        };
        config.placeholders =
            whole.filter(|_| config.layer_scalar).map_or_else(Vec::new, |whole: WholeFields| whole.ids());
        config.check()?;
        Ok(config)
    }
}

fn refuse<T>(reason: String) -> Result<T> {
    Err(Error::Config { reason })
}

/// The fields of a model with parts for pictures and sound: in Gemma 4, places for those are embedded as padding.
#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of the file")]
struct WholeFields {
    image_token_id: Option<u32>,
    video_token_id: Option<u32>,
    audio_token_id: Option<u32>,
}

impl WholeFields {
    fn ids(&self) -> Vec<u32> {
        let own = [self.image_token_id, self.video_token_id, self.audio_token_id];
        own.into_iter().zip(PLACEHOLDERS).map(|(own, usual)| own.unwrap_or(usual)).collect()
    }
}

/// The fields that hidden states depend on.
#[derive(Deserialize)]
struct Fields {
    #[serde(default)]
    model_type: String,
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    num_global_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    global_head_dim: Option<usize>,
    per_layer_config: Option<BTreeMap<usize, LayerFields>>,
    layer_types: Option<Vec<String>>,
    #[serde(alias = "_sliding_window_pattern")]
    sliding_window_pattern: Option<usize>,
    sliding_window: Option<usize>,
    query_pre_attn_scalar: Option<f64>,
    rms_norm_eps: Option<f64>,
    pad_token_id: Option<u32>,
    rope_parameters: Option<RopesFields>,
    rope_theta: Option<f64>,
    rope_local_base_freq: Option<f64>,
    rope_scaling: Option<RopeFields>,
    #[serde(default)]
    attention_k_eq_v: bool,
    hidden_activation: Option<String>,
    attention_bias: Option<bool>,
    attn_logit_softcapping: Option<f64>,
    use_bidirectional_attention: Option<Value>,
    num_kv_shared_layers: Option<usize>,
    use_double_wide_mlp: Option<bool>,
    hidden_size_per_layer_input: Option<usize>,
    enable_moe_block: Option<bool>,
}

/// What a layer has otherwise than the others.
#[derive(Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct LayerFields {
    head_dim: Option<usize>,
    num_key_value_heads: Option<usize>,
}

#[derive(Deserialize)]
struct RopesFields {
    sliding_attention: Option<RopeFields>,
    full_attention: Option<RopeFields>,
}

#[derive(Deserialize, Clone, Default)]
struct RopeFields {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    partial_rotary_factor: Option<f64>,
}

impl RopeFields {
    fn rope(&self, theta: f64) -> Result<Rope> {
        let theta = self.rope_theta.unwrap_or(theta);
        let factor = self.factor.unwrap_or(1.0);
        match self.rope_type.as_deref().unwrap_or("default") {
            "default" => Ok(Rope { theta, factor: 1.0, turning: 1.0 }),
            "linear" => Ok(Rope { theta, factor, turning: 1.0 }),
            "proportional" => Ok(Rope { theta, factor, turning: self.partial_rotary_factor.unwrap_or(1.0) }),
            other => refuse(format!("`rope_type` `{other}` is not supported")),
        }
    }
}

impl Fields {
    fn gemma3(&self) -> Result<CausalLmConfig> {
        self.check_features()?;
        let every = self.sliding_window_pattern.unwrap_or(PATTERN);
        let layers = self.layers(self.num_hidden_layers.unwrap_or(26), every)?;
        let ropes = self.rope_parameters.as_ref();
        let full = ropes.and_then(|ropes| ropes.full_attention.clone()).or(self.rope_scaling.clone());
        let sliding = ropes.and_then(|ropes| ropes.sliding_attention.clone()).unwrap_or_default();
        let full = AttentionConfig {
            heads: self.num_attention_heads.unwrap_or(8),
            kv_heads: self.num_key_value_heads.unwrap_or(4),
            head_dim: self.head_dim.unwrap_or(256),
            scale: self.query_pre_attn_scalar.unwrap_or(256.0).powf(-0.5),
            window: None,
            keys_are_values: false,
            rope: full.unwrap_or_default().rope(self.rope_theta.unwrap_or(1e6))?,
        };
        let rope = sliding.rope(self.rope_local_base_freq.unwrap_or(1e4))?;
        let window = Some(self.sliding_window.unwrap_or(4096));
        let sliding = AttentionConfig { window, rope, ..full.clone() };
        let like = CausalLmConfig::gemma3_12b();
        Ok(CausalLmConfig { vocab_size: self.vocab_size.unwrap_or(262_208), ..self.sized(like, layers, sliding, full) })
    }

    fn gemma4(&self) -> Result<CausalLmConfig> {
        self.check_features()?;
        let mut layers = self.layers(self.num_hidden_layers.unwrap_or(30), PATTERN)?;
        if let Some(last) = layers.last_mut() {
            *last = LayerKind::Full;
        }
        let own = self.full_layers(&layers)?;
        let ropes = self.rope_parameters.as_ref();
        let sliding = AttentionConfig {
            heads: self.num_attention_heads.unwrap_or(8),
            kv_heads: self.num_key_value_heads.unwrap_or(4),
            head_dim: self.head_dim.unwrap_or(256),
            scale: 1.0,
            window: Some(self.sliding_window.unwrap_or(1024)),
            keys_are_values: false,
            rope: ropes.and_then(|ropes| ropes.sliding_attention.clone()).unwrap_or_default().rope(1e4)?,
        };
        let usual = RopeFields {
            rope_type: Some("proportional".to_string()),
            partial_rotary_factor: Some(0.25),
            ..RopeFields::default()
        };
        let global = self.num_global_key_value_heads.filter(|_| self.attention_k_eq_v);
        let full = AttentionConfig {
            kv_heads: own.and_then(|own| own.num_key_value_heads).or(global).unwrap_or(sliding.kv_heads),
            head_dim: own.map_or(self.global_head_dim.unwrap_or(512), |own| own.head_dim.unwrap_or(sliding.head_dim)),
            window: None,
            keys_are_values: self.attention_k_eq_v,
            rope: ropes.and_then(|ropes| ropes.full_attention.clone()).unwrap_or(usual).rope(1e6)?,
            ..sliding.clone()
        };
        let like = CausalLmConfig::gemma4_12b();
        Ok(CausalLmConfig { vocab_size: self.vocab_size.unwrap_or(262_144), ..self.sized(like, layers, sliding, full) })
    }

    /// What the layers that see all keys have otherwise than the others, where the configuration says it layer by layer.
    fn full_layers(&self, layers: &[LayerKind]) -> Result<Option<&LayerFields>> {
        let Some(own) = &self.per_layer_config else { return Ok(None) };
        let full = (0..layers.len()).filter(|index| layers[*index] == LayerKind::Full);
        let first = own.values().next();
        if !full.eq(own.keys().copied()) || own.values().any(|fields| Some(fields) != first) {
            return refuse("`per_layer_config` is not the same for all layers with `full_attention`".to_string());
        }
        Ok(first)
    }

    fn sized(
        &self,
        like: CausalLmConfig,
        layers: Vec<LayerKind>,
        sliding: AttentionConfig,
        full: AttentionConfig,
    ) -> CausalLmConfig {
        CausalLmConfig {
            hidden_size: self.hidden_size.unwrap_or(2304),
            intermediate_size: self.intermediate_size.unwrap_or(9216),
            layers,
            sliding,
            full,
            norm_eps: self.rms_norm_eps.unwrap_or(1e-6),
            padding: self.pad_token_id.unwrap_or(0),
            ..like
        }
    }

    fn layers(&self, count: usize, every: usize) -> Result<Vec<LayerKind>> {
        let Some(types) = &self.layer_types else { return Ok(pattern(count, every)) };
        if types.len() != count {
            return refuse(format!("`layer_types` has {} layers, `num_hidden_layers` is {count}", types.len()));
        }
        let kind = |name: &String| match name.as_str() {
            "sliding_attention" => Ok(LayerKind::Sliding),
            "full_attention" => Ok(LayerKind::Full),
            other => refuse(format!("`layer_types` has `{other}`, which is not supported")),
        };
        types.iter().map(kind).collect()
    }

    /// Refuses what would change hidden states and is not computed.
    fn check_features(&self) -> Result<()> {
        let activation = self.hidden_activation.as_deref().unwrap_or("gelu_pytorch_tanh");
        let sees_later = match &self.use_bidirectional_attention {
            None | Some(Value::Null) => false,
            Some(Value::Bool(all)) => *all,
            // Of pictures only.
            Some(value) => value != "vision",
        };
        let features = [
            ("hidden_activation", activation != "gelu_pytorch_tanh"),
            ("attention_bias", self.attention_bias == Some(true)),
            ("attn_logit_softcapping", self.attn_logit_softcapping.is_some()),
            ("use_bidirectional_attention", sees_later),
            ("num_kv_shared_layers", self.num_kv_shared_layers.unwrap_or(0) > 0),
            ("use_double_wide_mlp", self.use_double_wide_mlp == Some(true)),
            ("hidden_size_per_layer_input", self.hidden_size_per_layer_input.unwrap_or(0) > 0),
            ("enable_moe_block", self.enable_moe_block == Some(true)),
        ];
        match features.into_iter().find(|(_, asked)| *asked) {
            Some((field, _)) => refuse(format!("`{field}` asks for what is not supported")),
            None => Ok(()),
        }
    }
}

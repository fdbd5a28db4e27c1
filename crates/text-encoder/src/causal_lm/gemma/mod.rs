//! Gemma 3 and Gemma 4 as [`CausalLmConfig`]: the text parts of their multimodal releases.

mod json;
mod keys;

pub use keys::{
    canonical_from_llama_cpp_gemma3, canonical_from_llama_cpp_gemma4, canonical_from_transformers, key_maps,
};

use super::{Activation, AttentionConfig, CausalLmConfig, LayerKind, Rope};

/// Layers of which one, the last, sees all keys.
const PATTERN: usize = 6;
/// The tokens of Gemma 4 that stand for pictures, clips and sound.
const PLACEHOLDERS: [u32; 3] = [258_880, 258_884, 258_881];

impl CausalLmConfig {
    /// Gemma 3 12B: <https://huggingface.co/google/gemma-3-12b-it/blob/main/config.json>.
    pub fn gemma3_12b() -> Self {
        let full = AttentionConfig {
            heads: 16,
            kv_heads: 8,
            head_dim: 256,
            scale: 1.0 / 16.0,
            window: None,
            keys_are_values: false,
            rope: Rope { theta: 1e6, factor: 8.0, turning: 1.0 },
        };
        let rope = Rope { theta: 1e4, factor: 1.0, turning: 1.0 };
        Self {
            vocab_size: 262_208,
            hidden_size: 3840,
            intermediate_size: 15_360,
            layers: pattern(48, PATTERN),
            sliding: AttentionConfig { window: Some(1024), rope, ..full.clone() },
            full,
            norm_offset: true,
            v_norm: false,
            layer_scalar: false,
            ..Self::gemma()
        }
    }

    /// Gemma 4 12B, as it is in LTX-2.5.
    pub fn gemma4_12b() -> Self {
        let sliding = AttentionConfig {
            heads: 16,
            kv_heads: 8,
            head_dim: 256,
            scale: 1.0,
            window: Some(1024),
            keys_are_values: false,
            rope: Rope { theta: 1e4, factor: 1.0, turning: 1.0 },
        };
        let rope = Rope { theta: 1e6, factor: 1.0, turning: 0.25 };
        let full = AttentionConfig {
            kv_heads: 1,
            head_dim: 512,
            window: None,
            keys_are_values: true,
            rope,
            ..sliding.clone()
        };
        Self {
            vocab_size: 262_144,
            hidden_size: 3840,
            intermediate_size: 15_360,
            layers: pattern(48, PATTERN),
            sliding,
            full,
            placeholders: PLACEHOLDERS.to_vec(),
            ..Self::gemma()
        }
    }

    /// Returns the configuration of a released model with tensors of these canonical names and shapes, for files that come
    /// without one: Gemma 4 12B if its layers have scalars, or else Gemma 3 12B.
    pub fn of_released_gemma(shapes: &[(String, Vec<usize>)]) -> Self {
        let find = |name: &str| shapes.iter().find(|(found, _)| found == name);
        let released = if find("layers.0.layer_scalar").is_some() { Self::gemma4_12b() } else { Self::gemma3_12b() };
        // GGUF files leave out the rows that no token belongs to.
        let rows = find("embed_tokens.weight").and_then(|(_, shape)| shape.first().copied());
        Self { vocab_size: rows.unwrap_or(released.vocab_size), ..released }
    }

    /// What all have in common, with the rest as in Gemma 4; sizes are to be filled in.
    fn gemma() -> Self {
        let rope = Rope { theta: 1e4, factor: 1.0, turning: 1.0 };
        let (window, keys_are_values) = (None, false);
        let attention =
            AttentionConfig { heads: 0, kv_heads: 0, head_dim: 0, scale: 1.0, window, keys_are_values, rope };
        Self {
            vocab_size: 0,
            hidden_size: 0,
            intermediate_size: 0,
            layers: Vec::new(),
            sliding: attention.clone(),
            full: attention,
            activation: Activation::GeluTanh,
            norm_eps: 1e-6,
            norm_offset: false,
            post_norms: true,
            qk_norm: true,
            v_norm: true,
            attention_bias: false,
            scaled_embeddings: true,
            layer_scalar: true,
            placeholders: Vec::new(),
            padding: 0,
        }
    }
}

/// Returns the kinds of so many layers, of which one in `every` sees all keys.
fn pattern(layers: usize, every: usize) -> Vec<LayerKind> {
    let kind = |index: usize| {
        if (index + 1).is_multiple_of(every.max(1)) { LayerKind::Full } else { LayerKind::Sliding }
    };
    (0..layers).map(kind).collect()
}

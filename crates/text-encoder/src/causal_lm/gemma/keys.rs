//! Names of Gemma's tensors in the layouts that there are.

use crate::causal_lm::layer::WITH_OFFSET;
use kinora_checkpoint::KeyMap;

/// What stands before the text model's names: in its own checkpoints, in those of multimodal models, and in those before and
/// since version 5 of transformers.
const PREFIXES: [&str; 4] = ["", "model.", "language_model.model.", "model.language_model."];

/// Returns the maps of all layouts that files come in.
pub fn key_maps() -> [KeyMap; 3] {
    [canonical_from_transformers(), canonical_from_llama_cpp_gemma3(), canonical_from_llama_cpp_gemma4()]
}

/// Names in transformers' checkpoints, with the parts for pictures and sound or without; files for LTX-2.5 also carry its
/// projections, and a tokenizer as tensors.
pub fn canonical_from_transformers() -> KeyMap {
    let rules = PREFIXES.iter().flat_map(|prefix| NAMES.iter().map(move |name| (format!("{prefix}{name}"), *name)));
    KeyMap::new("transformers", rules).dropping(UNUSED)
}

/// Names in GGUF files of llama.cpp, which hold norms' weights plus 1.
/// <https://github.com/ggml-org/llama.cpp/blob/b7100/gguf-py/gguf/constants.py>
pub fn canonical_from_llama_cpp_gemma3() -> KeyMap {
    llama_cpp("llama.cpp Gemma 3", WITH_OFFSET, &[])
}

/// Names in GGUF files of llama.cpp, which hold a table of the frequencies, too: that of the configuration is used.
pub fn canonical_from_llama_cpp_gemma4() -> KeyMap {
    llama_cpp("llama.cpp Gemma 4", "weight", &[("blk.{i}.layer_output_scale.weight", "layers.{i}.layer_scalar")])
}

fn llama_cpp(layout: &str, norm: &str, more: &[(&'static str, &'static str)]) -> KeyMap {
    let own = |(source, canonical): &(&str, &str)| ((*source).to_string(), (*canonical).to_string());
    let norms =
        LLAMA_CPP_NORMS.iter().map(|(source, canonical)| (format!("{source}.weight"), format!("{canonical}.{norm}")));
    let rules = LLAMA_CPP.iter().chain(more).map(own).chain(norms);
    KeyMap::new(layout, rules).dropping(["output.weight", "rope_freqs.weight"])
}

const NAMES: [&str; 9] = [
    "embed_tokens.weight",
    "norm.weight",
    "layers.{i}.input_layernorm.weight",
    "layers.{i}.post_attention_layernorm.weight",
    "layers.{i}.pre_feedforward_layernorm.weight",
    "layers.{i}.post_feedforward_layernorm.weight",
    "layers.{i}.layer_scalar",
    "layers.{i}.self_attn.{part}.weight",
    "layers.{i}.mlp.{part}.weight",
];

/// The head, the parts for pictures and sound, and what files for LTX-2.5 have beside the model.
const UNUSED: [&str; 20] = [
    "lm_head.weight",
    "model.lm_head.weight",
    "language_model.lm_head.weight",
    "vision_tower.{rest..}",
    "model.vision_tower.{rest..}",
    "vision_model.{rest..}",
    "model.vision_embedder.{rest..}",
    "model.embed_vision.{rest..}",
    "model.embed_audio.{rest..}",
    "multi_modal_projector.{rest..}",
    "model.multi_modal_projector.{rest..}",
    "audio_projector.{rest..}",
    "text_embedding_projection.{rest..}",
    "spiece_model",
    "tokenizer_json",
    "hf_asset__chat_template",
    "hf_asset__generation_config",
    "hf_asset__preprocessor_config",
    "hf_asset__processor_config",
    "hf_asset__tokenizer_config",
];

const LLAMA_CPP: [(&str, &str); 8] = [
    ("token_embd.weight", "embed_tokens.weight"),
    ("blk.{i}.attn_q.weight", "layers.{i}.self_attn.q_proj.weight"),
    ("blk.{i}.attn_k.weight", "layers.{i}.self_attn.k_proj.weight"),
    ("blk.{i}.attn_v.weight", "layers.{i}.self_attn.v_proj.weight"),
    ("blk.{i}.attn_output.weight", "layers.{i}.self_attn.o_proj.weight"),
    ("blk.{i}.ffn_gate.weight", "layers.{i}.mlp.gate_proj.weight"),
    ("blk.{i}.ffn_up.weight", "layers.{i}.mlp.up_proj.weight"),
    ("blk.{i}.ffn_down.weight", "layers.{i}.mlp.down_proj.weight"),
];

const LLAMA_CPP_NORMS: [(&str, &str); 7] = [
    ("output_norm", "norm"),
    ("blk.{i}.attn_norm", "layers.{i}.input_layernorm"),
    ("blk.{i}.post_attention_norm", "layers.{i}.post_attention_layernorm"),
    ("blk.{i}.ffn_norm", "layers.{i}.pre_feedforward_layernorm"),
    ("blk.{i}.post_ffw_norm", "layers.{i}.post_feedforward_layernorm"),
    ("blk.{i}.attn_q_norm", "layers.{i}.self_attn.q_norm"),
    ("blk.{i}.attn_k_norm", "layers.{i}.self_attn.k_norm"),
];

//! Names of UMT5's tensors in the layouts that there are.

use kinora_checkpoint::KeyMap;

/// A `SentencePiece` model that `ComfyUI`'s files carry as one more tensor.
const SPIECE: &str = "spiece_model";

/// Returns the maps of all layouts that files come in.
pub fn key_maps() -> [KeyMap; 3] {
    let original = KeyMap::identity("original").anchored(["token_embedding.weight"]).dropping([SPIECE]);
    [canonical_from_transformers(), canonical_from_llama_cpp(), original]
}

/// Names in transformers' checkpoints. The embedding table is there under one or both of its two names, and a checkpoint of
/// the whole model has a decoder.
pub fn canonical_from_transformers() -> KeyMap {
    KeyMap::new("transformers", TRANSFORMERS)
        .dropping([SPIECE, "lm_head.weight", "decoder.{rest..}"])
        .dropping_duplicate("shared.weight", "encoder.embed_tokens.weight")
}

/// Names in GGUF files of llama.cpp.
/// <https://github.com/ggml-org/llama.cpp/blob/b7100/gguf-py/gguf/constants.py>
pub fn canonical_from_llama_cpp() -> KeyMap {
    KeyMap::new("llama.cpp", LLAMA_CPP).dropping(["output.weight", "dec.{rest..}"])
}

const TRANSFORMERS: [(&str, &str); 13] = [
    ("shared.weight", "token_embedding.weight"),
    ("encoder.embed_tokens.weight", "token_embedding.weight"),
    ("encoder.block.{i}.layer.0.layer_norm.weight", "blocks.{i}.norm1.weight"),
    ("encoder.block.{i}.layer.0.SelfAttention.q.weight", "blocks.{i}.attn.q.weight"),
    ("encoder.block.{i}.layer.0.SelfAttention.k.weight", "blocks.{i}.attn.k.weight"),
    ("encoder.block.{i}.layer.0.SelfAttention.v.weight", "blocks.{i}.attn.v.weight"),
    ("encoder.block.{i}.layer.0.SelfAttention.o.weight", "blocks.{i}.attn.o.weight"),
    (
        "encoder.block.{i}.layer.0.SelfAttention.relative_attention_bias.weight",
        "blocks.{i}.pos_embedding.embedding.weight",
    ),
    ("encoder.block.{i}.layer.1.layer_norm.weight", "blocks.{i}.norm2.weight"),
    ("encoder.block.{i}.layer.1.DenseReluDense.wi_0.weight", "blocks.{i}.ffn.gate.0.weight"),
    ("encoder.block.{i}.layer.1.DenseReluDense.wi_1.weight", "blocks.{i}.ffn.fc1.weight"),
    ("encoder.block.{i}.layer.1.DenseReluDense.wo.weight", "blocks.{i}.ffn.fc2.weight"),
    ("encoder.final_layer_norm.weight", "norm.weight"),
];

const LLAMA_CPP: [(&str, &str); 12] = [
    ("token_embd.weight", "token_embedding.weight"),
    ("enc.blk.{i}.attn_norm.weight", "blocks.{i}.norm1.weight"),
    ("enc.blk.{i}.attn_q.weight", "blocks.{i}.attn.q.weight"),
    ("enc.blk.{i}.attn_k.weight", "blocks.{i}.attn.k.weight"),
    ("enc.blk.{i}.attn_v.weight", "blocks.{i}.attn.v.weight"),
    ("enc.blk.{i}.attn_o.weight", "blocks.{i}.attn.o.weight"),
    ("enc.blk.{i}.attn_rel_b.weight", "blocks.{i}.pos_embedding.embedding.weight"),
    ("enc.blk.{i}.ffn_norm.weight", "blocks.{i}.norm2.weight"),
    ("enc.blk.{i}.ffn_gate.weight", "blocks.{i}.ffn.gate.0.weight"),
    ("enc.blk.{i}.ffn_up.weight", "blocks.{i}.ffn.fc1.weight"),
    ("enc.blk.{i}.ffn_down.weight", "blocks.{i}.ffn.fc2.weight"),
    ("enc.output_norm.weight", "norm.weight"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The layouts name the same tensors.
    #[test]
    fn every_layout_has_every_tensor() {
        let canonical =
            |rules: &[(&'static str, &'static str)]| -> BTreeSet<&str> { rules.iter().map(|rule| rule.1).collect() };
        assert_eq!(canonical(&LLAMA_CPP), canonical(&TRANSFORMERS));
        let names = [
            "token_embd.weight",
            "enc.blk.11.attn_rel_b.weight",
            "enc.blk.1.ffn_gate.weight",
            "dec.blk.0.attn_q.weight",
        ];
        let mapped = canonical_from_llama_cpp().canonical_names(names).expect("names of the layout");
        assert_eq!(mapped["blocks.11.pos_embedding.embedding.weight"], "enc.blk.11.attn_rel_b.weight");
        assert_eq!(mapped["blocks.1.ffn.gate.0.weight"], "enc.blk.1.ffn_gate.weight");
        assert_eq!(mapped.len(), 3, "the decoder is left out");
        for map in key_maps().iter().filter(|map| map.layout() != "llama.cpp") {
            let mapped = map.canonical_names(["spiece_model"]).expect("no tensor");
            assert!(mapped.is_empty(), "{}", map.layout());
        }
    }
}

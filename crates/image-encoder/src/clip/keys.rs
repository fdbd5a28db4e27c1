//! Parameter names: those of transformers are the canonical ones; the original release has others, and its queries, keys
//! and values are made by one matrix (<https://github.com/Wan-Video/Wan2.1/blob/9737cba9c1c3/wan/modules/clip.py>).

use kinora_checkpoint::KeyMap;

/// The original's class token, `[1, 1, C]`, below `embeddings`.
pub(super) const ORIGINAL_CLASS: &str = "cls_embedding";
/// The original's position table, `[1, T, C]`, below `embeddings`.
pub(super) const ORIGINAL_POSITIONS: &str = "pos_embedding";
/// The original's layer of queries, keys and values, below `self_attn`.
pub(super) const ORIGINAL_QKV: &str = "to_qkv";

/// The layouts that vision towers come in: transformers' (the tower alone or a whole CLIP model; `ComfyUI`'s single file
/// has the same names), and Wan's original `models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth`.
pub fn key_maps() -> Vec<KeyMap> {
    let prefixed = TRANSFORMERS.iter().map(|name| (format!("vision_model.{name}"), format!("vision_model.{name}")));
    // Without the prefix, as `CLIPVisionModel` has them in transformers since version 5.
    let bare = TRANSFORMERS.iter().map(|name| ((*name).to_string(), format!("vision_model.{name}")));
    let transformers = KeyMap::new("transformers CLIP", prefixed.chain(bare)).dropping(TRANSFORMERS_UNUSED);
    let original = ORIGINAL.iter().map(|(name, to)| (format!("visual.{name}"), format!("vision_model.{to}")));
    vec![transformers, KeyMap::new("original CLIP", original).dropping(ORIGINAL_UNUSED)]
}

const TRANSFORMERS: [&str; 8] = [
    "embeddings.class_embedding",
    "embeddings.patch_embedding.weight",
    "embeddings.position_embedding.weight",
    "pre_layrnorm.{p}",
    "encoder.layers.{i}.layer_norm1.{p}",
    "encoder.layers.{i}.layer_norm2.{p}",
    "encoder.layers.{i}.self_attn.{layer}.{p}",
    "encoder.layers.{i}.mlp.{layer}.{p}",
];

/// What comes after the hidden states, a constant that older versions stored, and the text half.
const TRANSFORMERS_UNUSED: [&str; 9] = [
    "vision_model.post_layernorm.{p}",
    "post_layernorm.{p}",
    "visual_projection.weight",
    "vision_model.embeddings.position_ids",
    "embeddings.position_ids",
    "text_model.{p..}",
    "text_projection.weight",
    "logit_scale",
    "logit_bias",
];

const ORIGINAL: [(&str, &str); 10] = [
    ("cls_embedding", "embeddings.cls_embedding"),
    ("pos_embedding", "embeddings.pos_embedding"),
    ("patch_embedding.weight", "embeddings.patch_embedding.weight"),
    ("pre_norm.{p}", "pre_layrnorm.{p}"),
    ("transformer.{i}.norm1.{p}", "encoder.layers.{i}.layer_norm1.{p}"),
    ("transformer.{i}.norm2.{p}", "encoder.layers.{i}.layer_norm2.{p}"),
    ("transformer.{i}.attn.to_qkv.{p}", "encoder.layers.{i}.self_attn.to_qkv.{p}"),
    ("transformer.{i}.attn.proj.{p}", "encoder.layers.{i}.self_attn.out_proj.{p}"),
    ("transformer.{i}.mlp.0.{p}", "encoder.layers.{i}.mlp.fc1.{p}"),
    ("transformer.{i}.mlp.2.{p}", "encoder.layers.{i}.mlp.fc2.{p}"),
];

const ORIGINAL_UNUSED: [&str; 4] = ["visual.post_norm.{p}", "visual.head", "textual.{p..}", "log_scale"];

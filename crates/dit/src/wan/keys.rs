//! The tensors' names in diffusers' layout.

use kinora_checkpoint::KeyMap;

/// Returns the map from diffusers' layout, and from the names of a camera adapter, which diffusers does not have. Only one
/// of a block's three norms has parameters; diffusers calls it `norm2`, the original `norm3`.
pub fn canonical_from_diffusers() -> KeyMap {
    let blocks = ["blocks", "vace_blocks"].into_iter().flat_map(|blocks| {
        let full = move |name: &str| format!("{blocks}.{{i}}.{name}");
        BLOCK.into_iter().map(move |(diffusers, canonical)| (full(diffusers), full(canonical)))
    });
    let others = OTHERS.into_iter().map(|(diffusers, canonical)| (diffusers.to_string(), canonical.to_string()));
    // Early conversions of image-to-video models have a norm that nothing goes through.
    KeyMap::new("diffusers", others.chain(blocks)).dropping(["blocks.{i}.attn2.norm_added_q.weight"])
}

const OTHERS: [(&str, &str); 17] = [
    ("patch_embedding.{p}", "patch_embedding.{p}"),
    ("condition_embedder.text_embedder.linear_1.{p}", "text_embedding.0.{p}"),
    ("condition_embedder.text_embedder.linear_2.{p}", "text_embedding.2.{p}"),
    ("condition_embedder.time_embedder.linear_1.{p}", "time_embedding.0.{p}"),
    ("condition_embedder.time_embedder.linear_2.{p}", "time_embedding.2.{p}"),
    ("condition_embedder.time_proj.{p}", "time_projection.1.{p}"),
    ("condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"),
    ("condition_embedder.image_embedder.norm1.{p}", "img_emb.proj.0.{p}"),
    ("condition_embedder.image_embedder.ff.net.0.proj.{p}", "img_emb.proj.1.{p}"),
    ("condition_embedder.image_embedder.ff.net.2.{p}", "img_emb.proj.3.{p}"),
    ("condition_embedder.image_embedder.norm2.{p}", "img_emb.proj.4.{p}"),
    ("vace_patch_embedding.{p}", "vace_patch_embedding.{p}"),
    ("control_adapter.conv.{p}", "control_adapter.conv.{p}"),
    ("control_adapter.residual_blocks.{i}.conv1.{p}", "control_adapter.residual_blocks.{i}.conv1.{p}"),
    ("control_adapter.residual_blocks.{i}.conv2.{p}", "control_adapter.residual_blocks.{i}.conv2.{p}"),
    ("scale_shift_table", "head.modulation"),
    ("proj_out.{p}", "head.head.{p}"),
];

/// The names of a main block and of a control block; only the latter has `proj_in` and `proj_out`.
const BLOCK: [(&str, &str); 21] = [
    ("scale_shift_table", "modulation"),
    ("proj_in.{p}", "before_proj.{p}"),
    ("attn1.to_q.{p}", "self_attn.q.{p}"),
    ("attn1.to_k.{p}", "self_attn.k.{p}"),
    ("attn1.to_v.{p}", "self_attn.v.{p}"),
    ("attn1.to_out.0.{p}", "self_attn.o.{p}"),
    ("attn1.norm_q.{p}", "self_attn.norm_q.{p}"),
    ("attn1.norm_k.{p}", "self_attn.norm_k.{p}"),
    ("norm2.{p}", "norm3.{p}"),
    ("attn2.to_q.{p}", "cross_attn.q.{p}"),
    ("attn2.to_k.{p}", "cross_attn.k.{p}"),
    ("attn2.to_v.{p}", "cross_attn.v.{p}"),
    ("attn2.to_out.0.{p}", "cross_attn.o.{p}"),
    ("attn2.norm_q.{p}", "cross_attn.norm_q.{p}"),
    ("attn2.norm_k.{p}", "cross_attn.norm_k.{p}"),
    ("attn2.add_k_proj.{p}", "cross_attn.k_img.{p}"),
    ("attn2.add_v_proj.{p}", "cross_attn.v_img.{p}"),
    ("attn2.norm_added_k.{p}", "cross_attn.norm_k_img.{p}"),
    ("ffn.net.0.proj.{p}", "ffn.0.{p}"),
    ("ffn.net.2.{p}", "ffn.2.{p}"),
    ("proj_out.{p}", "after_proj.{p}"),
];

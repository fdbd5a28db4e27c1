//! The tensors' names in all layouts.

use kinora_checkpoint::KeyMap;

/// The connectors' tensors, which the original files keep beside those of the transformer.
const CONNECTORS: [&str; 3] = [
    "video_embeddings_connector.{rest..}",
    "audio_embeddings_connector.{rest..}",
    "text_embedding_projection.{rest..}",
];

/// Other parts of a model that a combined file holds.
const OTHER_PARTS: [&str; 3] = ["vae.{rest..}", "audio_vae.{rest..}", "vocoder.{rest..}"];

/// Returns the maps of all layouts: diffusers', the file that holds all parts of a model, and the transformer's own files.
pub fn key_maps() -> [KeyMap; 3] {
    // Most names are the same in two layouts, so that each has to be told by all of its rules.
    let original = rules().into_iter().map(|[_, canonical]| (canonical.clone(), canonical));
    [canonical_from_diffusers(), canonical_from_combined(), KeyMap::new("original", original).dropping(CONNECTORS)]
}

/// Returns the map from diffusers' layout.
pub fn canonical_from_diffusers() -> KeyMap {
    KeyMap::new("diffusers", rules().into_iter().map(|[diffusers, canonical]| (diffusers, canonical)))
}

/// Returns the map from the file that holds all parts of a model, in which the transformer's names have a prefix and other parts
/// are left out.
pub fn canonical_from_combined() -> KeyMap {
    let prefixed = |name: &str| format!("model.diffusion_model.{name}");
    let rules = rules().into_iter().map(|[_, canonical]| (prefixed(&canonical), canonical));
    let dropped = CONNECTORS.into_iter().chain(OTHER_PARTS);
    KeyMap::new("combined", rules).dropping(CONNECTORS.map(prefixed)).dropping(dropped)
}

/// Returns diffusers' name and the original one of every tensor.
fn rules() -> Vec<[String; 2]> {
    let both = |[diffusers, canonical]: [&str; 2]| {
        ["", "audio_"].map(|stream| [format!("{stream}{diffusers}"), format!("{stream}{canonical}")])
    };
    let with = |[diffusers, canonical]: &[String; 2], rest: &str| {
        [format!("{diffusers}.{rest}"), format!("{canonical}.{rest}")]
    };
    let mut rules: Vec<_> = STREAM.into_iter().flat_map(both).collect();
    rules.push([KEYFRAMES, KEYFRAMES].map(str::to_string));
    let embeddings = TIMESTEPS.into_iter().flat_map(both);
    for embedding in embeddings.chain(BETWEEN.map(|names| names.map(str::to_string))) {
        rules.push(with(&embedding, "emb.timestep_embedder.{layer}.{p}"));
        rules.push(with(&embedding, "linear.{p}"));
    }
    let block = |names: [String; 2]| names.map(|name| format!("transformer_blocks.{{i}}.{name}"));
    rules.extend(BLOCK.map(|names| block(names.map(str::to_string))));
    for attention in ATTENTIONS {
        rules.extend(ATTENTION.map(|names| block(names.map(|name| format!("{attention}.{name}")))));
    }
    rules
}

/// The marker of generated key frames in 2.5.
const KEYFRAMES: &str = "keyframes_abs_pos_embedding";

/// The names of parts that both streams have; those of sound begin with `audio_`.
const STREAM: [[&str; 2]; 4] = [
    ["proj_in.{p}", "patchify_proj.{p}"],
    ["proj_out.{p}", "proj_out.{p}"],
    ["scale_shift_table", "scale_shift_table"],
    ["caption_projection.{layer}.{p}", "caption_projection.{layer}.{p}"],
];

/// The embeddings of timesteps that both streams have.
const TIMESTEPS: [[&str; 2]; 2] = [["time_embed", "adaln_single"], ["prompt_adaln", "prompt_adaln_single"]];

/// The embeddings of timesteps for the attention between the streams.
const BETWEEN: [[&str; 2]; 4] = [
    ["av_cross_attn_video_scale_shift", "av_ca_video_scale_shift_adaln_single"],
    ["av_cross_attn_audio_scale_shift", "av_ca_audio_scale_shift_adaln_single"],
    ["av_cross_attn_video_a2v_gate", "av_ca_a2v_gate_adaln_single"],
    ["av_cross_attn_audio_v2a_gate", "av_ca_v2a_gate_adaln_single"],
];

/// The names of a block, but for its attentions.
const BLOCK: [[&str; 2]; 10] = [
    ["scale_shift_table", "scale_shift_table"],
    ["audio_scale_shift_table", "audio_scale_shift_table"],
    ["prompt_scale_shift_table", "prompt_scale_shift_table"],
    ["audio_prompt_scale_shift_table", "audio_prompt_scale_shift_table"],
    ["video_a2v_cross_attn_scale_shift_table", "scale_shift_table_a2v_ca_video"],
    ["audio_a2v_cross_attn_scale_shift_table", "scale_shift_table_a2v_ca_audio"],
    ["ff.net.0.proj.{p}", "ff.net.0.proj.{p}"],
    ["ff.net.2.{p}", "ff.net.2.{p}"],
    ["audio_ff.net.0.proj.{p}", "audio_ff.net.0.proj.{p}"],
    ["audio_ff.net.2.{p}", "audio_ff.net.2.{p}"],
];

const ATTENTIONS: [&str; 6] =
    ["attn1", "attn2", "audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn"];

/// The names of an attention.
const ATTENTION: [[&str; 2]; 7] = [
    ["to_q.{p}", "to_q.{p}"],
    ["to_k.{p}", "to_k.{p}"],
    ["to_v.{p}", "to_v.{p}"],
    ["to_out.0.{p}", "to_out.0.{p}"],
    ["to_gate_logits.{p}", "to_gate_logits.{p}"],
    ["norm_q.{p}", "q_norm.{p}"],
    ["norm_k.{p}", "k_norm.{p}"],
];

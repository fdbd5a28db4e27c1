//! Names of the connectors' tensors in the layouts that there are.

use kinora_checkpoint::KeyMap;

/// What stands before the connectors' names in files that hold the transformer, too.
const PREFIXES: [&str; 4] = ["", "model.diffusion_model.", "diffusion_model.", "model."];

/// Segments that names of the connectors' tensors have, and those of no other part, in all layouts.
const SEGMENTS: [&str; 8] = [
    "video_embeddings_connector",
    "audio_embeddings_connector",
    "text_embedding_projection",
    "video_connector",
    "audio_connector",
    "text_proj_in",
    "video_text_proj_in",
    "audio_text_proj_in",
];

/// Returns whether a tensor of this name belongs to the connectors: files of the original release hold them beside the
/// transformer, or their projections beside the language model. See [`kinora_checkpoint::TensorFile::only`].
pub fn is_of_connectors(name: &str) -> bool {
    name.split('.').any(|segment| SEGMENTS.contains(&segment))
}

/// Returns the maps of all layouts that files come in.
pub fn key_maps() -> [KeyMap; 2] {
    [canonical_from_diffusers(), canonical_from_original()]
}

/// Names in the files of the original release. The projections have no prefix there, or that of the connectors.
pub fn canonical_from_original() -> KeyMap {
    let own = |name: &'static str| PREFIXES.iter().map(move |prefix| (format!("{prefix}{name}"), name));
    KeyMap::new("original", ORIGINAL.into_iter().flat_map(own))
}

/// Names in a diffusers directory.
pub fn canonical_from_diffusers() -> KeyMap {
    let connectors = ["video", "audio"].into_iter().flat_map(|modality| {
        let rule = move |(diffusers, canonical): (&str, &str)| {
            (format!("{modality}_connector.{diffusers}"), format!("{modality}_embeddings_connector.{canonical}"))
        };
        DIFFUSERS.into_iter().map(rule)
    });
    let rule = |(diffusers, canonical): (&str, &str)| {
        (format!("{diffusers}.{{p}}"), format!("text_embedding_projection.{canonical}.{{p}}"))
    };
    KeyMap::new("diffusers", connectors.chain(DIFFUSERS_PROJECTIONS.into_iter().map(rule)))
}

const ORIGINAL: [&str; 9] = [
    "text_embedding_projection.aggregate_embed.weight",
    "text_embedding_projection.video_aggregate_embed.{p}",
    "text_embedding_projection.audio_aggregate_embed.{p}",
    "video_embeddings_connector.learnable_registers",
    "video_embeddings_connector.transformer_1d_blocks.{i}.attn1.{rest..}",
    "video_embeddings_connector.transformer_1d_blocks.{i}.ff.{rest..}",
    "audio_embeddings_connector.learnable_registers",
    "audio_embeddings_connector.transformer_1d_blocks.{i}.attn1.{rest..}",
    "audio_embeddings_connector.transformer_1d_blocks.{i}.ff.{rest..}",
];

const DIFFUSERS_PROJECTIONS: [(&str, &str); 3] = [
    ("text_proj_in", "aggregate_embed"),
    ("video_text_proj_in", "video_aggregate_embed"),
    ("audio_text_proj_in", "audio_aggregate_embed"),
];

const DIFFUSERS: [(&str, &str); 10] = [
    ("learnable_registers", "learnable_registers"),
    ("transformer_blocks.{i}.attn1.norm_q.weight", "transformer_1d_blocks.{i}.attn1.q_norm.weight"),
    ("transformer_blocks.{i}.attn1.norm_k.weight", "transformer_1d_blocks.{i}.attn1.k_norm.weight"),
    ("transformer_blocks.{i}.attn1.to_q.{p}", "transformer_1d_blocks.{i}.attn1.to_q.{p}"),
    ("transformer_blocks.{i}.attn1.to_k.{p}", "transformer_1d_blocks.{i}.attn1.to_k.{p}"),
    ("transformer_blocks.{i}.attn1.to_v.{p}", "transformer_1d_blocks.{i}.attn1.to_v.{p}"),
    ("transformer_blocks.{i}.attn1.to_out.0.{p}", "transformer_1d_blocks.{i}.attn1.to_out.0.{p}"),
    ("transformer_blocks.{i}.attn1.to_gate_logits.{p}", "transformer_1d_blocks.{i}.attn1.to_gate_logits.{p}"),
    ("transformer_blocks.{i}.ff.net.0.proj.{p}", "transformer_1d_blocks.{i}.ff.net.0.proj.{p}"),
    ("transformer_blocks.{i}.ff.net.2.{p}", "transformer_1d_blocks.{i}.ff.net.2.{p}"),
];

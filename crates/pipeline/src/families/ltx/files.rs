//! The files of LTX-2.x: their roles and variants, in the original release's layout, in diffusers' and in `ComfyUI`'s.

use crate::model::family_files::{FamilyFiles, Within};
use crate::model::role::Role;
use kinora_checkpoint::TensorInfo;
use serde_json::Value;

/// Classes of diffusers' pipelines that all parts of a model are saved as.
const PIPELINES: [&str; 7] = [
    "LTX2Pipeline",
    "LTX2ImageToVideoPipeline",
    "LTX2ConditionPipeline",
    "LTX2InContextPipeline",
    "LTX2DFRPipeline",
    "LTX2DFRTemporalRefinePipeline",
    "LTX2HDRPipeline",
];

/// Names, or ends of names behind a dot, that the tensors of a role have, and those of no other one before it.
const ROLES: [(Role, &[&str]); 6] = [
    (Role::Transformer, &["transformer_blocks.0.audio_to_video_attn.to_q.weight"]),
    // Transformers', in all versions of Gemma that the family uses, and llama.cpp's.
    (Role::TextEncoder, &["layers.0.pre_feedforward_layernorm.weight", "blk.0.post_ffw_norm.weight"]),
    (Role::LatentUpsampler, &["post_upsample_res_blocks.0.conv1.weight"]),
    (Role::Vocoder, &["resblocks.0.convs1.0.weight", "resnets.0.convs1.0.weight"]),
    (Role::AudioVae, &["encoder.down.0.block.0.conv1.conv.weight", "decoder.up.0.block.0.conv1.conv.weight"]),
    // Both halves, in the original's names and in diffusers'.
    (
        Role::Vae,
        &[
            "encoder.down_blocks.0.res_blocks.0.conv1.conv.weight",
            "decoder.up_blocks.0.res_blocks.0.conv1.conv.weight",
            "encoder.down_blocks.0.resnets.0.conv1.conv.weight",
            "decoder.mid_block.resnets.0.conv1.conv.weight",
        ],
    ),
];

/// Names of the statistics of latents, which every autoencoder of the family has in its file.
const STATISTICS: [&str; 2] = ["per_channel_statistics.mean-of-means", "latents_mean"];

/// Original releases keep the connectors in the transformer's file, and their projections there or in the text encoder's; the
/// head that estimates the length of a clip is in files with everything.
const WITHIN: &[Within] = &[
    Within { segments: &["video_embeddings_connector", "video_connector"], role: Some(Role::Connectors) },
    Within { segments: &["audio_embeddings_connector", "audio_connector"], role: Some(Role::Connectors) },
    Within {
        segments: &["text_embedding_projection", "text_proj_in", "video_text_proj_in", "audio_text_proj_in"],
        role: Some(Role::Connectors),
    },
    Within { segments: &["duration_head"], role: None },
];

/// The width of the video stream in every released model.
const RELEASED_WIDTH: usize = 4096;

/// The family.
pub(crate) struct Ltx;

impl FamilyFiles for Ltx {
    fn name(&self) -> &'static str {
        "ltx"
    }

    fn owns_pipeline(&self, class_name: &str) -> bool {
        PIPELINES.contains(&class_name)
    }

    fn role(&self, tensors: &[TensorInfo]) -> Option<Role> {
        let has = |name: &&str| tensors.iter().any(|tensor| is_called(tensor, name));
        let found = ROLES.iter().find(|(_, names)| names.iter().any(&has)).map(|(role, _)| *role);
        match found {
            Some(Role::Vae | Role::AudioVae) if !STATISTICS.iter().any(has) => None,
            None => {
                let is_piece = |within: &&Within| tensors.iter().any(|tensor| within.start_of(&tensor.name).is_some());
                WITHIN.iter().find(is_piece)?.role
            }
            found => found,
        }
    }

    fn needs(&self, _transformer: &[TensorInfo], _config: Option<&Value>) -> Vec<Role> {
        vec![Role::Transformer, Role::Vae, Role::TextEncoder, Role::Connectors, Role::AudioVae, Role::Vocoder]
    }

    fn may_have(&self) -> &'static [Role] {
        &[Role::LatentUpsampler]
    }

    fn within(&self) -> &'static [Within] {
        WITHIN
    }

    fn tokenizers(&self) -> &'static [&'static str] {
        &[
            "tokenizer/tokenizer.json",
            "text_encoder/tokenizer.json",
            "gemma-3-12b-it-qat-q4_0-unquantized/tokenizer.json",
        ]
    }

    fn variant(&self, transformer: &[TensorInfo], experts: usize) -> Option<&'static str> {
        let has = |name: &str| transformer.iter().any(|tensor| is_called(tensor, name));
        let is_entry = |tensor: &&TensorInfo| {
            ["patchify_proj.weight", "proj_in.weight"].iter().any(|name| is_called(tensor, name))
        };
        let entry = transformer.iter().find(is_entry)?;
        if experts != 1 || entry.shape.first() != Some(&RELEASED_WIDTH) {
            return None;
        }
        // Distilled ones have the same tensors.
        let has_gates = has("transformer_blocks.0.attn1.to_gate_logits.weight");
        match (has_gates, has("transformer_blocks.0.ff.net.0.proj.bias")) {
            (false, _) => Some("ltx-2-19b"),
            (true, true) => Some("ltx-2.3-22b"),
            (true, false) => Some("ltx-2.5-22b"),
        }
    }
}

/// Whether the tensor is called `name`, whatever stands before it.
fn is_called(tensor: &TensorInfo, name: &str) -> bool {
    tensor.name.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests;

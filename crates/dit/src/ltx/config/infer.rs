//! The configuration of a checkpoint that comes without one.

use super::{LtxConfig, RELEASED_HEADS, StreamConfig, TextModulation, unsupported};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Canonical names and shapes.
type Shapes<'a> = BTreeMap<&'a str, &'a [usize]>;

/// The first parts of the names of a model's tensors.
const KNOWN: [&str; 18] = [
    "patchify_proj.",
    "audio_patchify_proj.",
    "caption_projection.",
    "audio_caption_projection.",
    "adaln_single.",
    "audio_adaln_single.",
    "prompt_adaln_single.",
    "audio_prompt_adaln_single.",
    "av_ca_video_scale_shift_adaln_single.",
    "av_ca_audio_scale_shift_adaln_single.",
    "av_ca_a2v_gate_adaln_single.",
    "av_ca_v2a_gate_adaln_single.",
    "transformer_blocks.",
    "scale_shift_table",
    "audio_scale_shift_table",
    "proj_out.",
    "audio_proj_out.",
    "keyframes_abs_pos_embedding",
];

impl LtxConfig {
    /// Infers the configuration from the canonical names and shapes of a checkpoint that comes without one. Values that shapes
    /// do not show (epsilon, timesteps of the gates, and the heads of 2.0) are those of every released model.
    ///
    /// # Errors
    /// Missing or misshapen tensors, as of models without sound; tensors of model kinds that are not supported.
    pub fn infer(tensors: &[(String, Vec<usize>)]) -> Result<Self> {
        let shapes: Shapes = tensors.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
        let foreign = |name: &&&str| !KNOWN.iter().any(|start| name.starts_with(start));
        if let Some(name) = shapes.keys().find(foreign) {
            return Err(unsupported(name, format!("a tensor of shape {:?}", shapes[*name])));
        }
        let has = |name: &str| shapes.contains_key(name);
        let block = |name: &str| format!("transformer_blocks.0.{name}");
        let blocks = |i: &usize| has(&format!("transformer_blocks.{i}.scale_shift_table"));
        let text_modulation = has(&block("prompt_scale_shift_table"));
        let text_dim = optional(&shapes, "caption_projection.linear_1.weight")?.map(|[_, text_dim]| text_dim);
        let config = Self {
            video: stream(&shapes, "")?,
            audio: stream(&shapes, "audio_")?,
            num_layers: (0..shapes.len()).take_while(blocks).count(),
            text_dim,
            gated_attention: has(&block("attn1.to_gate_logits.weight")),
            text_modulation: TextModulation::new(text_modulation, has("prompt_adaln_single.linear.weight")),
            cross_timestep: text_modulation,
            gate_multiplier: 1.0,
            keyframes: has("keyframes_abs_pos_embedding"),
            eps: 1e-6,
        };
        config.validate()?;
        Ok(config)
    }
}

fn stream(shapes: &Shapes, prefix: &str) -> Result<StreamConfig> {
    let [dim, channels] = shape(shapes, &format!("{prefix}patchify_proj.weight"))?;
    let block = |name: &str| format!("transformer_blocks.0.{prefix}{name}");
    let gates = optional(shapes, &block("attn1.to_gate_logits.weight"))?;
    let num_heads = gates.map_or(RELEASED_HEADS, |[heads, _]| heads);
    if num_heads == 0 || !dim.is_multiple_of(num_heads) {
        let problem = format!("{num_heads} heads cannot share a width of {dim}");
        return Err(Error::Infer { problem });
    }
    let ff_bias = shapes.contains_key(block("ff.net.0.proj.bias").as_str());
    Ok(StreamConfig { channels, num_heads, head_dim: dim / num_heads, ff_bias })
}

fn optional<const N: usize>(shapes: &Shapes, name: &str) -> Result<Option<[usize; N]>> {
    shapes.contains_key(name).then(|| shape(shapes, name)).transpose()
}

fn shape<const N: usize>(shapes: &Shapes, name: &str) -> Result<[usize; N]> {
    let found = shapes.get(name).ok_or_else(|| Error::Infer { problem: format!("there is no `{name}`") })?;
    (*found)
        .try_into()
        .map_err(|_| Error::Infer { problem: format!("`{name}` has shape {found:?}, expected {N} dimensions") })
}

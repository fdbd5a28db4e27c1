//! The configuration of a checkpoint that comes without one.

use super::{RELEASED_HEAD_DIM, WanConfig, unsupported};
use crate::wan::camera;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Canonical names and shapes.
type Shapes<'a> = BTreeMap<&'a str, &'a [usize]>;

/// The first parts of the names of a model's tensors.
const KNOWN: [&str; 10] = [
    "patch_embedding.",
    "text_embedding.",
    "time_embedding.",
    "time_projection.",
    "blocks.",
    "head.",
    "img_emb.",
    "vace_patch_embedding.",
    "vace_blocks.",
    "control_adapter.",
];

impl WanConfig {
    /// Infers the configuration from the canonical names and shapes of a checkpoint that comes without one. Values that
    /// shapes do not show (head width, epsilon, text length, the spacing of controlled layers) are those of every released
    /// model.
    ///
    /// # Errors
    /// Missing or misshapen tensors, tensors of model kinds that are not supported, a width that is no multiple of 128.
    pub fn infer(tensors: &[(String, Vec<usize>)]) -> Result<Self> {
        let shapes: Shapes = tensors.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
        reject_other_models(&shapes)?;
        let [dim, in_channels, frames, rows, columns] = shape(&shapes, "patch_embedding.weight")?;
        let [_, text_dim] = shape(&shapes, "text_embedding.0.weight")?;
        let [_, freq_dim] = shape(&shapes, "time_embedding.0.weight")?;
        let [ffn_dim, _] = shape(&shapes, "blocks.0.ffn.0.weight")?;
        let [outputs, _] = shape(&shapes, "head.head.weight")?;
        let has = |name: &str| shapes.contains_key(name);
        let blocks = |name: &str| (0..shapes.len()).take_while(|i| has(&format!("{name}.{i}.modulation"))).count();
        if !dim.is_multiple_of(RELEASED_HEAD_DIM) {
            let problem = format!("a width of {dim} is no multiple of the {RELEASED_HEAD_DIM} of one head");
            return Err(Error::Infer { problem });
        }
        let config = Self {
            patch_size: [frames, rows, columns],
            num_heads: dim / RELEASED_HEAD_DIM,
            in_channels,
            out_channels: outputs / frames.saturating_mul(rows).saturating_mul(columns).max(1),
            text_dim,
            freq_dim,
            ffn_dim,
            num_layers: blocks("blocks"),
            cross_attn_norm: has("blocks.0.norm3.weight"),
            image_dim: optional(&shapes, "img_emb.proj.0.weight")?.map(|[image_dim]| image_dim),
            pos_embed_seq_len: optional(&shapes, "img_emb.emb_pos")?.map(|[_, rows, _]| rows),
            vace_layers: controlled_layers(blocks("blocks"), blocks("vace_blocks"))?,
            vace_in_channels: optional(&shapes, "vace_patch_embedding.weight")?.map(|[_, channels, _, _, _]| channels),
            camera: has("control_adapter.conv.weight"),
            // If the number is not a square, the check of the tensor's shape reports it.
            camera_scale: optional(&shapes, "control_adapter.conv.weight")?
                .map_or(camera::SCALE, |[_, rays, _, _]| (rays / camera::CHANNELS).isqrt().max(1)),
            ..Self::base()
        };
        config.validate()?;
        Ok(config)
    }
}

/// Rejects tensors of other model kinds: for poses, references, speech and the like.
fn reject_other_models(shapes: &Shapes) -> Result<()> {
    let foreign = |name: &str| {
        let of_pictures = name.contains("_img.") && !shapes.contains_key("img_emb.proj.0.weight");
        of_pictures || !KNOWN.iter().any(|start| name.starts_with(start))
    };
    match shapes.iter().find(|(name, _)| foreign(name)) {
        Some((name, shape)) => Err(unsupported(name, format!("a tensor of shape {shape:?}"))),
        None => Ok(()),
    }
}

/// Returns the main blocks after which a control block's hint is added, which are evenly spaced in every released model.
fn controlled_layers(layers: usize, control_blocks: usize) -> Result<Vec<usize>> {
    if control_blocks == 0 {
        return Ok(Vec::new());
    }
    if !layers.is_multiple_of(control_blocks) {
        let problem = format!("{control_blocks} control blocks are not evenly spread over {layers} blocks");
        return Err(Error::Infer { problem });
    }
    Ok((0..layers).step_by((layers / control_blocks).max(1)).collect())
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

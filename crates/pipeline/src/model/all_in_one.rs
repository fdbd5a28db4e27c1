//! Files that hold several networks of a model, such as `ComfyUI`'s checkpoints: which tensors are whose.

use crate::model::component::Share;
use crate::model::family_files::Families;
use crate::model::role::Role;
use crate::{Error, Result};
use kinora_checkpoint::TensorInfo;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Last segments of names beside a text encoder's own: its tokenizer, and a number of CLIP's training.
const EXTRAS: [&str; 2] = ["spiece_model", "logit_scale"];

/// A network in a file: which tensors are its own, and those.
pub(crate) type Part = (Share, Vec<TensorInfo>);

/// Returns the networks in the file `path` with these tensors, or `None` if it holds one: the names of several begin with
/// different words, or some are below segments that the family knows as those of another one. Of what no run needs, there
/// is no part.
///
/// # Errors
/// [`Error::NotAModel`]: tensors of no network.
pub(crate) fn parts(families: Families, path: &Path, tensors: &[TensorInfo]) -> Result<Option<Vec<Part>>> {
    let (inside, others) = inside(families, tensors);
    // A file of nothing but pieces is their own.
    if inside.is_empty() || others.is_empty() {
        return begun_differently(families, path, tensors);
    }
    let starts: Vec<String> = inside.iter().flat_map(|(_, (share, _))| share.below.clone()).collect();
    let mut parts = begun_differently(families, path, &others)?.unwrap_or_else(|| vec![(Share::default(), others)]);
    for (share, _) in &mut parts {
        let is_below = |start: &&String| share.below.is_empty() || share.below.iter().any(|own| start.starts_with(own));
        share.without = starts.iter().filter(is_below).cloned().collect();
    }
    parts.extend(inside.into_iter().filter(|(role, _)| role.is_some()).map(|(_, part)| part));
    Ok(Some(parts))
}

/// The pieces of networks that the families which know the file keep inside others, and the tensors that are none of theirs.
fn inside(families: Families, tensors: &[TensorInfo]) -> (Vec<(Option<Role>, Part)>, Vec<TensorInfo>) {
    let (mut pieces, mut others) = (Vec::new(), tensors.to_vec());
    for within in families.iter().filter(|family| family.role(tensors).is_some()).flat_map(|family| family.within()) {
        let (own, rest): (Vec<TensorInfo>, Vec<TensorInfo>) =
            others.into_iter().partition(|tensor| within.start_of(&tensor.name).is_some());
        let starts: BTreeSet<&str> = own.iter().filter_map(|tensor| within.start_of(&tensor.name)).collect();
        let share = Share { below: starts.into_iter().map(str::to_string).collect(), without: Vec::new() };
        if !own.is_empty() {
            pieces.push((within.role, (share, own)));
        }
        others = rest;
    }
    (pieces, others)
}

/// The networks in a file whose names begin with different words.
fn begun_differently(families: Families, path: &Path, tensors: &[TensorInfo]) -> Result<Option<Vec<Part>>> {
    let mut groups: BTreeMap<&str, Vec<TensorInfo>> = BTreeMap::new();
    for tensor in tensors {
        groups.entry(tensor.name.split('.').next().unwrap_or_default()).or_default().push(tensor.clone());
    }
    let role = |group: &[TensorInfo]| families.iter().find_map(|family| family.role(group));
    let roles: BTreeSet<Role> = groups.values().filter_map(|group| role(group)).collect();
    if roles.len() < 2 {
        return Ok(None);
    }
    let mut parts = Vec::new();
    for (word, group) in groups {
        if role(&group).is_none() {
            let reason = format!("it holds several models, and the tensors under `{word}` belong to none of them");
            return Err(Error::NotAModel { path: path.to_path_buf(), reason });
        }
        let prefix = common(&group);
        let own = group.into_iter().filter(|tensor| tensor.name.starts_with(&prefix)).collect();
        parts.push((Share { below: vec![prefix], without: Vec::new() }, own));
    }
    Ok(Some(parts))
}

/// The segments that all names begin with, with a dot behind each.
fn common(tensors: &[TensorInfo]) -> String {
    let is_extra = |name: &str| EXTRAS.contains(&name.rsplit('.').next().unwrap_or_default());
    let names: BTreeSet<&str> = tensors.iter().map(|t| t.name.as_str()).filter(|name| !is_extra(name)).collect();
    let (Some(first), Some(last)) = (names.first(), names.last()) else { return String::new() };
    // Between the first and the last of sorted names all have what both begin with.
    let shared = first.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
    let end = first.as_bytes()[..shared].iter().rposition(|byte| *byte == b'.');
    end.map(|end| first[..=end].to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families;
    use crate::model::family_files::tests::{Made, tensors};

    fn split(families: Families, names: &[&str]) -> std::result::Result<Option<Vec<(Share, usize)>>, String> {
        let parts = parts(families, Path::new("m"), &tensors(names)).map_err(|error| error.to_string())?;
        Ok(parts.map(|parts| parts.into_iter().map(|(share, tensors)| (share, tensors.len())).collect()))
    }

    fn share(below: &[&str], without: &[&str]) -> Share {
        let [below, without] = [below, without].map(|names| names.iter().map(ToString::to_string).collect());
        Share { below, without }
    }

    #[test]
    fn networks_of_one_file_are_told_apart() {
        let split = |names: &[&str]| split(&families::files(), names);
        let transformer =
            ["model.diffusion_model.patch_embedding.weight", "model.diffusion_model.blocks.0.self_attn.q.weight"];
        let text = [
            "text_encoders.umt5xxl.transformer.shared.weight",
            "text_encoders.umt5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q.weight",
            "text_encoders.umt5xxl.logit_scale",
            "text_encoders.spiece_model",
        ];
        let vae = ["first_stage_model.decoder.conv1.weight", "first_stage_model.conv1.weight"];
        let all = [&transformer[..], &text, &vae].concat();
        let expected =
            [("first_stage_model.", 2), ("model.diffusion_model.", 2), ("text_encoders.umt5xxl.transformer.", 2)];
        assert_eq!(split(&all), Ok(Some(expected.map(|(prefix, count)| (share(&[prefix], &[]), count)).to_vec())));
        assert_eq!(split(&transformer), Ok(None));
        assert_eq!(split(&["decoder.conv1.weight", "encoder.conv1.weight"]), Ok(None));
        let odd = split(&[&all[..], &["mystery.weight"]].concat()).unwrap_err();
        assert!(odd.ends_with("the tensors under `mystery` belong to none of them"), "{odd}");
    }

    #[test]
    fn pieces_of_a_network_inside_another_are_cut_out() {
        let split = |names: &[&str]| split(&[&Made("a")], names);
        let pieces = ["net.left.weight", "net.right.0.weight", "left.bias", "net.spare.weight"];
        let found = split(&[&["a.transformer", "net.block.weight"], &pieces[..]].concat()).expect("parts");
        let starts = ["left.", "net.left.", "net.right.", "net.spare."];
        let expected =
            [(share(&[], &starts), 2), (share(&["left.", "net.left."], &[]), 2), (share(&["net.right."], &[]), 1)];
        assert_eq!(found, Some(expected.to_vec()));
        let whole = &found.expect("parts")[0].0;
        assert!(whole.has("net.block.weight") && !whole.has("net.left.weight"));
        assert_eq!(
            split(&["a.connectors", "left.weight"]),
            Ok(Some(vec![(share(&[], &["left."]), 1), (share(&["left."], &[]), 1)]))
        );
        assert_eq!(split(&["left.weight", "right.weight"]), Ok(None), "nobody knows it");
        assert_eq!(split(&["b.transformer", "net.left.weight"]), Ok(None), "another family's");
    }
}

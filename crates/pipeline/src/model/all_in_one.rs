//! Files that hold several networks of a model, such as `ComfyUI`'s checkpoints: which tensors are whose.

use crate::model::family_files::Families;
use crate::model::role::Role;
use crate::{Error, Result};
use kinora_checkpoint::TensorInfo;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Last segments of names beside a text encoder's own: its tokenizer, and a number of CLIP's training.
const EXTRAS: [&str; 2] = ["spiece_model", "logit_scale"];

/// A network in a file: what its tensors' names begin with, and the tensors.
pub(crate) type Part = (String, Vec<TensorInfo>);

/// Returns the networks in the file `path` with these tensors, or `None` if it holds one: the names of several begin with
/// different words.
///
/// # Errors
/// [`Error::NotAModel`]: tensors of no network.
pub(crate) fn parts(families: Families, path: &Path, tensors: &[TensorInfo]) -> Result<Option<Vec<Part>>> {
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
        parts.push((prefix.clone(), group.into_iter().filter(|tensor| tensor.name.starts_with(&prefix)).collect()));
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
    use crate::model::family_files::tests::tensors;

    #[test]
    fn networks_of_one_file_are_told_apart() {
        let split = |names: &[&str]| {
            let parts =
                parts(&families::files(), Path::new("m"), &tensors(names)).map_err(|error| error.to_string())?;
            let parts = parts.map(|parts| parts.into_iter().map(|(prefix, tensors)| (prefix, tensors.len())).collect());
            Ok::<Option<Vec<(String, usize)>>, String>(parts)
        };
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
        assert_eq!(split(&all), Ok(Some(expected.map(|(prefix, count)| (prefix.to_string(), count)).to_vec())));
        assert_eq!(split(&transformer), Ok(None));
        assert_eq!(split(&["decoder.conv1.weight", "encoder.conv1.weight"]), Ok(None));
        let odd = split(&[&all[..], &["mystery.weight"]].concat()).unwrap_err();
        assert!(odd.ends_with("the tensors under `mystery` belong to none of them"), "{odd}");
    }
}

//! Two experts, told apart by the names of their files and folders.

use crate::model::component::Blob;
use crate::model::family_files::FamilyFiles;
use crate::{Error, Result};
use kinora_checkpoint::TensorInfo;
use std::path::{Path, PathBuf};

/// Whether a transformer that could be one of two experts says so in the name of its file or folder: by its shapes it
/// cannot be told from a model with one.
pub(crate) fn is_lone_expert(path: &Path, family: &dyn FamilyFiles, tensors: &[TensorInfo]) -> bool {
    let own: PathBuf = path.components().rev().take(2).collect();
    let plain: String = own.to_string_lossy().to_lowercase().replace(['-', '_', ' ', '.'], "");
    family.variant(tensors, 2).is_some() && (plain.contains("highnoise") || plain.contains("lownoise"))
}

/// Sorts the weights of the transformers in single files: one is left as it is, two are in the order high noise, low
/// noise.
///
/// # Errors
/// [`Error::NotAModel`]: more than two, or two whose names do not say which is which.
pub(crate) fn sorted(mut transformers: Vec<Vec<Blob>>) -> Result<Vec<Vec<Blob>>> {
    let path = |weights: &Vec<Blob>| weights.first().map(|blob| blob.path().to_path_buf()).unwrap_or_default();
    let bad = |path: PathBuf, reason: &str| Err(Error::NotAModel { path, reason: reason.to_string() });
    match transformers.as_slice() {
        [] | [_] => {}
        [a, b] => match (level(&path(a), &path(b)), level(&path(b), &path(a))) {
            ((true, false), (false, true)) => {}
            ((false, true), (true, false)) => transformers.swap(0, 1),
            _ => return bad(path(a), "of two transformers one must have `high` and the other `low` in its name"),
        },
        [a, ..] => return bad(path(a), "more than two transformers are given"),
    }
    Ok(transformers)
}

/// Whether `path` has `high` and `low` in its name. Only the part that differs from `other` counts: `workflows/` above
/// both files says nothing.
fn level(path: &Path, other: &Path) -> (bool, bool) {
    let shared = path.components().zip(other.components()).take_while(|(a, b)| a == b).count();
    let own: PathBuf = path.components().skip(shared).collect();
    let own = own.to_string_lossy().to_lowercase();
    (own.contains("high"), own.contains("low"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::family_files::tests::{Made, tensors};

    #[test]
    fn a_lone_expert_is_known_by_its_name() {
        let lone = |path: &str, names: &[&str]| is_lone_expert(Path::new(path), &Made("a"), &tensors(names));
        assert!(lone("a2.2_t2v_high_noise_14B_fp16.safetensors", &["large"]));
        assert!(lone("m/Low-Noise-Model/model.safetensors", &["large"]));
        assert!(!lone("low_noise/m/a2.1_14B_lowvram.safetensors", &["large"]));
        assert!(!lone("high_noise.safetensors", &["small"]), "no model of this size has experts");
    }

    #[test]
    fn experts_are_told_apart_by_what_differs_in_their_paths() {
        let order = |a: &str, b: &str| {
            let files = [a, b].map(|path| vec![Blob::File(path.into())]);
            Some(sorted(files.to_vec()).ok()?[0][0].path().to_string_lossy().into_owned())
        };
        let (high, low) = ("workflows/a_high.safetensors", "workflows/a_low.safetensors");
        assert_eq!(order(high, low).as_deref(), Some(high));
        assert_eq!(order(low, high).as_deref(), Some(high));
        let (high, low) = ("m/high_noise_model/w.safetensors", "m/low_noise_model/w.safetensors");
        assert_eq!(order(low, high).as_deref(), Some(high));
        assert_eq!(order("flow/a.safetensors", "flow/b.safetensors"), None);
    }
}

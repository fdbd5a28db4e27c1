//! The files of a repository in diffusers' layout that its model needs, and those that a directory lacks.

use crate::model::family_files::Families;
use crate::model::find::{TOKENIZER, diffusers};
use crate::model::role::Role;
use crate::model::root::MODEL_INDEX;
use crate::model::root::Root;
use kinora_checkpoint::WeightSet;
use std::collections::BTreeSet;
use std::path::Path;

/// Files that are used where a repository has them.
const OPTIONAL: [&str; 4] = [
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
    "image_processor/preprocessor_config.json",
];

/// Returns the first component or file that the model at `path` lacks, or `None` if it is complete.
pub(crate) fn missing(path: &Path, families: Families) -> Option<String> {
    let Ok(found) = diffusers(Root::Directory(path.to_path_buf()), families) else { return Some(MODEL_INDEX.into()) };
    if !found.layout.has_family() {
        return Some("supported pipeline".into());
    }
    let mut loaded = found.components.iter().filter(|component| Role::of_folder(&component.name).is_some());
    let incomplete = loaded.find(|component| component.problem.is_some()).map(|component| component.name.clone());
    incomplete.or_else(|| found.tokenizer.is_none().then(|| TOKENIZER.into()))
}

/// Returns the files of a repository that its model needs, given the names of all its files and the roles that every
/// model of its family has: no pictures, and no second copy of the weights in another format.
///
/// # Errors
/// The file that is missing.
pub(crate) fn select(names: &BTreeSet<&str>, roles: &[Role]) -> Result<BTreeSet<String>, String> {
    let mut needed = BTreeSet::new();
    let mut take = |name: &str| {
        let known = names.contains(name).then(|| needed.insert(name.to_string()));
        known.map(drop).ok_or_else(|| name.to_string())
    };
    take(MODEL_INDEX)?;
    take(TOKENIZER)?;
    for name in OPTIONAL {
        let _ = take(name);
    }
    for role in Role::all() {
        for (index, folder) in role.folders().iter().enumerate() {
            let inside = names.iter().filter_map(|name| name.strip_prefix(folder)?.strip_prefix('/'));
            let files: Vec<&str> = inside.filter(|name| !name.contains('/')).collect();
            if files.is_empty() && (index > 0 || !roles.contains(&role)) {
                continue;
            }
            take(&format!("{folder}/config.json"))?;
            let sets = WeightSet::of_component(&files);
            let [set] = sets.as_slice() else { return Err(format!("{folder}/*.safetensors")) };
            for name in set.index.iter().chain(&set.files) {
                take(&format!("{folder}/{name}"))?;
            }
        }
    }
    Ok(needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files that every model has, without the transformer.
    const REST: &[&str] = &[
        "model_index.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ];

    fn select_with(more: &[&str]) -> Result<BTreeSet<String>, String> {
        let roles = [Role::Transformer, Role::Vae, Role::TextEncoder];
        select(&REST.iter().chain(more).copied().collect(), &roles)
    }

    #[test]
    fn shards_are_taken_with_their_index_and_nothing_else_of_the_folder() {
        let transformer = [
            "transformer/config.json",
            "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
            "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
            "transformer/diffusion_pytorch_model.safetensors.index.json",
        ];
        let spare = [
            "README.md",
            "assets/logo.png",
            "text_encoder/pytorch_model.bin",
            "transformer/diffusion_pytorch_model.fp16-00001-of-00001.safetensors",
            "transformer/diffusion_pytorch_model.safetensors",
            "transformer/../diffusion_pytorch_model-1-of-1.safetensors",
            "vae/diffusion_pytorch_model.fp16.safetensors",
        ];
        let all: Vec<&str> = transformer.iter().chain(&spare).copied().collect();
        let expected = REST.iter().chain(&transformer).map(ToString::to_string).collect();
        assert_eq!(select_with(&all), Ok(expected));
    }

    #[test]
    fn a_missing_file_is_named() {
        assert_eq!(select_with(&[]), Err("transformer/config.json".into()));
        assert_eq!(select_with(&["transformer/config.json"]), Err("transformer/*.safetensors".into()));
        assert_eq!(select(&BTreeSet::new(), &[]), Err("model_index.json".into()));
    }
}

//! Which files a model needs of a repository in diffusers' layout, and which of them a directory lacks.

use kinora_checkpoint::{Layout, shard_paths};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The parts of a model that have weights.
const NETWORKS: [&str; 5] = ["text_encoder", "transformer", "transformer_2", "vae", "image_encoder"];
/// The networks that most models do not have.
const OPTIONAL: [&str; 2] = ["transformer_2", "image_encoder"];

/// Returns the first part or file that the model at `path` lacks, or `None` if it is complete.
pub(crate) fn missing(path: &Path) -> Option<String> {
    let Ok(Layout::Diffusers(folder)) = Layout::detect(path) else { return Some("model_index.json".into()) };
    for name in NETWORKS {
        let Some(component) = folder.components.get(name) else {
            if OPTIONAL.contains(&name) {
                continue;
            }
            return Some(name.into());
        };
        let whole = |file: &PathBuf| match file.extension().and_then(|extension| extension.to_str()) {
            Some("json") => shard_paths(file).is_ok(),
            extension => extension == Some("safetensors"),
        };
        if component.config.is_none() || component.weights.is_empty() || !component.weights.iter().all(whole) {
            return Some(name.into());
        }
    }
    let tokenizer = "tokenizer/tokenizer.json";
    (!path.join(tokenizer).is_file()).then(|| tokenizer.into())
}

/// Returns the files of a repository that its model needs, given the names of all its files: no pictures, and no second
/// copy of the weights in another format.
///
/// # Errors
/// The file that is missing.
pub(crate) fn select(names: &BTreeSet<&str>) -> Result<BTreeSet<String>, String> {
    let mut needed = BTreeSet::new();
    let mut take = |name: String| if names.contains(name.as_str()) { Ok(needed.insert(name)) } else { Err(name) };
    take("model_index.json".into())?;
    take("tokenizer/tokenizer.json".into())?;
    for name in [
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/special_tokens_map.json",
        "image_processor/preprocessor_config.json",
    ] {
        let _ = take(name.into());
    }
    for network in NETWORKS {
        if OPTIONAL.contains(&network) && !names.iter().any(|name| name.starts_with(&format!("{network}/"))) {
            continue;
        }
        take(format!("{network}/config.json"))?;
        for name in weights(names, network).ok_or_else(|| format!("{network}/*.safetensors"))? {
            take(name)?;
        }
    }
    Ok(needed)
}

/// Returns the safetensors of one network: the index and its shards, or the single file.
fn weights(names: &BTreeSet<&str>, network: &str) -> Option<Vec<String>> {
    for stem in ["diffusion_pytorch_model", "model"].map(|stem| format!("{network}/{stem}")) {
        let (index, single) = (format!("{stem}.safetensors.index.json"), format!("{stem}.safetensors"));
        if names.contains(index.as_str()) {
            let shards = names.iter().filter(|name| is_shard(name, &stem)).map(ToString::to_string);
            return Some(std::iter::once(index).chain(shards).collect());
        }
        if names.contains(single.as_str()) {
            return Some(vec![single]);
        }
    }
    None
}

/// Whether the name has the form `{stem}-00001-of-00003.safetensors`.
fn is_shard(name: &str, stem: &str) -> bool {
    let numbers = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".safetensors"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.and_then(|numbers| numbers.split_once("-of-")).is_some_and(|(a, b)| is_number(a) && is_number(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts that every model has, without the transformer.
    const REST: &[&str] = &[
        "model_index.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ];

    fn select_with(more: &[&str]) -> Result<BTreeSet<String>, String> {
        select(&REST.iter().chain(more).copied().collect())
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
        assert_eq!(select(&BTreeSet::new()), Err("model_index.json".into()));
    }
}

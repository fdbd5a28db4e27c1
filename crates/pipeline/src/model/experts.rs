//! Two experts, told apart by the names of their files and folders.

use crate::model::component::Blob;
use crate::model::family_files::FamilyFiles;
use crate::{Error, Result};
use kinora_checkpoint::TensorInfo;
use std::path::{Path, PathBuf};

/// Words for the expert of high and of low noise.
const HIGH: [&str; 4] = ["high", "highnoise", "hn", "h"];
const LOW: [&str; 4] = ["low", "lownoise", "ln", "l"];

/// Whether a transformer that could be one of two experts says so in the name of its file or folder: by its shapes it
/// cannot be told from a model with one.
pub(crate) fn is_lone_expert(path: &Path, family: &dyn FamilyFiles, tensors: &[TensorInfo]) -> bool {
    let own: PathBuf = path.components().rev().take(2).collect();
    let words = words(&own.to_string_lossy());
    let says = |level: &str| {
        let together = format!("{level}noise");
        words.contains(&together) || words.windows(2).any(|pair| pair[0] == level && pair[1] == "noise")
    };
    family.variant(tensors, 2).is_some() && (says("high") || says("low"))
}

/// Sorts the weights of the transformers in single files: one is left as it is, two are in the order high noise, low
/// noise. `may_be_experts` says whether there are models with two transformers of this size.
///
/// # Errors
/// [`Error::NotAModel`]: more than two, or two whose names do not say which is which.
pub(crate) fn sorted(mut transformers: Vec<Vec<Blob>>, may_be_experts: bool, place: &Path) -> Result<Vec<Vec<Blob>>> {
    let path = |weights: &Vec<Blob>| weights.first().map(|blob| blob.path().to_path_buf()).unwrap_or_default();
    let refuse = |reason: String| Err(Error::NotAModel { path: place.to_path_buf(), reason });
    match transformers.as_slice() {
        [] | [_] => {}
        [a, b] => match (level(&path(a), &path(b)), level(&path(b), &path(a))) {
            ((true, false), (false, true)) => {}
            ((false, true), (true, false)) => transformers.swap(0, 1),
            _ => {
                let expected = if may_be_experts {
                    ": name one, or call them `high` and `low` if they are two experts"
                } else {
                    ": name one"
                };
                let (a, b) = (path(a), path(b));
                return refuse(format!("it has two transformers, `{}` and `{}`{expected}", a.display(), b.display()));
            }
        },
        several => return refuse(format!("it has {} transformers: name one", several.len())),
    }
    Ok(transformers)
}

/// Whether `path` has a word for high and one for low noise. Only words that `other` does not have count: `workflows/low`
/// above both files says nothing.
fn level(path: &Path, other: &Path) -> (bool, bool) {
    let others = words(&other.to_string_lossy());
    let own: Vec<String> = words(&path.to_string_lossy()).into_iter().filter(|word| !others.contains(word)).collect();
    let has = |known: [&str; 4]| own.iter().any(|word| known.contains(&word.as_str()));
    (has(HIGH), has(LOW))
}

/// The words of a name in small letters: anything but a letter is between two, and so is a change from small to capital.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in name.chars() {
        if !letter.is_alphabetic() || (letter.is_uppercase() && before.is_lowercase()) {
            words.push(String::new());
        }
        if letter.is_alphabetic() {
            words.last_mut().expect("one at least").extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
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
        assert!(lone("m/HighNoise.safetensors", &["large"]));
        assert!(!lone("low_noise/m/a2.1_14B_lowvram.safetensors", &["large"]));
        assert!(!lone("m/follow_noise.safetensors", &["large"]));
        assert!(!lone("high_noise.safetensors", &["small"]), "no model of this size has experts");
    }

    #[test]
    fn experts_are_told_apart_by_what_differs_in_their_paths() {
        let order = |a: &str, b: &str| {
            let files = [a, b].map(|path| vec![Blob::File(path.into())]);
            Some(sorted(files.to_vec(), true, Path::new("m")).ok()?[0][0].path().to_string_lossy().into_owned())
        };
        let (high, low) = ("workflows/a_high.safetensors", "workflows/a_low.safetensors");
        assert_eq!(order(high, low).as_deref(), Some(high));
        assert_eq!(order(low, high).as_deref(), Some(high));
        let (high, low) = ("m/high_noise_model/w.safetensors", "m/low_noise_model/w.safetensors");
        assert_eq!(order(low, high).as_deref(), Some(high));
        for (high, low) in [
            ("made_high_flow", "made_low_flow"),
            ("slowmo_high", "slowmo_low"),
            ("high_lowvram", "low_lowvram"),
            ("a_HN", "a_LN"),
            ("Made_H", "Made_L"),
            ("madeHighNoise14B", "madeLowNoise14B"),
            ("low_files/highnoise", "low_files/lownoise"),
        ] {
            assert_eq!(order(high, low).as_deref(), Some(high));
            assert_eq!(order(low, high).as_deref(), Some(high));
        }
        for (a, b) in [("flow/a", "flow/b"), ("follow_me", "highres"), ("high_a", "b"), ("high_a", "high_b")] {
            assert_eq!(order(a, b), None, "{a} {b}");
        }
    }
}

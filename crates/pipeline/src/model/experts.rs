//! Two experts, told apart by the names of their files and folders.

use crate::model::component::Files;
use crate::model::family_files::FamilyFiles;
use crate::model::given::EXPERTS;
use crate::{Error, Result};
use kinora_checkpoint::TensorInfo;
use std::path::{Path, PathBuf};

/// Words for the expert of high and of low noise.
const HIGH: [&str; 4] = ["high", "highnoise", "hn", "h"];
const LOW: [&str; 4] = ["low", "lownoise", "ln", "l"];

/// Whether a transformer that could be one of two experts says so in the name of its file or folder: by its shapes it
/// cannot be told from a model with one.
pub(crate) fn is_lone_expert(path: &Path, family: &dyn FamilyFiles, tensors: &[TensorInfo]) -> bool {
    let words = words(&own(path).to_string_lossy());
    let says = |level: &str| {
        let together = format!("{level}noise");
        words.contains(&together) || words.windows(2).any(|pair| pair[0] == level && pair[1] == "noise")
    };
    family.variant(tensors, 2).is_some() && (says("high") || says("low"))
}

/// The names of the file and its folder.
fn own(path: &Path) -> PathBuf {
    path.components().rev().take(2).collect()
}

/// A transformer that was given: the expert that it was said to be, and its path.
pub(crate) type Given = (Option<usize>, PathBuf);

/// Returns the places of the given transformers in a model of `count`: the first is the expert of high noise. Where it was
/// not said which is which, their names do, and the second value is a sentence about that. `may_be_experts` says whether
/// there are models with two transformers of this size.
///
/// # Errors
/// [`Error::NotAModel`]: more than there are places, or two whose names do not say which is which.
pub(crate) fn slots(
    given: &[Given],
    count: usize,
    may_be_experts: bool,
    place: &Path,
) -> Result<(Vec<usize>, Option<String>)> {
    let refuse = |reason: String| Err(Error::NotAModel { path: place.to_path_buf(), reason });
    let shown = |path: &Path| format!("`{}`", path.display());
    let guessed = |high: &Path, low: Option<&Path>| {
        let low = low.map(|low| format!(", and {} that for low noise", shown(low))).unwrap_or_default();
        format!("by its name {} is the expert for high noise{low}; `high=FILE low=FILE` says it", shown(high))
    };
    match given {
        [] => Ok((Vec::new(), None)),
        [(None, _)] if count == 1 => Ok((vec![0], None)),
        [(Some(expert), path)] if count == 1 => {
            let reason = format!(
                "{} is given as one of two experts ({}=), and there is no other",
                shown(path),
                EXPERTS[*expert]
            );
            refuse(reason)
        }
        [(Some(expert), _)] => Ok((vec![*expert], None)),
        [(None, path)] => match level(&own(path), Path::new("")) {
            (true, false) => Ok((vec![0], Some(guessed(path, None)))),
            (false, true) => {
                let notice = format!("by its name {} is the expert for low noise; `low=FILE` says it", shown(path));
                Ok((vec![1], Some(notice)))
            }
            _ => refuse(format!("it has two experts: give {} as high=FILE or low=FILE", shown(path))),
        },
        [(a, _), (b, _)] if a.is_some() && a == b => {
            refuse(format!("the expert {}= is given twice", EXPERTS[a.unwrap_or_default()]))
        }
        [(Some(expert), _), _] if count == 2 => Ok((vec![*expert, 1 - expert], None)),
        [_, (Some(expert), _)] if count == 2 => Ok((vec![1 - expert, *expert], None)),
        [(_, a), (_, b)] if count == 2 => match (level(a, b), level(b, a)) {
            ((true, false), (false, true)) => Ok((vec![0, 1], Some(guessed(a, Some(b))))),
            ((false, true), (true, false)) => Ok((vec![1, 0], Some(guessed(b, Some(a))))),
            _ => {
                let expected = if may_be_experts {
                    ": name one, or give them as high=FILE and low=FILE if they are two experts"
                } else {
                    ": name one"
                };
                refuse(format!("it has two transformers, {} and {}{expected}", shown(a), shown(b)))
            }
        },
        several => refuse(format!("it has {} transformers: name one", several.len())),
    }
}

/// A sentence about two experts that are one file.
pub(crate) fn same_file<'a>(experts: impl Iterator<Item = &'a Files>) -> Option<String> {
    let experts: Vec<&Files> = experts.collect();
    let [high, low] = experts.as_slice() else { return None };
    (high == low).then(|| format!("`{}` is both experts, for high and for low noise", high.path().display()))
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
            let files = [a, b].map(|path| (None, PathBuf::from(path)));
            let (slots, notice) = slots(&files, 2, true, Path::new("m")).ok()?;
            assert!(notice.is_some(), "a guess is said");
            Some(files[usize::from(slots[0] != 0)].1.to_string_lossy().into_owned())
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

    #[test]
    fn what_was_said_comes_before_names() {
        let placed = |given: &[(Option<usize>, &str)], count: usize| {
            let given: Vec<Given> = given.iter().map(|(expert, path)| (*expert, PathBuf::from(path))).collect();
            let found = slots(&given, count, true, Path::new("m")).map_err(|error| error.to_string())?;
            Ok::<_, String>((found.0, found.1.is_some()))
        };
        assert_eq!(placed(&[(Some(1), "high"), (Some(0), "low")], 2), Ok((vec![1, 0], false)));
        assert_eq!(placed(&[(None, "low"), (Some(1), "x")], 2), Ok((vec![0, 1], false)));
        assert_eq!(placed(&[(Some(1), "x")], 2), Ok((vec![1], false)));
        assert_eq!(placed(&[(None, "w_LN_x.gguf")], 2), Ok((vec![1], true)));
        assert_eq!(placed(&[(None, "high_low.gguf")], 1), Ok((vec![0], false)));
        for (given, count, reason) in [
            (&[(None, "high_low")][..], 2, "it has two experts: give `high_low` as high=FILE or low=FILE"),
            (&[(Some(0), "a"), (Some(0), "b")], 2, "the expert high= is given twice"),
            (&[(Some(0), "a")], 1, "`a` is given as one of two experts (high=), and there is no other"),
            (&[(None, "a"), (None, "b"), (None, "c")], 2, "it has 3 transformers: name one"),
        ] {
            assert_eq!(placed(given, count), Err(format!("`m` is not a usable model: {reason}")));
        }
    }
}

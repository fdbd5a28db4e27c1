//! [`Given`]: what the arguments after `--model` are: a model, files that take the place of its parts, and experts.

use crate::model::embedded::EMBEDDED;
use crate::model::manifest::Manifest;
use crate::model::root::{CONFIGS, MODEL_INDEX, PIECES_FILE, TOKENIZER_FILE};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Words before `=` that say which of two experts a file is, in the order of the experts.
pub(crate) const EXPERTS: [&str; 2] = ["high", "low"];

/// The directory of a hub's repository on this machine, or what its newest snapshot lacks, if there is one.
pub(crate) type Cached<'a> = &'a dyn Fn(&str) -> std::result::Result<PathBuf, Option<String>>;

/// The arguments that a model is named with.
pub(crate) struct Given {
    /// The model whose parts the files replace; without one, the files are all of it.
    pub base: Option<PathBuf>,
    /// Files and folders of components, and of a tokenizer.
    pub files: Vec<PathBuf>,
    /// Transformers, and which of two experts they are.
    pub experts: Vec<(usize, PathBuf)>,
}

impl Given {
    /// Tells what the arguments are. `cached` knows the repositories on this machine.
    ///
    /// # Errors
    /// [`Error::Request`]: two models.
    pub(crate) fn of(argument: &[impl AsRef<Path>], cached: Cached) -> Result<Self> {
        let mut given = Self { base: None, files: Vec::new(), experts: Vec::new() };
        let alone = argument.len() == 1;
        for path in argument.iter().map(AsRef::as_ref) {
            if let Some(expert) = expert(path) {
                given.experts.push(expert);
            } else if (alone && path.is_dir()) || is_model(path, alone, cached) {
                if let Some(first) = given.base.replace(path.to_path_buf()) {
                    let what = format!("`{}` and `{}` are two models", first.display(), path.display());
                    let hint = "name one, and files or folders of single parts that are to replace its own";
                    return Err(Error::request(what, hint));
                }
            } else {
                given.files.push(path.to_path_buf());
            }
        }
        Ok(given)
    }
}

/// The expert that an argument names, as in `high=FILE`.
fn expert(path: &Path) -> Option<(usize, PathBuf)> {
    let (word, file) = path.to_str().filter(|_| !path.exists())?.split_once('=')?;
    let index = EXPERTS.iter().position(|expert| *expert == word)?;
    Some((index, PathBuf::from(file)))
}

/// Whether the argument is a whole model, not a part of one. A name that nothing has is one where it stands `alone`.
fn is_model(path: &Path, alone: bool, cached: Cached) -> bool {
    let name = path.to_string_lossy();
    if path.is_dir() {
        let is_part = [TOKENIZER_FILE, PIECES_FILE].iter().chain(&CONFIGS).any(|file| path.join(file).is_file());
        return path.join(MODEL_INDEX).is_file() || !is_part;
    }
    if path.exists() || path.is_symlink() {
        return path.file_name().is_some_and(|name| name == MODEL_INDEX);
    }
    alone || name == EMBEDDED || known_manifest(&name).is_ok() || cached(&name).is_ok()
}

/// Names that are at least so similar, from 0 to 1, may be mistyped.
const SIMILAR: f64 = 0.9;

/// The manifest of the known variant `name`.
///
/// # Errors
/// [`Error::UnknownModel`] with the names that are known.
pub(crate) fn known_manifest(name: &str) -> Result<Manifest> {
    let known = Manifest::known();
    known.iter().find(|manifest| manifest.name == name).cloned().ok_or_else(|| {
        let names: Vec<&str> =
            [EMBEDDED].into_iter().chain(known.iter().map(|manifest| manifest.name.as_str())).collect();
        let alike = names.iter().map(|known| (strsim::jaro_winkler(&name.to_lowercase(), known), known));
        let meant = alike.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(similarity, _)| *similarity >= SIMILAR);
        let hint = match meant {
            Some((_, meant)) => format!("did you mean `{meant}`?"),
            None => format!("it is neither a file or directory nor one of the known names: {}", names.join(", ")),
        };
        Error::UnknownModel { name: name.to_string(), hint }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_a_model_its_parts_and_experts() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, file) in [("model", MODEL_INDEX), ("part", "config.json"), ("words", TOKENIZER_FILE), ("any", "x")] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
            std::fs::write(folder.path().join(name).join(file), "{}").expect("a file");
        }
        std::fs::write(folder.path().join("high=x"), "").expect("a file");
        let given = |names: &[&str]| {
            let paths: Vec<PathBuf> = names.iter().map(|name| folder.path().join(name)).collect();
            let given = Given::of(&paths, &|_| Err(None)).map_err(|error| error.to_string())?;
            let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
            Ok::<_, String>((given.base.as_ref().map(name), given.files.iter().map(name).collect::<Vec<_>>()))
        };
        let files = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(given(&["part"]), Ok((Some("part".into()), files(&[]))), "alone it is what it has");
        assert_eq!(given(&["part", "model", "words"]), Ok((Some("model".into()), files(&["part", "words"]))));
        assert_eq!(given(&["any", "x.gguf"]), Ok((Some("any".into()), files(&["x.gguf"]))));
        assert_eq!(given(&["high=x"]), Ok((None, files(&["high=x"]))), "a file of this name");
        assert!(given(&["model", "any"]).unwrap_err().ends_with("are two models"));
        let given = Given::of(&["low=a/b.gguf", EMBEDDED, "high=c"], &|_| Err(None)).expect("a model");
        assert_eq!(given.base.as_deref(), Some(Path::new(EMBEDDED)));
        assert_eq!(given.experts, [(1, PathBuf::from("a/b.gguf")), (0, PathBuf::from("c"))]);
    }
}

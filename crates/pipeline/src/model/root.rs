//! [`Root`]: a directory of a model's files, on disk or in the program.

use crate::model::component::Blob;
use crate::model::embedded;
use crate::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The list of a diffusers directory's components.
pub(crate) const MODEL_INDEX: &str = "model_index.json";
pub(crate) const TOKENIZER_FILE: &str = "tokenizer.json";
/// The tokenizer's other form, a `SentencePiece` model.
pub(crate) const PIECES_FILE: &str = "spiece.model";
/// The files that make a folder with weights a component of an original release.
pub(crate) const CONFIGS: [&str; 4] =
    ["config.json", "scheduler_config.json", "tokenizer_config.json", "preprocessor_config.json"];

/// A directory, on disk or in the program. Names of files in it are relative paths, with `/`.
#[derive(Debug, Clone)]
pub(crate) enum Root {
    Directory(PathBuf),
    Embedded,
}

impl Root {
    /// The path of a file or folder, for messages; of the directory itself where `name` is empty.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Directory(path) if name.is_empty() => path.clone(),
            Self::Directory(path) => path.join(name),
            Self::Embedded => Path::new("(embedded)").join(name),
        }
    }

    /// The file `name`, if there is one.
    pub(crate) fn file(&self, name: &str) -> Option<Blob> {
        match self {
            Self::Directory(path) => Some(path.join(name)).filter(|path| path.is_file()).map(Blob::File),
            Self::Embedded => embedded::file(name),
        }
    }

    /// The content of a text file, if there is one.
    ///
    /// # Errors
    /// A file that cannot be read, or is not UTF-8.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>> {
        let Some(blob) = self.file(name) else { return Ok(None) };
        let bad = |_| self.bad_file(name, "it is not UTF-8 text".into());
        let text = String::from_utf8(blob.read()?).map_err(bad)?;
        Ok(Some(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text)))
    }

    /// The content of a JSON file, if there is one.
    ///
    /// # Errors
    /// A file that cannot be read, or is not JSON.
    pub(crate) fn json(&self, name: &str) -> Result<Option<Value>> {
        let Some(blob) = self.file(name) else { return Ok(None) };
        Ok(Some(kinora_checkpoint::read_json(&self.path(name), &blob.read()?)?))
    }

    /// The sorted names of the files in the folder `folder`, or in the directory itself where that is empty; none where
    /// there is no such folder. Links that lead nowhere are among them, and names that begin with a dot are not: other
    /// programs keep their notes there.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(crate) fn names(&self, folder: &str) -> Result<Vec<String>> {
        match self {
            Self::Directory(_) => self.entries(folder, |path| path.is_file() || (path.is_symlink() && !path.exists())),
            Self::Embedded => {
                let inside = |path: &'static str| match path.rsplit_once('/') {
                    Some((parent, name)) => (parent == folder).then_some(name),
                    None => folder.is_empty().then_some(path),
                };
                Ok(embedded::names().filter_map(inside).map(str::to_string).collect())
            }
        }
    }

    /// The sorted names of the directory's folders.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub(crate) fn folders(&self) -> Result<Vec<String>> {
        self.entries("", Path::is_dir)
    }

    fn entries(&self, folder: &str, wanted: fn(&Path) -> bool) -> Result<Vec<String>> {
        let folder = self.path(folder);
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let io = |source| Error::Io { path: folder.clone(), source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            // Names that are not UTF-8 are none that a model's files have.
            let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'));
            names.extend(name.filter(|_| wanted(&entry.path())));
        }
        names.sort();
        Ok(names)
    }

    /// The file `name` is not there, or is a link to one that is not.
    pub(crate) fn missing(&self, name: &str) -> Error {
        let path = self.path(name);
        match std::fs::read_link(&path) {
            Ok(target) => kinora_checkpoint::Error::DanglingLink { path, target }.into(),
            Err(_) => self.not_a_model(format!("{name} is missing")),
        }
    }

    /// A file that is there, but cannot be used.
    pub(crate) fn bad_file(&self, name: &str, reason: String) -> Error {
        Error::bad_file(self.path(name), reason, "the file is damaged: download it again")
    }

    /// The directory is no model.
    pub(crate) fn not_a_model(&self, reason: impl Into<String>) -> Error {
        Error::NotAModel { path: self.path(""), reason: reason.into() }
    }
}

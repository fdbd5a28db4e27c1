//! The files of a model on disk, which no result may replace and whose change a resumed run notices.

use super::Model;
use super::component::Blob;
use super::role::Role;
use super::root::{CONFIGS, MODEL_INDEX, TOKENIZER_FILE};
use crate::request::files::{ModelFiles, files_of};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What else may describe a model, in its own directory.
const DESCRIPTIONS: [&str; 3] = [MODEL_INDEX, "manifest.toml", TOKENIZER_FILE];

impl Model {
    /// Weights with all shards, LoRAs, tokenizer and configurations; everything in the folders of its components.
    pub(crate) fn files(&self) -> ModelFiles {
        let mut files = BTreeSet::new();
        for weights in self.components.values().flatten().map(|component| &component.weights) {
            files.extend(on_disk(weights.all_blobs()));
            // Shards that an index or one of them stands for.
            let opened = weights.open_whole().unwrap_or_default();
            files.extend(opened.iter().map(|file| file.path().to_path_buf()).filter(|path| path.is_file()));
        }
        files.extend(on_disk(self.tokenizer.blobs().iter()));
        files.extend(self.loras.iter().map(|lora| lora.file.clone()));
        let mut folders = Vec::new();
        if self.place.is_dir() {
            let own = DESCRIPTIONS.iter().chain(&CONFIGS).map(|name| self.place.join(name));
            files.extend(own.filter(|path| path.is_file()));
            folders.extend(components_in(&self.place));
            files.extend(folders.iter().flat_map(|folder| files_of(folder)));
            folders.extend(Some(self.place.clone()).filter(|place| place.join(MODEL_INDEX).is_file()));
        }
        ModelFiles { files: files.into_iter().collect(), folders }
    }
}

impl Model {
    /// The files that make contexts of texts: those of the text encoder, of what stands behind it, and of the tokenizer; `None` if not all of
    /// them are files.
    pub(crate) fn text_files(&self) -> Option<Vec<PathBuf>> {
        let mut files = BTreeSet::new();
        for component in [Role::TextEncoder, Role::Connectors].iter().flat_map(|role| self.components(*role)) {
            let opened = component.weights.open_whole().ok()?;
            files.extend(opened.iter().map(|file| file.path().to_path_buf()));
        }
        let tokenizer: Vec<PathBuf> = on_disk(self.tokenizer.blobs().iter()).collect();
        if files.is_empty()
            || files.iter().any(|path| !path.is_file())
            || tokenizer.len() != self.tokenizer.blobs().len()
        {
            return None;
        }
        files.extend(tokenizer);
        Some(files.into_iter().collect())
    }
}

fn on_disk<'a>(blobs: impl Iterator<Item = &'a Blob>) -> impl Iterator<Item = PathBuf> {
    blobs.filter_map(|blob| match blob {
        Blob::File(path) => Some(path.clone()),
        Blob::Static(..) => None,
    })
}

/// The folders in `place` with a configuration or a tokenizer.
fn components_in(place: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|folder| {
        CONFIGS.iter().chain([&TOKENIZER_FILE]).any(|name| folder.is_dir() && folder.join(name).is_file())
    })
}

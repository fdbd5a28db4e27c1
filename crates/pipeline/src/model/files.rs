//! The files of a model on disk, which no result may replace and whose change a resumed run notices.

use super::Model;
use super::component::Blob;
use super::find::{CONFIGS, MODEL_INDEX, TOKENIZER_FILE};
use crate::request::files::{ModelFiles, files_of};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What else may describe a model, in its own directory.
const DESCRIPTIONS: [&str; 3] = [MODEL_INDEX, "manifest.toml", TOKENIZER_FILE];

impl Model {
    /// Weights with all shards, tokenizer and configurations; everything in the folders of its components.
    pub(crate) fn files(&self) -> ModelFiles {
        let blobs = self.components.values().flatten().flat_map(|component| &component.weights);
        let mut files = BTreeSet::new();
        for blob in blobs.chain([&self.tokenizer]) {
            let Blob::File(path) = blob else { continue };
            // Not every file is the index of shards.
            files.extend(kinora_checkpoint::shard_paths(path).ok().filter(|_| is_json(path)).into_iter().flatten());
            files.insert(path.clone());
        }
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

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json") && !path.ends_with(TOKENIZER_FILE)
}

/// The folders in `place` with a configuration or a tokenizer.
fn components_in(place: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|folder| {
        CONFIGS.iter().chain([&TOKENIZER_FILE]).any(|name| folder.is_dir() && folder.join(name).is_file())
    })
}

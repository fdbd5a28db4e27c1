//! Stories: clips of several shots, each made of windows that continue each other.
//!
//! A window is one run of the sampler, with a directory of its own in the project's: a story that is killed at any point
//! continues where it was. A window continues latent frames of the one before (then both are decoded as one stream, and
//! nothing is lost at the join) or decoded frames, as the model's capabilities say.

mod colours;
mod film;
mod filming;
mod windows;

pub use filming::PlannedStory;

use crate::request::recipe::Recipe;
use crate::run::directory::LOCK;
use crate::run::run_dir::INPUTS;
use std::path::Path;

/// The end of the clip that a story continues, encoded.
pub(crate) const BEFORE: &str = "before.safetensors";
/// The recipe of a project's story.
pub(crate) const STORY: &str = "story.json";
/// The seed of the story that the project in `directory` holds, if it holds one.
pub fn story_seed(directory: &Path) -> Option<u64> {
    let text = kinora_files::read_text(&directory.join(STORY)).ok()?;
    serde_json::from_str::<Recipe>(&text).ok().map(|recipe| recipe.seed)
}

/// Removes the files of a finished story from its project, and the directory if nothing else is in it.
pub fn discard_project(directory: &Path) {
    // The clip is complete: a leftover is only untidy.
    for index in 0.. {
        let window = directory.join(format!("{index:03}"));
        if !window.is_dir() {
            break;
        }
        let _ = std::fs::remove_dir_all(window);
    }
    for file in [STORY, BEFORE, INPUTS, LOCK] {
        let _ = std::fs::remove_file(directory.join(file));
    }
    let _ = std::fs::remove_dir(directory);
}

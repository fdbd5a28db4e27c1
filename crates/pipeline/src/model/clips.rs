//! [`inspect_clip`]: what is in the file of a clip.

use crate::request::recipe::Recipe;
use kinora_media::Readers;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What is in the file of a clip.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ClipDescription {
    /// The width of every frame in pixels.
    pub width: usize,
    /// The height of every frame in pixels.
    pub height: usize,
    /// The number of frames, if the file contains it.
    pub frames: Option<usize>,
    /// Frames per second.
    pub fps: f64,
    /// What is not read, or not as the file shows it, such as sound; each sentence goes on from the name of the file.
    pub notes: Vec<String>,
    /// Whether it carries a recipe, which [`Recipe::read`] returns.
    pub recipe: bool,
}

/// Returns what is in a clip or picture; none if the file is neither, or cannot be read as one. `ffmpeg` is the program that reads
/// what this library does not, see [`LoadOptions::ffmpeg`](crate::LoadOptions::ffmpeg).
pub fn inspect_clip(path: &Path, ffmpeg: Option<PathBuf>) -> Option<ClipDescription> {
    if !path.is_file() {
        return None;
    }
    let reader = Readers { ffmpeg }.open(path).ok()?;
    let (spec, recipe) = (reader.spec(), Recipe::read(path).is_ok());
    Some(ClipDescription {
        width: spec.width,
        height: spec.height,
        frames: reader.frames(),
        fps: spec.fps.as_f64(),
        notes: reader.notes(),
        recipe,
    })
}

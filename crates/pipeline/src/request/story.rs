//! [`Story`]: the shots of a clip.

use crate::request::{path_text, seed};
use crate::{Error, Result};
use kinora_media::Source;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The longest story, seconds.
pub(crate) const MOST_SECONDS: f64 = 3600.0;

/// A clip of several shots.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Story {
    /// The clip that the first shot continues.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "path_text")]
    pub after: Option<Source>,
    /// In their order.
    #[serde(rename = "shot", default)]
    pub shots: Vec<Shot>,
}

/// A part of a story with one prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shot {
    /// The prompt.
    pub prompt: String,
    /// How long it is; `None` is the model's own length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// How it follows the one before.
    #[serde(default)]
    pub join: Join,
    /// The negative prompt; `None` is that of the story.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// The picture that it begins with; only after a cut.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "path_text")]
    pub image: Option<Source>,
    /// How the camera moves, such as `pan=5,zoom=-3`, or a preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera: Option<String>,
    /// Seed of its first window; else it follows from the story's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "seed::deserialize")]
    pub seed: Option<u64>,
}

/// How a shot follows the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Join {
    /// Without a visible join.
    #[default]
    Continue,
    /// With a new beginning.
    Cut,
}

impl Story {
    /// The same with absolute paths, for a recipe.
    pub(crate) fn with_whole_paths(&self) -> Self {
        let shot = |shot: &Shot| Shot { image: shot.image.as_ref().map(Source::absolute), ..shot.clone() };
        Self { after: self.after.as_ref().map(Source::absolute), shots: self.shots.iter().map(shot).collect() }
    }

    /// Every file that it names.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.after.iter().chain(self.shots.iter().filter_map(|shot| shot.image.as_ref())).filter_map(Source::path)
    }

    /// Reads a story: `[[shot]]` tables of TOML.
    ///
    /// # Errors
    /// No such file, or one that says something else.
    pub fn read(path: &Path) -> Result<Self> {
        let hint = "a story is TOML with `[[shot]]` tables of prompt, seconds, join (continue or cut), camera, image";
        let bad = |reason: String| Error::bad_file(path, reason, hint);
        let text = kinora_files::read_text(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        let mut story: Self = toml::from_str(&text).map_err(|error| bad(error.message().to_string()))?;
        if story.shots.is_empty() {
            return Err(bad("it has no shots".into()));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        for source in story.shots.iter_mut().filter_map(|shot| shot.image.as_mut()).chain(&mut story.after) {
            if let Some(path) = source.path() {
                *source = folder.join(path).into();
            }
        }
        Ok(story)
    }
}

//! Camera control: moves, presets and pose files → one [`Pose`] per frame → the rays that a camera adapter takes.
//!
//! ```text
//! pan=5,zoom=-3 ─┐
//! down-back     ─┼─ Camera::trajectory ─ Trajectory ─ packed [1, 24, F, H, W]
//! poses.txt     ─┘         └ Camera::in_prompt, for models without an adapter
//! ```
//!
//! Signs, amounts and the file's format: `docs/camera.md`. Camera coordinates are x right, y down, z forward.

mod moves;
mod path;
mod phrase;
mod pose;
mod rays;

pub use moves::{CameraMove, CameraPreset};
pub use path::CameraPath;
pub use phrase::Language;
pub use pose::{Lens, Pose};
pub use rays::Trajectory;

use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// How the camera moves through a clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Camera {
    /// Six axes, each at its speed.
    Move(CameraMove),
    /// A named combination.
    Preset(CameraPreset),
    /// Poses from a file, which [`CameraPath::read`] reads.
    Path(PathBuf),
}

impl Camera {
    /// One pose per frame, the first the identity. Moves and presets go on at their speed for as long as the clip is;
    /// the poses of a path are spread over it.
    pub fn trajectory(&self, frames: usize, fps: f64) -> crate::Result<Trajectory> {
        if frames == 0 || !(fps > 0.0 && fps.is_finite()) {
            let what = format!("no camera can move through {frames} frames at {fps} frames a second");
            return Err(Error::request(what, "both must be above 0"));
        }
        let motion = match self {
            Self::Move(axes) => axes.checked()?.motion(),
            Self::Preset(preset) => preset.motion(),
            Self::Path(path) => return CameraPath::read(path)?.trajectory(frames),
        };
        let poses: Vec<Pose> = (0..frames).map(|frame| motion.pose(frame as f64 / fps)).collect();
        Trajectory::new(&poses)
    }

    /// The move in words, such as `the camera pans left`; `None` for a path and for a camera that stays.
    pub fn phrase(&self, language: Language) -> Option<String> {
        match self {
            Self::Move(axes) => axes.phrase(language),
            Self::Preset(preset) => Some(preset.phrase(language).into()),
            Self::Path(_) => None,
        }
    }

    /// The prompt with the move in words after it, in the prompt's language.
    pub fn in_prompt(&self, prompt: &str) -> String {
        let language = Language::of(prompt);
        match self.phrase(language) {
            Some(phrase) => language.join(prompt, &phrase),
            None => prompt.into(),
        }
    }
}

impl fmt::Display for Camera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Move(axes) => axes.fmt(f),
            Self::Preset(preset) => preset.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// Reads moves and presets; a file is read by [`CameraPath::read`].
impl FromStr for Camera {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('=') {
            return text.parse().map(Self::Move);
        }
        text.parse().map(Self::Preset).map_err(|error: String| format!("{error}, nor moves such as pan=5,zoom=-3"))
    }
}

#[cfg(test)]
mod tests;

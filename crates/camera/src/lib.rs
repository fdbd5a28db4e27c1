//! Camera control: moves, presets and pose files → one [`Pose`] per frame → the rays of every pixel.
//!
//! ```text
//! pan=5,zoom=-3 ─┐                                     ┌ rays   [F, 6, H, W], one set per pixel frame
//! down-back     ─┼─ Camera::trajectory ─ Trajectory ───┤
//! poses.txt     ─┘   └ Camera::in_prompt               └ packed [1, 6·k, F, H, W], k pixel frames per latent frame
//! ```
//!
//! `docs/camera.md` defines the signs and amounts of the axes and the format of pose files. In camera coordinates, x
//! points right, y down and z forward. The crate knows no model: how many pixel frames share a latent frame is an
//! argument, and a model without camera control gets the move in words ([`Camera::in_prompt`]).

mod error;
mod moves;
mod path;
mod phrase;
mod pose;
mod rays;

pub use error::{Error, Result};
pub use moves::{CameraMove, CameraPreset, Placement};
pub use path::CameraPath;
pub use phrase::Language;
pub use pose::{Lens, Pose};
pub use rays::{RAY_CHANNELS, Trajectory};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// How the camera moves through a clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Camera {
    /// A move along six axes, each at its own speed.
    Move(CameraMove),
    /// A named combination of moves.
    Preset(CameraPreset),
    /// The poses of a file in the format of [`CameraPath::read`].
    Path(PathBuf),
}

impl Camera {
    /// Returns one pose per frame; the first is the identity. Moves and presets keep their speed through the whole
    /// clip, and the poses of a path are spread over it.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::OutOfRange`], or an error of the pose file.
    pub fn trajectory(&self, frames: usize, fps: f64) -> Result<Trajectory> {
        if frames == 0 || !(fps > 0.0 && fps.is_finite()) {
            return Err(Error::Length { frames, fps });
        }
        let motion = match self {
            Self::Move(axes) => axes.checked()?.motion(),
            Self::Preset(preset) => preset.motion(),
            Self::Path(path) => return CameraPath::read(path)?.trajectory(frames),
        };
        let poses: Vec<Pose> = (0..frames).map(|frame| motion.pose(frame as f64 / fps)).collect();
        Trajectory::new(&poses)
    }

    /// Returns the move in words, such as `the camera pans left`, or `None` for a path and for a camera that does not
    /// move.
    pub fn phrase(&self, language: Language) -> Option<String> {
        match self {
            Self::Move(axes) => axes.phrase(language),
            Self::Preset(preset) => Some(preset.phrase(language).into()),
            Self::Path(_) => None,
        }
    }

    /// Returns the prompt followed by the move in words, in the prompt's language.
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

/// Parses moves and presets, but not paths: [`CameraPath::read`] reads their files.
impl FromStr for Camera {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text.contains('=') {
            return text.parse().map(Self::Move);
        }
        text.parse().map(Self::Preset).map_err(|error: String| format!("{error}, nor moves such as pan=5,zoom=-3"))
    }
}

#[cfg(test)]
mod tests;

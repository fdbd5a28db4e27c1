//! [`Output`]: the files that results are written to; [`Report`]: the result of a run.

use crate::request::builders::builders;
use crate::request::path_text;
use crate::request::text;
use crate::request::upscaler::Upscaler;
use crate::{Error, Result};
use kinora_media::UpscaleTarget;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Added to the name of a clip, the name of its latents.
pub(crate) const LATENTS_SUFFIX: &str = ".latents.safetensors";

/// The files that the results of a run are written to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Output {
    /// The clip; the extension chooses the format (`kinora_media::create` lists them).
    #[serde(with = "path_text")]
    pub clip: PathBuf,
    /// The file of the denoised latents; `None` keeps them beside the clip until it is complete.
    #[serde(with = "path_text")]
    pub latents: Option<PathBuf>,
    /// The directory in which the state of the run is saved every few steps, and from which a run continues.
    #[serde(with = "path_text")]
    pub resume: Option<PathBuf>,
    /// A WAV file for the clip's sound, beside the clip.
    #[serde(with = "path_text")]
    pub audio: Option<PathBuf>,
    /// Store the recipe in the clip.
    pub metadata: bool,
    /// Constant quality of the encoder, 0 (best) to 51; `None` is the encoder's default.
    pub quality: Option<u8>,
    /// Encoder by name, in builds with FFmpeg.
    pub encoder: Option<String>,
    /// A preview that the caller writes meanwhile; no other file may have its name.
    #[serde(with = "path_text")]
    pub preview: Option<PathBuf>,
    /// Names that recipes have in the places of paths, for clips that others get to see: `(path, name)`.
    #[serde(with = "path_text")]
    pub names: Vec<(PathBuf, String)>,
    /// More files that the caller reads, such as that of a story; no result may replace them.
    #[serde(with = "path_text")]
    pub reads: Vec<PathBuf>,
    /// The most latent pixels per side of the tiles that are decoded, each through the whole clip: less memory and more
    /// time, with six bytes on disk for each pixel of each frame until the clip is complete. `None` decodes in tiles only
    /// if whole frames do not fit in memory.
    pub tile: Option<usize>,
    /// Enlargement of the decoded frames.
    #[serde(with = "text")]
    pub upscale: Option<UpscaleTarget>,
    /// What enlarges them; `None` is the default. An error without `upscale`.
    #[serde(with = "text")]
    pub upscaler: Option<Upscaler>,
}

impl Default for Output {
    /// Writes `clip.mp4` in the current directory.
    fn default() -> Self {
        Self {
            clip: "clip.mp4".into(),
            latents: None,
            resume: None,
            audio: None,
            metadata: true,
            quality: None,
            encoder: None,
            preview: None,
            names: Vec::new(),
            reads: Vec::new(),
            tile: None,
            upscale: None,
            upscaler: None,
        }
    }
}

builders! {
    Output {
        clip: PathBuf,
        latents: PathBuf => Some,
        resume: PathBuf => Some,
        audio: PathBuf => Some,
        metadata: bool,
        quality: Option<u8>,
        encoder: String => Some,
        preview: PathBuf => Some,
        names: Vec<(PathBuf, String)>,
        reads: Vec<PathBuf>,
        tile: Option<usize>,
        upscale: Option<UpscaleTarget>,
        upscaler: Option<Upscaler>,
    }
}

impl Output {
    /// Writes the clip to this file, whose name says the format.
    pub fn new(clip: impl Into<PathBuf>) -> Self {
        Self { clip: clip.into(), ..Self::default() }
    }

    /// Returns the enlargement of the frames, and what does it.
    ///
    /// # Errors
    /// An upscaler without a size.
    pub(crate) fn enlargement(&self) -> Result<Option<(UpscaleTarget, Upscaler)>> {
        match (self.upscale, self.upscaler) {
            (Some(target), upscaler) => Ok(Some((target, upscaler.unwrap_or_default()))),
            (None, None) => Ok(None),
            (None, Some(upscaler)) => Err(Error::request(
                format!("the upscaler `{upscaler}` is given, but no size to enlarge the frames to"),
                "say how large they shall be, such as 2x or 1080p, or leave the upscaler out",
            )
            .about(&["upscale", "upscaler"])),
        }
    }

    /// Returns whether a network enlarges the frames.
    pub(crate) fn enlarges_by_network(&self) -> bool {
        self.upscale.is_some() && self.upscaler.is_some_and(|upscaler| upscaler != Upscaler::Lanczos)
    }

    /// Returns a path for latents that are kept nowhere else: beside the clip, or beside the new folder of its frames. A
    /// file that is there may be all that is left of a run whose decoding failed, so a run takes a name with a number then.
    pub(crate) fn latents_beside_clip(&self) -> PathBuf {
        let folder = self.clip.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir());
        let beside = folder.unwrap_or(&self.clip);
        // Of a pattern of pictures, without the sign that makes it one.
        match beside.file_name().and_then(|name| name.to_str()).filter(|name| name.contains('%')) {
            Some(name) => kinora_files::beside(&beside.with_file_name(name.replace('%', "")), LATENTS_SUFFIX),
            None => kinora_files::beside(beside, LATENTS_SUFFIX),
        }
    }
}

/// Seconds that each stage took; 0 for stages that an earlier run had finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Prompt to context, loading included.
    pub text: f64,
    /// Noise to latents, loading included.
    pub denoise: f64,
    /// Latents to file, loading included.
    pub decode: f64,
    /// The whole run.
    pub total: f64,
}

/// Predictions of the network in one run, for the prompt and the negative prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predictions {
    /// Made by the network.
    pub computed: usize,
    /// Taken over from earlier steps by the step cache.
    pub reused: usize,
    /// Left out: unguided steps of a guided run, and zeroed steps.
    pub skipped: usize,
}

/// A clip on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// Its file; empty where the frames went to a [`Sink`](crate::Sink).
    #[serde(with = "path_text")]
    pub clip: PathBuf,
    /// Width in pixels, as written.
    pub width: usize,
    /// Height in pixels, as written.
    pub height: usize,
    /// Frames.
    pub frames: usize,
    /// Bytes of the file.
    pub bytes: u64,
    /// Seed of the noise; `None` for decoded latents.
    pub seed: Option<u64>,
    /// Denoised latents that were kept.
    #[serde(with = "path_text")]
    pub latents: Option<PathBuf>,
    /// Sentences about changed values and other facts worth knowing.
    pub notices: Vec<String>,
    /// Predictions of this run; `None` for decoded latents.
    pub predictions: Option<Predictions>,
    /// The time of each stage.
    pub seconds: Seconds,
    /// Highest resident memory of the process so far, bytes (Linux).
    pub peak_memory: Option<u64>,
    /// The peak memory that the plan predicted, bytes; `None` for decoded latents.
    pub planned_memory: Option<u64>,
}

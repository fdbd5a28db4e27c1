//! [`Output`]: where results go; [`Report`]: what was made.

use crate::{Error, Result};
use kinora_media::UpscaleTarget;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Where the results of a run go.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The clip; the extension chooses the format (`kinora_media::create` lists them).
    pub clip: PathBuf,
    /// Keep the denoised latents here; otherwise they lie beside the clip until it is complete.
    pub latents: Option<PathBuf>,
    /// Keep the run's state here every few steps, and continue from what is there.
    pub resume: Option<PathBuf>,
    /// Store the recipe in the clip.
    pub metadata: bool,
    /// Constant quality of the encoder, 0 (best) to 51; `None` is the encoder's default.
    pub quality: Option<u8>,
    /// Encoder by name, in builds with FFmpeg.
    pub encoder: Option<String>,
    /// A preview that the caller writes meanwhile: no other file may be it.
    pub preview: Option<PathBuf>,
    /// Decode tiles of at most so many latent pixels per side, one through the whole clip after the other: less memory and
    /// more time, with six bytes on disk for each pixel of each frame until all are there. `None` does so where whole
    /// frames do not fit.
    pub tile: Option<usize>,
    /// Enlarge the decoded frames.
    pub upscale: Option<UpscaleTarget>,
}

impl Default for Output {
    /// `clip.mp4` in the current directory.
    fn default() -> Self {
        Self {
            clip: "clip.mp4".into(),
            latents: None,
            resume: None,
            metadata: true,
            quality: None,
            encoder: None,
            preview: None,
            tile: None,
            upscale: None,
        }
    }
}

impl Output {
    /// Where latents lie while no other place is asked for: beside the clip, or beside the new folder of its frames.
    /// Always a new file: one that is there may be all that is left of a run whose decoding failed.
    pub(crate) fn latents_beside_clip(&self) -> PathBuf {
        let folder = self.clip.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir());
        let beside = folder.unwrap_or(&self.clip);
        let name = beside.file_name().unwrap_or_default().to_string_lossy().replace('%', "");
        let numbered = |number: usize| beside.with_file_name(format!("{name}.latents-{number}.safetensors"));
        let first = beside.with_file_name(format!("{name}.latents.safetensors"));
        let mut candidates = std::iter::once(first.clone()).chain((2..1000).map(numbered));
        candidates.find(|path| !path.exists()).unwrap_or(first)
    }
}

/// Refuses two names of one file, where one of them is among the first `results`: a result would replace another one, or
/// what it is made from.
pub(crate) fn distinct(files: &[(&'static str, &Path)], results: usize) -> Result<()> {
    let identity = |path: &Path| {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = directory.canonicalize().unwrap_or_else(|_| without_detours(directory));
        path.canonicalize().unwrap_or_else(|_| directory.join(path.file_name().unwrap_or_default()))
    };
    for (index, (name, path)) in files.iter().enumerate() {
        if let Some((other, _)) =
            files[..index.min(results)].iter().find(|(_, earlier)| identity(earlier) == identity(path))
        {
            let what = format!("{other} and {name} are the same file, `{}`", path.display());
            return Err(Error::request(what, "give each a name of its own"));
        }
    }
    Ok(())
}

/// The absolute path without `.` and `..`, for a directory that is not there yet.
fn without_detours(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).components() {
        if component == std::path::Component::ParentDir {
            plain.pop();
        } else {
            plain.push(component);
        }
    }
    plain
}

/// Seconds that each stage took; stages that an earlier run had done are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
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

/// Predictions of the network in one run, those of the prompt and those of the negative prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Predictions {
    /// Made by the network.
    pub computed: usize,
    /// Taken over from earlier steps by the step cache.
    pub reused: usize,
    /// Left out: unguided steps of a guided run, and zeroed steps.
    pub skipped: usize,
}

/// A clip on disk.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Where it is.
    pub clip: PathBuf,
    /// Pixels, as written.
    pub width: usize,
    /// Pixels, as written.
    pub height: usize,
    /// Frames.
    pub frames: usize,
    /// Bytes of the file.
    pub bytes: u64,
    /// Seed of the noise; `None` for decoded latents.
    pub seed: Option<u64>,
    /// Denoised latents that were kept.
    pub latents: Option<PathBuf>,
    /// What was changed or is worth knowing.
    pub notices: Vec<String>,
    /// Predictions of this run; `None` for decoded latents.
    pub predictions: Option<Predictions>,
    /// Where the time went.
    pub seconds: Seconds,
    /// Highest resident memory of the process so far, bytes (Linux).
    pub peak_memory: Option<u64>,
    /// What the plan had predicted for it; `None` for decoded latents.
    pub planned_memory: Option<u64>,
}

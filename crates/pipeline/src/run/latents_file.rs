//! [`LatentsFile`]: the artefact between denoising and decoding, one safetensors file.

use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::TensorFile;
use kinora_vae::LatentFormat;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The tensor's name.
const LATENTS: &str = "latents";
/// Keys of the metadata: the recipe, and the frame rate that the clip should have.
const RECIPE: &str = "recipe";
const FPS: &str = "fps";

/// Latents `[1, C, F, h, w]` in a file, read a few frames at a time.
pub(crate) struct LatentsFile {
    path: PathBuf,
    file: TensorFile,
    /// `[C, F, h, w]`.
    shape: [usize; 4],
}

impl LatentsFile {
    /// Opens `path` and checks that it holds latents.
    ///
    /// # Errors
    /// [`Error::BadFile`] for a file without latents of that rank, or with empty ones.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let infos = file.infos();
        let info = infos.iter().find(|info| info.name == LATENTS);
        let info = info.ok_or_else(|| bad(path, format!("it has no tensor `{LATENTS}`")))?;
        let &[1, c, f, h, w] = info.shape.as_slice() else {
            return Err(bad(path, format!("`{LATENTS}` has shape {:?}, not [1, C, F, H, W]", info.shape)));
        };
        if c * f * h * w == 0 {
            return Err(bad(path, format!("`{LATENTS}` is empty, {:?}", info.shape)));
        }
        Ok(Self { path: path.to_path_buf(), file, shape: [c, f, h, w] })
    }

    /// Opens latents that a VAE of this format decodes.
    ///
    /// # Errors
    /// As [`LatentsFile::open`], and another number of channels.
    pub(crate) fn open_for(path: &Path, format: &LatentFormat) -> Result<Self> {
        let file = Self::open(path)?;
        let (found, needed) = (file.shape[0], format.channels);
        if found != needed {
            return Err(bad(path, format!("`{LATENTS}` has {found} channels, this model's VAE has {needed}")));
        }
        Ok(file)
    }

    /// Writes `latents [1, C, F, h, w]` with the frame rate and the recipe of their clip.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn save(path: &Path, latents: Tensor, fps: Option<f64>, recipe: Option<&str>) -> Result<()> {
        let fps = fps.map(|fps| (FPS.to_string(), fps.to_string()));
        let recipe = recipe.map(|recipe| (RECIPE.to_string(), recipe.to_string()));
        let metadata: BTreeMap<_, _> = fps.into_iter().chain(recipe).collect();
        Ok(kinora_checkpoint::save_safetensors(path, &[(LATENTS.to_string(), latents)], &metadata)?)
    }

    /// `[C, F, h, w]`.
    pub(crate) fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Latent frames.
    pub(crate) fn frames(&self) -> usize {
        self.shape[1]
    }

    /// The recipe of the clip, as text.
    pub(crate) fn recipe(&self) -> Option<&str> {
        self.file.metadata().get(RECIPE).map(String::as_str)
    }

    /// The frame rate of the clip.
    pub(crate) fn fps(&self) -> Option<f64> {
        self.file.metadata().get(FPS)?.parse().ok()
    }

    /// Latent frame number `index`, `[1, C, 1, h, w]` f32 on `device`.
    ///
    /// # Errors
    /// NaN or infinite values.
    pub(crate) fn frame(&self, index: usize, device: &Device) -> Result<Tensor> {
        let latents = self.file.narrow(LATENTS, 2, index, 1)?.to_device(device)?.to_dtype(DType::F32)?;
        if !kinora_sampler::all_finite(&latents)? {
            return Err(bad(&self.path, format!("`{LATENTS}` has NaN or infinite values in frame {index}")));
        }
        Ok(latents)
    }

    /// The latent frames from number `first` on, f32 on the CPU.
    ///
    /// # Errors
    /// NaN or infinite values.
    pub(crate) fn from(&self, first: usize) -> Result<Tensor> {
        let latents = self.file.narrow(LATENTS, 2, first, self.frames() - first)?.to_dtype(DType::F32)?;
        if !kinora_sampler::all_finite(&latents)? {
            return Err(bad(&self.path, format!("`{LATENTS}` has NaN or infinite values from frame {first} on")));
        }
        Ok(latents)
    }

    /// The last `count` latent frames, f32 on `device`.
    ///
    /// # Errors
    /// A clip that is shorter.
    pub(crate) fn tail(&self, count: usize, device: &Device) -> Result<Tensor> {
        let frames = self.frames();
        if frames < count {
            return Err(Error::BadFile {
                path: self.path.clone(),
                reason: format!("it has {frames} latent frames, {count} are needed to continue"),
                hint: "continue a longer clip",
            });
        }
        Ok(self.from(frames - count)?.to_device(device)?)
    }
}

fn bad(path: &Path, reason: String) -> Error {
    let hint = "latents come from `kinora generate --save-latents` or `kinora encode`, with the same model";
    Error::BadFile { path: path.to_path_buf(), reason, hint }
}

//! [`LatentsFile`]: the artefact between denoising and decoding, one safetensors file.

use crate::families::capabilities::{Limits, StreamShape};
use crate::request::recipe::Recipe;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::TensorFile;
use kinora_sampler::Streams;
use kinora_vae::LatentFormat;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the video's tensor, and with what follows that of the tensor of each other stream.
const LATENTS: &str = "latents";
/// Keys of the metadata: the recipe, the frame rate and the size that the clip should have, and the hash of its file.
const RECIPE: &str = "recipe";
const FPS: &str = "fps";
const CUT: &str = "cut";
const CLIP: &str = "clip";

/// Latents `[1, C, F, h, w]` in a file, read a few frames at a time, and those of the clip's other streams, such as its sound. They
/// stay the same when another file gets its name.
#[derive(Clone)]
pub(crate) struct LatentsFile {
    path: PathBuf,
    file: Arc<TensorFile>,
    /// `[C, F, h, w]`.
    shape: [usize; 4],
    /// The streams beside the video, and their shapes.
    others: Vec<(String, Vec<usize>)>,
}

/// Facts about the clip of saved latents.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct About<'a> {
    /// Frames per second.
    pub fps: Option<f64>,
    /// Width and height that its frames are cut to.
    pub cut: Option<(usize, usize)>,
    /// The recipe, as text.
    pub recipe: Option<&'a str>,
    /// The finished clip, which the latents know by its content.
    pub clip: Option<&'a Path>,
}

impl LatentsFile {
    /// Opens `path` and checks that it holds latents.
    ///
    /// # Errors
    /// [`Error::BadFile`] for a file without latents of that rank, or with empty ones.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::of(path, TensorFile::open(path)?)
    }

    fn of(path: &Path, file: TensorFile) -> Result<Self> {
        let infos = file.infos();
        let info = infos.iter().find(|info| info.name == LATENTS);
        let info = info.ok_or_else(|| bad(path, format!("it has no tensor `{LATENTS}`")))?;
        let &[1, c, f, h, w] = info.shape.as_slice() else {
            return Err(bad(path, format!("`{LATENTS}` has shape {:?}, not [1, C, F, H, W]", info.shape)));
        };
        if c * f * h * w == 0 {
            return Err(bad(path, format!("`{LATENTS}` is empty, {:?}", info.shape)));
        }
        let other = |name: &str| Some(name.strip_prefix(LATENTS)?.strip_prefix('_')?.to_string());
        let others = infos.iter().filter_map(|info| Some((other(&info.name)?, info.shape.clone()))).collect();
        Ok(Self { path: path.to_path_buf(), file: Arc::new(file), shape: [c, f, h, w], others })
    }

    /// Opens latents that a VAE of this format decodes.
    ///
    /// # Errors
    /// As [`LatentsFile::open`], and another number of channels.
    pub(crate) fn open_for(path: &Path, format: &LatentFormat) -> Result<Self> {
        Self::open(path)?.checked(format)
    }

    /// Refuses latents that a VAE of this format does not decode.
    ///
    /// # Errors
    /// Another number of channels.
    pub(crate) fn checked(self, format: &LatentFormat) -> Result<Self> {
        let (found, needed) = (self.shape[0], format.channels);
        if found != needed {
            let recipe = self.recipe().and_then(|text| serde_json::from_str::<Recipe>(text).ok());
            let maker = recipe.map(|recipe| format!("; they were made with the model {}", recipe.model.join(" ")));
            let maker = maker.unwrap_or_default();
            let reason = format!("`{LATENTS}` has {found} channels, this model's VAE has {needed}{maker}");
            return Err(bad(&self.path, reason));
        }
        Ok(self)
    }

    /// Writes `latents`, of which the first are the video's, `[1, C, F, h, w]`, and the facts about their clip, and returns the
    /// file.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn save(path: &Path, latents: &Streams, about: About) -> Result<Self> {
        let cut = about.cut.map(|(width, height)| format!("{width}x{height}"));
        let metadata = [
            (FPS, about.fps.map(|fps| fps.to_string())),
            (CUT, cut),
            (RECIPE, about.recipe.map(str::to_string)),
            (CLIP, about.clip.map(fingerprint)),
        ];
        let metadata: BTreeMap<_, _> =
            metadata.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?))).collect();
        let tensors = latents.iter().enumerate();
        let tensors = tensors.map(|(index, (name, tensor))| (StreamShape::named(LATENTS, index, name), tensor.clone()));
        Self::of(path, kinora_checkpoint::save_and_open(path, &tensors.collect::<Vec<_>>(), &metadata)?)
    }

    /// `[C, F, h, w]`.
    pub(crate) fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Whether there are streams beside the video.
    pub(crate) fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// Whether they have those `streams` beside the video, in the same shapes, and no others.
    pub(crate) fn has(&self, streams: &[StreamShape]) -> bool {
        let is_here = |stream: &StreamShape| {
            self.others.iter().any(|other| *other == (stream.name.to_string(), stream.shape.clone()))
        };
        self.others.len() == streams.len() && streams.iter().all(is_here)
    }

    /// Whether they are the latents of some clip, which was finished when they were saved.
    pub(crate) fn is_of_a_clip(&self) -> bool {
        self.metadata(CLIP).is_some()
    }

    /// Whether they are the latents of the clip in the file `clip`, as it is now.
    pub(crate) fn is_of_clip(&self, clip: &Path) -> bool {
        clip.is_file() && self.metadata(CLIP) == Some(&fingerprint(clip))
    }

    /// Latent frames.
    pub(crate) fn frames(&self) -> usize {
        self.shape[1]
    }

    /// The recipe of the clip, as text.
    pub(crate) fn recipe(&self) -> Option<&str> {
        self.metadata(RECIPE)
    }

    /// The frame rate of the clip.
    pub(crate) fn fps(&self) -> Option<f64> {
        self.metadata(FPS)?.parse().ok()
    }

    /// The size that the clip's frames are cut to.
    pub(crate) fn cut(&self) -> Option<(usize, usize)> {
        let (width, height) = self.metadata(CUT)?.split_once('x')?;
        width.parse().ok().zip(height.parse().ok())
    }

    fn metadata(&self, key: &str) -> Option<&str> {
        self.file.metadata().get(key).map(String::as_str)
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

    /// All of them, f32 on the CPU: the video's first, then those of the other streams.
    ///
    /// # Errors
    /// NaN or infinite values.
    pub(crate) fn all(&self) -> Result<Streams> {
        let mut streams = vec![(Limits::VIDEO.to_string(), self.from(0)?)];
        for (name, _) in &self.others {
            let tensor = StreamShape::named(LATENTS, 1, name);
            let latents = self.file.tensor(&tensor)?.to_dtype(DType::F32)?;
            if !kinora_sampler::all_finite(&latents)? {
                return Err(bad(&self.path, format!("`{tensor}` has NaN or infinite values")));
            }
            streams.push((name.clone(), latents));
        }
        Ok(Streams::new(streams)?)
    }

    /// The last `count` latent frames, f32 on `device`.
    ///
    /// # Errors
    /// A clip that is shorter.
    pub(crate) fn tail(&self, count: usize, device: &Device) -> Result<Tensor> {
        let frames = self.frames();
        if frames < count {
            let reason = format!("it has {frames} latent frames, {count} are needed to continue");
            return Err(Error::bad_file(&self.path, reason, "continue a longer clip"));
        }
        Ok(self.from(frames - count)?.to_device(device)?)
    }
}

/// Latents `[1, C, F, h, w]` of a clip that has no other streams.
pub(crate) fn video(latents: Tensor) -> Streams {
    Streams::single(Limits::VIDEO, latents)
}

/// The SHA-256 of the file `clip`; empty where there is no such file, as of numbered pictures.
fn fingerprint(clip: &Path) -> String {
    let digest = || {
        let (mut file, mut hasher) = (std::fs::File::open(clip)?, Sha256::new());
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return std::io::Result::Ok(hasher.finalize()),
                count => hasher.update(&buffer[..count]),
            }
        }
    };
    let mut text = String::new();
    for byte in digest().iter().flatten() {
        let _ = write!(text, "{byte:02x}"); // a string takes everything
    }
    text
}

fn bad(path: &Path, reason: String) -> Error {
    Error::bad_file(path, reason, "latents are saved by a run, or encoded from a clip, with the same model")
        .about(&["save_latents"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        Tensor::arange(0f32, count as f32, &Device::Cpu).and_then(|all| all.reshape(shape)).expect("a tensor")
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().and_then(|all| all.to_vec1()).expect("f32")
    }

    #[test]
    fn every_stream_comes_back_by_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("latents.safetensors");
        let saved = [("video", counted(&[1, 2, 3, 2, 2])), ("audio", counted(&[1, 2, 9, 4]))];
        let saved = Streams::new(saved).expect("two names");
        let about = About { fps: Some(24.0), ..About::default() };
        let file = LatentsFile::save(&path, &saved, about).expect("it is written");
        assert_eq!((file.shape(), file.fps()), ([2, 3, 2, 2], Some(24.0)));
        let all = LatentsFile::open(&path).and_then(|file| file.all()).expect("it is whole");
        assert_eq!(all.names(), saved.names());
        for ((name, found), (_, expected)) in all.iter().zip(saved.iter()) {
            assert_eq!((found.dims(), values(found)), (expected.dims(), values(expected)), "{name}");
        }
        let audio = |shape: &[usize]| vec![StreamShape { name: "audio", shape: shape.to_vec() }];
        assert!(file.has(&audio(&[1, 2, 9, 4])));
        assert!(!file.has(&audio(&[1, 2, 8, 4])) && !file.has(&[]), "other shapes, and one that is not asked for");
        let alone = LatentsFile::save(&path, &video(counted(&[1, 2, 3, 2, 2])), about).expect("it is written");
        assert!(alone.has(&[]) && !alone.has(&audio(&[1, 2, 9, 4])));
        assert_eq!(alone.all().expect("it is whole").names(), ["video"]);
    }
}

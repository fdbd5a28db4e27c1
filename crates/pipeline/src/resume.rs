//! The directory of a resumable run: which request it is, the contexts, the sampler's state, the latents.
//!
//! Every file is written to a temporary name and renamed, so a run that is killed at any point leaves either the old
//! state or the new one.

use crate::recipe::Recipe;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use kinora_sampler::{Sampler, SamplerState, Schedule};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const RECIPE: &str = "recipe.json";
const CONTEXTS: &str = "context.safetensors";
const STATE: &str = "state.safetensors";
const LATENTS: &str = "latents.safetensors";

/// An open run directory.
pub(crate) struct RunDir {
    path: PathBuf,
}

/// The recipe of the run that `dir` holds, if it holds one: a resumed run keeps its random seed.
pub(crate) fn recorded(dir: &Path) -> Result<Option<Recipe>> {
    let file = dir.join(RECIPE);
    match std::fs::read_to_string(&file) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| Error::BadFile { path: file, reason: format!("it does not parse: {error}") }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path: file, source }),
    }
}

impl RunDir {
    /// Opens or creates `path` for `recipe`; a directory that holds another request is an error.
    pub(crate) fn open(path: &Path, recipe: &Recipe) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        match recorded(path)? {
            Some(earlier) => {
                if let Some(difference) = recipe.difference(&earlier) {
                    return Err(Error::ResumeMismatch { path: path.to_path_buf(), difference });
                }
            }
            None => write_text(&path.join(RECIPE), &serde_json::to_string_pretty(recipe).expect("plain data"))?,
        }
        Ok(Self { path: path.to_path_buf() })
    }

    /// Where the denoised latents go.
    pub(crate) fn latents(&self) -> PathBuf {
        self.path.join(LATENTS)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The contexts (prompt, negative prompt) of an earlier run.
    pub(crate) fn load_contexts(&self, device: &Device) -> Result<Option<Vec<Tensor>>> {
        let path = self.path.join(CONTEXTS);
        if !path.exists() {
            return Ok(None);
        }
        let mut loaded = kinora_checkpoint::load_safetensors(&path)?.0;
        let contexts = ["context", "negative"].iter().filter_map(|name| loaded.remove(*name));
        Ok(Some(contexts.map(|tensor| tensor.to_device(device)).collect::<candle_core::Result<_>>()?))
    }

    /// Keeps the contexts.
    pub(crate) fn save_contexts(&self, contexts: &[Tensor]) -> Result<()> {
        let names = ["context", "negative"];
        let tensors: Vec<_> = names.iter().map(ToString::to_string).zip(contexts.iter().cloned()).collect();
        Ok(kinora_checkpoint::save_safetensors(&self.path.join(CONTEXTS), &tensors, &BTreeMap::new())?)
    }

    /// The sampler of an earlier run, in the middle of its steps.
    pub(crate) fn load_sampler(&self, schedule: &Schedule, device: &Device) -> Result<Option<Sampler>> {
        let path = self.path.join(STATE);
        if !path.exists() {
            return Ok(None);
        }
        let (tensors, metadata) = kinora_checkpoint::load_safetensors(&path)?;
        let bad = |reason: String| Error::BadFile { path: path.clone(), reason };
        let state = metadata.get("state").ok_or_else(|| bad("it has no sampler state".into()))?;
        let state: SamplerState = serde_json::from_str(state).map_err(|error| bad(error.to_string()))?;
        if state.schedule != *schedule {
            return Err(bad("its schedule is another one".into()));
        }
        let tensors = tensors
            .into_iter()
            .map(|(name, tensor)| Ok((name, tensor.to_device(device)?)))
            .collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Some(Sampler::restore(state, tensors)?))
    }

    /// Keeps the sampler.
    pub(crate) fn save_sampler(&self, sampler: &Sampler) -> Result<()> {
        let (tensors, state) = sampler.save();
        let state = serde_json::to_string(&state).expect("plain data");
        let metadata = BTreeMap::from([("state".to_string(), state)]);
        Ok(kinora_checkpoint::save_safetensors(&self.path.join(STATE), &tensors, &metadata)?)
    }
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, text).map_err(io)?;
    std::fs::rename(&temporary, path).map_err(io)
}

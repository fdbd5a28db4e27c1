//! The directory of a resumable run: which request it is, the contexts, the sampler's state, the latents.
//!
//! Every file is written to a temporary name and renamed, so a run that is killed at any point leaves either the old
//! state or the new one.

use super::directory::{LOCK, Lock, check_own};
use super::latents_file::LatentsFile;
use crate::families::family::Tensors;
use crate::plan::Plan;
use crate::request::files::{ModelFiles, files_of};
use crate::request::recipe::Recipe;
use crate::request::story::Story;
use crate::step_cache::{CacheRule, StepCache};
use crate::story::{BEFORE, STORY};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use kinora_files::path_text;
use kinora_sampler::{Sampler, SamplerState, all_finite};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

const RECIPE: &str = "recipe.json";
/// Size and time of each input when the run began.
pub(crate) const INPUTS: &str = "inputs.json";
const CONTEXTS: &str = "context.safetensors";
const CONDITIONING: &str = "conditions.safetensors";
pub(crate) const STATE: &str = "state.safetensors";
pub(crate) const LATENTS: &str = "latents.safetensors";
/// Every file that a run or a story keeps in its directory.
pub(crate) const FILES: [&str; 9] = [RECIPE, INPUTS, CONTEXTS, CONDITIONING, STATE, LATENTS, STORY, BEFORE, LOCK];
/// Before the names of the step cache's tensors.
const CACHE: &str = "cache.";

/// An open run directory.
pub(crate) struct RunDir {
    path: PathBuf,
    _lock: Lock,
}

/// Notes in `dir` what the files of `recipe` and of the `model` are like, and refuses to go on with others of the same names.
pub(crate) fn check_inputs(dir: &Path, recipe: &Recipe, model: &ModelFiles) -> Result<()> {
    let now = inputs(recipe, model)?;
    let file = dir.join(INPUTS);
    if !file.exists() {
        return write_text(&file, &serde_json::to_string_pretty(&now).expect("plain data"));
    }
    let text = kinora_files::read_text(&file).map_err(|error| bad_run(dir, format!("{INPUTS}: {error}")))?;
    let before: BTreeMap<String, Input> = serde_json::from_str(&text).map_err(|error| bad_run(dir, error))?;
    let mut paths = before.keys().chain(now.keys());
    let difference = paths.find_map(|path| match (before.get(path), now.get(path)) {
        (Some(before), Some(now)) if before == now => None,
        (Some(_), Some(_)) => Some(format!("`{path}` has changed since")),
        (_, None) => Some(format!("`{path}` is not there any more")),
        (None, _) => Some(format!("`{path}` was not there then")),
    });
    difference.map_or(Ok(()), |difference| Err(Error::ResumeMismatch { path: dir.to_path_buf(), difference }))
}

/// A file that is read: its bytes, and the time of its last change, in nanoseconds.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Input {
    bytes: u64,
    changed: Option<u64>,
}

/// Those files by their absolute paths.
fn inputs(recipe: &Recipe, model: &ModelFiles) -> Result<BTreeMap<String, Input>> {
    let given = recipe.inputs.files().into_iter().map(|(_, path)| path);
    let story = recipe.story.iter().flat_map(Story::files);
    let input = |path: &Path| {
        let data = std::fs::metadata(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        let changed = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok((
            path_text(path),
            Input { bytes: data.len(), changed: changed.and_then(|time| u64::try_from(time.as_nanos()).ok()) },
        ))
    };
    let all = given.chain(story).chain(recipe.init_latents.as_deref()).flat_map(files_of);
    let files = all.chain(model.files.iter().cloned()).filter(|path| path.exists());
    files.map(|path| input(&std::path::absolute(&path).unwrap_or(path))).collect()
}

/// The recipe of the run that `dir` holds, if it holds one: a resumed run keeps its random seed.
pub(crate) fn recorded(dir: &Path) -> Result<Option<Recipe>> {
    let file = dir.join(RECIPE);
    match kinora_files::read_text(&file) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| bad_run(dir, format!("{RECIPE} does not parse: {error}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path: file, source }),
    }
}

impl RunDir {
    /// Opens or creates `path` for `recipe`; a directory that holds another request is an error.
    pub(crate) fn open(path: &Path, recipe: &Recipe, model: &ModelFiles) -> Result<Self> {
        check_own(path, RECIPE, "run", &["resume"])?;
        let lock = Lock::take(path)?;
        match recorded(path)? {
            Some(earlier) => {
                if let Some(difference) = recipe.difference(&earlier) {
                    return Err(Error::ResumeMismatch { path: path.to_path_buf(), difference });
                }
            }
            None => write_text(&path.join(RECIPE), &serde_json::to_string_pretty(recipe).expect("plain data"))?,
        }
        check_inputs(path, recipe, model)?;
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    /// Where the denoised latents of the run in `dir` go.
    pub(crate) fn latents_in(dir: &Path) -> PathBuf {
        dir.join(LATENTS)
    }

    /// Whether an earlier run of `plan` has already denoised its latents.
    pub(crate) fn has_latents(&self, plan: &Plan) -> Result<bool> {
        let path = Self::latents_in(&self.path);
        if !path.exists() {
            return Ok(false);
        }
        let file = LatentsFile::open(&path).map_err(|error| self.bad(error))?;
        if file.shape() == plan.latent_shape && file.has(plan.streams.get(1..).unwrap_or_default()) {
            return Ok(true);
        }
        Err(self.bad(format!("{LATENTS} has no `latents` of this clip's shape")))
    }

    /// The text contexts of an earlier run, by the `names` that every prompt has: those of the prompt and, for a guided
    /// `plan`, those of the negative prompt.
    pub(crate) fn load_contexts(&self, plan: &Plan, names: &[&str], device: &Device) -> Result<Option<Vec<Tensors>>> {
        let path = self.path.join(CONTEXTS);
        if !path.exists() {
            return Ok(None);
        }
        let mut loaded = kinora_checkpoint::load_safetensors(&path).map_err(|error| self.bad(error))?.0;
        let mut prompts = Vec::new();
        for prompt in 0..=usize::from(plan.guided()) {
            let mut contexts = Tensors::new();
            for name in names {
                let kept = context_name(prompt, name);
                let tensor = loaded.remove(&kept).filter(|tensor| tensor.rank() == 3);
                let tensor = tensor.ok_or_else(|| self.bad(format!("{CONTEXTS} has no tensor `{kept}` [1, S, C]")))?;
                contexts.insert((*name).to_string(), tensor.to_device(device)?);
            }
            prompts.push(contexts);
        }
        Ok(Some(prompts))
    }

    /// Keeps the text contexts of each prompt.
    pub(crate) fn save_contexts(&self, prompts: &[Tensors]) -> Result<()> {
        let mut tensors = Vec::new();
        for (prompt, contexts) in prompts.iter().enumerate() {
            tensors.extend(contexts.iter().map(|(name, tensor)| (context_name(prompt, name), tensor.clone())));
        }
        Ok(kinora_checkpoint::save_safetensors(&self.path.join(CONTEXTS), &tensors, &BTreeMap::new())?)
    }

    /// The encoded conditioning inputs of an earlier run.
    pub(crate) fn load_conditioning(&self) -> Result<Option<Tensors>> {
        let path = self.path.join(CONDITIONING);
        if !path.exists() {
            return Ok(None);
        }
        let tensors = kinora_checkpoint::load_safetensors(&path).map_err(|error| self.bad(error))?.0;
        for (name, tensor) in &tensors {
            if !is_finite(tensor).map_err(|error| self.bad(error))? {
                return Err(self.bad(format!("`{name}` in {CONDITIONING} has NaN or infinite values")));
            }
        }
        Ok(Some(tensors))
    }

    /// Keeps the encoded conditioning inputs.
    pub(crate) fn save_conditioning(&self, conditioning: &Tensors) -> Result<()> {
        let tensors: Vec<_> = conditioning.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        Ok(kinora_checkpoint::save_safetensors(&self.path.join(CONDITIONING), &tensors, &BTreeMap::new())?)
    }

    /// Sampler and step cache of an earlier run, in the middle of the steps of `plan`.
    pub(crate) fn load_state(&self, plan: &Plan, device: &Device) -> Result<Option<(Sampler, Option<StepCache>)>> {
        let path = self.path.join(STATE);
        if !path.exists() {
            return Ok(None);
        }
        let (tensors, metadata) = kinora_checkpoint::load_safetensors(&path).map_err(|error| self.bad(error))?;
        let state = metadata.get("state").ok_or_else(|| self.bad(format!("{STATE} says nothing of its sampler")))?;
        let state: SamplerState = serde_json::from_str(state).map_err(|error| self.bad(error))?;
        let same = (state.kind, state.seed, &state.schedule) == (plan.sampler, plan.seed, &plan.schedule);
        if !same || !same_streams(&state, plan) {
            return Err(self.bad(format!("{STATE} has another sampler, seed or schedule")));
        }
        let (mut on_device, mut cached) = (Vec::new(), Vec::new());
        for (name, tensor) in tensors {
            let of_cache = name.strip_prefix(CACHE).map(str::to_string);
            let fits = of_cache.is_some() || plan.streams.iter().any(|stream| tensor.dims() == stream.shape);
            if !fits || !is_finite(&tensor).map_err(|error| self.bad(error))? {
                return Err(self.bad(format!("`{name}` in {STATE} is not of this clip's shape, or not finite")));
            }
            match of_cache {
                Some(name) => cached.push((name, tensor.to_device(device)?)),
                None => on_device.push((name, tensor.to_device(device)?)),
            }
        }
        let restored = |rule: &CacheRule| {
            let cache = StepCache::restore(rule.clone(), cached);
            cache.ok_or_else(|| self.bad(format!("{STATE} has no state of the step cache")))
        };
        let cache = plan.cache.as_ref().map(restored).transpose()?;
        let sampler = Sampler::restore(state, on_device).map_err(|error| self.bad(error))?;
        Ok(Some((sampler, cache)))
    }

    /// Keeps the sampler and the step cache, in one file: they belong to one step.
    pub(crate) fn save_state(&self, sampler: &Sampler, cache: Option<&StepCache>) -> Result<()> {
        let (mut tensors, state) = sampler.save();
        let cached = cache.map(StepCache::tensors).transpose()?.unwrap_or_default();
        tensors.extend(cached.into_iter().map(|(name, tensor)| (format!("{CACHE}{name}"), tensor)));
        let state = serde_json::to_string(&state).expect("plain data");
        let metadata = BTreeMap::from([("state".to_string(), state)]);
        Ok(kinora_checkpoint::save_safetensors(&self.path.join(STATE), &tensors, &metadata)?)
    }

    fn bad(&self, reason: impl Display) -> Error {
        bad_run(&self.path, reason)
    }
}

/// Whether a saved sampler walks the latent streams of `plan`.
fn same_streams(state: &SamplerState, plan: &Plan) -> bool {
    state.streams.iter().eq(plan.streams.iter().map(|stream| stream.name))
}

fn bad_run(path: &Path, reason: impl Display) -> Error {
    Error::BadRun { path: path.to_path_buf(), reason: reason.to_string() }
}

/// Whole numbers always are.
fn is_finite(tensor: &Tensor) -> candle_core::Result<bool> {
    if tensor.dtype().is_float() { all_finite(tensor) } else { Ok(true) }
}

/// The name of a context in the file: `context` and `negative` stand alone.
fn context_name(prompt: usize, context: &str) -> String {
    match (prompt, context) {
        (0, name) => name.to_string(),
        (_, "context") => "negative".to_string(),
        (_, name) => format!("negative.{name}"),
    }
}

/// Writes `text` to `path`, replacing the file that was there.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
    kinora_files::write(path, text).map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

//! The directory of a resumable run: which request it is, the contexts, the sampler's state, the latents.
//!
//! Every file is written to a temporary name and renamed, so a run that is killed at any point leaves either the old
//! state or the new one.

use crate::families::wan::conditioning::Conditions;
use crate::plan::Plan;
use crate::request::recipe::Recipe;
use crate::run::denoise::VIDEO;
use crate::step_cache::{CacheRule, StepCache};
use crate::story::Story;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use kinora_checkpoint::TensorFile;
use kinora_sampler::{Sampler, SamplerState, all_finite};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

const RECIPE: &str = "recipe.json";
/// What the files of a run were like when it began.
pub(crate) const INPUTS: &str = "inputs.json";
const CONTEXTS: &str = "context.safetensors";
const CONDITIONS: &str = "conditions.safetensors";
const STATE: &str = "state.safetensors";
const LATENTS: &str = "latents.safetensors";
/// Before the names of the step cache's tensors.
const CACHE: &str = "cache.";

/// An open run directory.
pub(crate) struct RunDir {
    path: PathBuf,
}

/// Notes in `dir` what the files of `recipe` are like, and refuses to go on with others of the same names.
pub(crate) fn check_inputs(dir: &Path, recipe: &Recipe) -> Result<()> {
    let now = inputs(recipe)?;
    let file = dir.join(INPUTS);
    let Ok(text) = std::fs::read_to_string(&file) else {
        return write_text(&file, &serde_json::to_string_pretty(&now).expect("plain data"));
    };
    let before: BTreeMap<PathBuf, Input> = serde_json::from_str(&text).map_err(|error| bad_run(dir, error))?;
    match now.iter().find(|(path, input)| before.get(*path).is_some_and(|before| before != *input)) {
        Some((path, _)) => {
            let difference = format!("`{}` has changed since", path.display());
            Err(Error::ResumeMismatch { path: dir.to_path_buf(), difference })
        }
        None => Ok(()),
    }
}

/// A file that is read: its bytes, and the seconds of its last change.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Input {
    bytes: u64,
    changed: Option<u64>,
}

fn inputs(recipe: &Recipe) -> Result<BTreeMap<PathBuf, Input>> {
    let given = recipe.given.files().into_iter().map(|(_, path)| path);
    let story = recipe.story.iter().flat_map(Story::files);
    let input = |path: &Path| {
        let data = std::fs::metadata(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        let changed = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok((path.to_path_buf(), Input { bytes: data.len(), changed: changed.map(|time| time.as_secs()) }))
    };
    // A pattern of numbered pictures is no file.
    given.chain(story).chain(recipe.init_latents.as_deref()).filter(|path| path.exists()).map(input).collect()
}

/// The recipe of the run that `dir` holds, if it holds one: a resumed run keeps its random seed.
pub(crate) fn recorded(dir: &Path) -> Result<Option<Recipe>> {
    let file = dir.join(RECIPE);
    match std::fs::read_to_string(&file) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| bad_run(dir, format!("{RECIPE} does not parse: {error}"))),
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
        check_inputs(path, recipe)?;
        Ok(Self { path: path.to_path_buf() })
    }

    /// Where the denoised latents of the run in `dir` go.
    pub(crate) fn latents_in(dir: &Path) -> PathBuf {
        dir.join(LATENTS)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an earlier run of `plan` has already denoised its latents.
    pub(crate) fn has_latents(&self, plan: &Plan) -> Result<bool> {
        let path = Self::latents_in(&self.path);
        if !path.exists() {
            return Ok(false);
        }
        let infos = TensorFile::open(&path).map_err(|error| self.bad(error))?.infos();
        let [c, f, h, w] = plan.latent_shape;
        if infos.iter().any(|info| info.name == "latents" && info.shape == [1, c, f, h, w]) {
            Ok(true)
        } else {
            Err(self.bad(format!("{LATENTS} has no `latents` of this clip's shape")))
        }
    }

    /// The contexts (prompt and, for a guided `plan`, negative prompt) of an earlier run.
    pub(crate) fn load_contexts(&self, plan: &Plan, device: &Device) -> Result<Option<Vec<Tensor>>> {
        let path = self.path.join(CONTEXTS);
        if !path.exists() {
            return Ok(None);
        }
        let mut loaded = kinora_checkpoint::load_safetensors(&path).map_err(|error| self.bad(error))?.0;
        let take = |name: &&str| {
            let tensor = loaded.remove(*name).filter(|tensor| tensor.rank() == 3);
            tensor.ok_or_else(|| self.bad(format!("{CONTEXTS} has no tensor `{name}` [1, S, C]")))
        };
        let contexts = context_names(plan.guided()).iter().map(take).collect::<Result<Vec<_>>>()?;
        Ok(Some(contexts.iter().map(|tensor| tensor.to_device(device)).collect::<candle_core::Result<_>>()?))
    }

    /// Keeps the contexts.
    pub(crate) fn save_contexts(&self, contexts: &[Tensor]) -> Result<()> {
        let names = context_names(contexts.len() > 1);
        let tensors: Vec<_> = names.iter().map(ToString::to_string).zip(contexts.iter().cloned()).collect();
        Ok(kinora_checkpoint::save_safetensors(&self.path.join(CONTEXTS), &tensors, &BTreeMap::new())?)
    }

    /// What an earlier run made of its pictures and clips.
    pub(crate) fn load_conditions(&self, device: &Device) -> Result<Option<Conditions>> {
        let path = self.path.join(CONDITIONS);
        if !path.exists() {
            return Ok(None);
        }
        let tensors = kinora_checkpoint::load_safetensors(&path).map_err(|error| self.bad(error))?.0;
        Ok(Some(Conditions::restored(tensors, device)?))
    }

    /// Keeps what was made of pictures and clips.
    pub(crate) fn save_conditions(&self, conditions: &Conditions) -> Result<()> {
        let path = self.path.join(CONDITIONS);
        Ok(kinora_checkpoint::save_safetensors(&path, &conditions.tensors(), &BTreeMap::new())?)
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
        if !same || state.streams != [VIDEO] {
            return Err(self.bad(format!("{STATE} has another sampler, seed or schedule")));
        }
        let [c, f, h, w] = plan.sampled_shape();
        let (mut on_device, mut cached) = (Vec::new(), Vec::new());
        for (name, tensor) in tensors {
            let of_cache = name.strip_prefix(CACHE).map(str::to_string);
            let fits = of_cache.is_some() || tensor.dims() == [1, c, f, h, w];
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

fn bad_run(path: &Path, reason: impl Display) -> Error {
    Error::BadRun { path: path.to_path_buf(), reason: reason.to_string() }
}

/// Whole numbers always are.
fn is_finite(tensor: &Tensor) -> candle_core::Result<bool> {
    if tensor.dtype().is_float() { all_finite(tensor) } else { Ok(true) }
}

fn context_names(guided: bool) -> &'static [&'static str] {
    if guided { &["context", "negative"] } else { &["context"] }
}

pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let temporary = path.with_extension("tmp");
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary); // the reason that counts is the one above
    }
    written.map_err(io)
}

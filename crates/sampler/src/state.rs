//! Saving and restoring a sampler: its tensors by name, and [`SamplerState`] for the rest.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::sampler::Memory;
use crate::streams::check_names;
use crate::{Error, Held, Sampler, SamplerKind, Schedule, Streams};

const X: &str = "x";
const LAST_X: &str = "last_x";

/// The part of a [`Sampler`] that is not a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SamplerState {
    /// The sampler.
    pub kind: SamplerKind,
    /// The number of steps done.
    pub index: usize,
    /// The seed.
    pub seed: u64,
    /// All noise levels and timesteps.
    pub schedule: Schedule,
    /// The names of the latent streams, in order. States that were saved without names have the one stream `video`.
    #[serde(default = "video_alone")]
    pub streams: Vec<String>,
}

impl Sampler {
    /// Returns everything that [`restore`](Self::restore) needs to continue with the same bits: `x`, and for the
    /// multistep solvers `last_x`, `denoised.0`, `denoised.1`, all f32 and of the latents' shape. With several streams
    /// each tensor's name begins with its stream's: `audio.x`.
    pub fn save(&self) -> (Vec<(String, Tensor)>, SamplerState) {
        let sets = std::iter::once(&self.x).chain(&self.memory.last_x).chain(&self.memory.denoised);
        let tensors = sets.flat_map(|streams| streams.iter().map(|(_, tensor)| tensor.clone()));
        let streams = self.x.names();
        let tensors = saved_names(self.kind, self.index, &streams).into_iter().zip(tensors).collect();
        let (kind, index, seed, schedule) = (self.kind, self.index, self.seed, self.schedule.clone());
        (tensors, SamplerState { kind, index, seed, schedule, streams })
    }

    /// Returns the sampler that was saved, on the device of the tensors. They may come in any order, but must be exactly
    /// those that were saved.
    ///
    /// # Errors
    /// [`Error::StateIndex`], [`Error::StreamNames`], [`Error::StateTensors`] or [`Error::Shape`] for a state that no
    /// sampler saved.
    pub fn restore(state: SamplerState, tensors: Vec<(String, Tensor)>) -> Result<Self, Error> {
        let SamplerState { kind, index, seed, schedule, streams } = state;
        if index > schedule.steps() {
            return Err(Error::StateIndex { index, steps: schedule.steps() });
        }
        check_names(&streams)?;
        let expected = saved_names(kind, index, &streams);
        let found: Vec<String> = tensors.iter().map(|(name, _)| name.clone()).collect();
        let ordered = in_order(&expected, tensors).ok_or(Error::StateTensors { kind, index, expected, found })?;
        let sets = ordered.chunks(streams.len()).map(|set| {
            let set = Streams::new(streams.iter().cloned().zip(set.iter().cloned()))?;
            Ok(set.into_f32()?)
        });
        let mut sets: Vec<Streams> = sets.collect::<Result<_, Error>>()?;
        let x = sets.remove(0);
        sets.iter().try_for_each(|set| set.check_like(&x, "a tensor of the saved state"))?;
        let (_, has_last_x) = Self::memory_size(kind, index);
        let last_x = has_last_x.then(|| sets.remove(0));
        let memory = Memory { last_x, denoised: sets };
        Ok(Self { kind, schedule, seed, index, x, held: Held::NOTHING, memory })
    }
}

fn video_alone() -> Vec<String> {
    vec!["video".to_owned()]
}

/// Returns the names of the saved tensors: `x`, then `last_x`, then the estimates, each in all streams.
fn saved_names(kind: SamplerKind, index: usize, streams: &[String]) -> Vec<String> {
    let (estimates, has_last_x) = Sampler::memory_size(kind, index);
    let mut names = vec![X.to_owned()];
    names.extend(has_last_x.then(|| LAST_X.to_owned()));
    names.extend((0..estimates).map(|back| format!("denoised.{back}")));
    if streams.len() == 1 {
        return names;
    }
    names.iter().flat_map(|name| streams.iter().map(move |stream| format!("{stream}.{name}"))).collect()
}

/// The tensors in the order of `names`, if they have exactly these names.
fn in_order(names: &[String], mut tensors: Vec<(String, Tensor)>) -> Option<Vec<Tensor>> {
    if tensors.len() != names.len() {
        return None;
    }
    let mut take = |name: &String| {
        let position = tensors.iter().position(|(found, _)| found == name)?;
        Some(tensors.swap_remove(position).1)
    };
    names.iter().map(&mut take).collect()
}

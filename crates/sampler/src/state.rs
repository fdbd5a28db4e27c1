//! A sampler on disk: its tensors by name, and the little that is not a tensor.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::sampler::Memory;
use crate::{Error, Sampler, SamplerKind, Schedule};

const X: &str = "x";
const LAST_X: &str = "last_x";

/// What a [`Sampler`] is besides its tensors.
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
}

impl Sampler {
    /// Everything that [`restore`](Self::restore) needs to go on with the same bits: `x`, and for the multistep solvers
    /// `last_x`, `denoised.0`, `denoised.1`, all f32 of the latents' shape.
    pub fn save(&self) -> (Vec<(String, Tensor)>, SamplerState) {
        let mut tensors = vec![(X.to_owned(), self.x.clone())];
        tensors.extend(self.memory.last_x.iter().map(|x| (LAST_X.to_owned(), x.clone())));
        tensors.extend(self.memory.denoised.iter().enumerate().map(|(i, x)| (denoised_name(i), x.clone())));
        let (kind, index, seed, schedule) = (self.kind, self.index, self.seed, self.schedule.clone());
        (tensors, SamplerState { kind, index, seed, schedule })
    }

    /// The sampler that was saved, on the device of the tensors. They may come in any order, but must be just those
    /// that were saved.
    pub fn restore(state: SamplerState, tensors: Vec<(String, Tensor)>) -> Result<Self, Error> {
        let SamplerState { kind, index, seed, schedule } = state;
        if index > schedule.steps() {
            return Err(Error::StateIndex { index, steps: schedule.steps() });
        }
        let expected = saved_names(kind, index);
        let found: Vec<String> = tensors.iter().map(|(name, _)| name.clone()).collect();
        let mut ordered = in_order(&expected, tensors).ok_or(Error::StateTensors { kind, index, expected, found })?;
        let x = ordered.remove(0).to_dtype(DType::F32)?;
        for other in &mut ordered {
            if other.dims() != x.dims() {
                let (found, expected) = (other.dims().to_vec(), x.dims().to_vec());
                return Err(Error::Shape { what: "a tensor of the saved state", found, expected });
            }
            *other = other.to_dtype(DType::F32)?;
        }
        let (_, has_last_x) = Self::memory_size(kind, index);
        let last_x = has_last_x.then(|| ordered.remove(0));
        Ok(Self { kind, schedule, seed, index, x, memory: Memory { last_x, denoised: ordered } })
    }
}

fn denoised_name(back: usize) -> String {
    format!("denoised.{back}")
}

/// `x`, then `last_x`, then the estimates.
fn saved_names(kind: SamplerKind, index: usize) -> Vec<String> {
    let (estimates, has_last_x) = Sampler::memory_size(kind, index);
    let mut names = vec![X.to_owned()];
    names.extend(has_last_x.then(|| LAST_X.to_owned()));
    names.extend((0..estimates).map(denoised_name));
    names
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

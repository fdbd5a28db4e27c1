//! [`Prepared`]: what every step uses, computed once per clip.

use super::inputs::{Geometry, StreamInput};
use crate::Result;
use crate::attention::KeysValues;
use crate::stack::{KvCache, StepKvCache};
use candle_core::{DType, Tensor};
use kinora_kernels::Replay;
use std::sync::Arc;

/// Contexts and a clip's size as one model prepared them for all steps. Clones share the tensors and the recording.
#[derive(Clone)]
pub struct Prepared {
    parts: Arc<Parts>,
    /// The recorded pass; it reads `parts`.
    replay: Replay,
}

/// The contents of [`Prepared`].
pub(super) struct Parts {
    pub(super) geometry: Geometry,
    /// The number of clips.
    pub(super) clips: usize,
    /// Embedded contexts `[B, S, dim]` of video and of sound.
    pub(super) contexts: [Tensor; 2],
    /// The KV cache of models whose text does not depend on the timestep.
    pub(super) kv_cache: KvCache<[KeysValues; 2]>,
    /// The KV cache of the others.
    pub(super) step_kv_cache: StepKvCache<[KeysValues; 2]>,
    /// Whether keys and values of the text depend on the timestep.
    each_step: bool,
}

impl Prepared {
    /// Keeps what `keys_values` makes of the contexts, if its `bytes` are within the `budget`, or, where the text depends on the
    /// timestep, what the first pass of each step makes.
    pub(super) fn new(
        geometry: &Geometry,
        clips: usize,
        contexts: [Tensor; 2],
        [budget, bytes]: [usize; 2],
        each_step: bool,
        keys_values: impl FnOnce(&[Tensor; 2]) -> Result<Vec<[KeysValues; 2]>>,
    ) -> Result<Self> {
        let [for_all, for_one] = if each_step { [0, budget] } else { [budget, 0] };
        let kv_cache = KvCache::within(for_all, bytes, || keys_values(&contexts))?;
        let (step_kv_cache, geometry) = (StepKvCache::within(for_one, bytes), geometry.clone());
        let parts = Parts { geometry, clips, contexts, kv_cache, step_kv_cache, each_step };
        Ok(Self { parts: Arc::new(parts), replay: Replay::default() })
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    pub(super) fn replay(&self) -> &Replay {
        &self.replay
    }

    /// Returns how many blocks have the text's keys and values in the KV cache for all steps: all, or none.
    pub fn cached_blocks(&self) -> usize {
        self.parts.kv_cache.len()
    }

    /// Whether passes over a small clip on a GPU are replayed as they were recorded (see [`Replay`]).
    pub fn is_recorded(&self) -> bool {
        self.replay.is_recorded()
    }
}

impl Parts {
    /// Returns what tells a step from others where keys and values of the text depend on it: the timesteps' bits.
    pub(super) fn step(&self, inputs: &[StreamInput; 2]) -> Result<Option<Vec<u32>>> {
        if !self.each_step {
            return Ok(None);
        }
        let mut bits = Vec::with_capacity(2 * self.clips);
        for input in inputs {
            let timesteps = input.timestep.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            bits.extend(timesteps.into_iter().map(f32::to_bits));
        }
        Ok(Some(bits))
    }
}

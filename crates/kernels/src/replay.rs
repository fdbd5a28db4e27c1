//! [`Replay`]: computations of many small kernels, queued at once.

use crate::cuda::Recorded;
use crate::profile;
use candle_core::Tensor;
use std::any::Any;
use std::fmt::{Debug, Formatter};
use std::sync::{Arc, Mutex, PoisonError};

/// Repeats one computation over other numbers. On a CUDA device the first run is recorded, and every later one queues all
/// its kernels by one call; elsewhere it is computed every time. Clones share the recording, which has memory of its own
/// on the device: as much as the computation needs.
#[derive(Clone, Default)]
pub struct Replay {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
enum State {
    #[default]
    New,
    Recorded(Recorded),
    /// The computation is more than a sequence of kernels.
    Refused,
}

impl Replay {
    /// Returns `compute(inputs)`, to the same bits. It must be the same computation in each call, and read nothing on the
    /// device but `inputs` and tensors that live as long as this, as `kept` does. During the first call no other thread
    /// may queue work on the same stream.
    ///
    /// # Errors
    /// Those of `compute`, or whatever the device fails on.
    pub fn run<E: From<candle_core::Error>>(
        &self,
        inputs: &[Tensor],
        kept: impl FnOnce() -> Box<dyn Any + Send>,
        compute: impl Fn(&[Tensor]) -> Result<Tensor, E>,
    ) -> Result<Tensor, E> {
        // A profile needs each kernel on its own.
        if !inputs.iter().all(|x| x.device().is_cuda() && x.is_contiguous()) || profile::counts() {
            return compute(inputs);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Recorded(recorded) if recorded.fits(inputs) => return Ok(recorded.replay(inputs)?),
            State::Recorded(_) | State::Refused => {}
            State::New => {
                let result = compute(inputs)?;
                let recorded = Recorded::new(inputs, &result, kept(), compute)?;
                *state = recorded.map_or(State::Refused, State::Recorded);
                return Ok(result);
            }
        }
        drop(state);
        compute(inputs)
    }

    /// Whether there is a recording.
    pub fn is_recorded(&self) -> bool {
        matches!(*self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Recorded(_))
    }
}

impl Debug for Replay {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        f.debug_struct("Replay").field("recorded", &self.is_recorded()).finish()
    }
}

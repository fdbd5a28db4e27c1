//! [`Replay`]: computations of many small kernels, queued at once.

use candle_core::Tensor;
use std::any::Any;
use std::fmt::{Debug, Formatter};
#[cfg(feature = "cuda")]
use {
    crate::cuda::Recorded,
    std::sync::{Arc, Mutex, PoisonError},
};

/// Repeats one computation over other numbers. On a CUDA device it is recorded when it is done first, and from then on its
/// kernels are queued by one call; elsewhere it is just done. Clones share the recording, which has memory of its own on
/// the device: as much as the computation needs.
#[derive(Clone, Default)]
pub struct Replay {
    #[cfg(feature = "cuda")]
    state: Arc<Mutex<State>>,
}

#[cfg(feature = "cuda")]
#[derive(Default)]
enum State {
    #[default]
    New,
    Recorded(Recorded),
    /// It is no sequence of kernels alone.
    Refused,
}

impl Replay {
    /// `compute(inputs)`, which must be the same computation in each call, and read nothing on the device but `inputs` and
    /// what lives as long as this, as `kept` does. The bits are those of calling it. While it is done first, no other thread
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
        #[cfg(feature = "cuda")]
        if inputs.iter().all(|x| x.device().is_cuda() && x.is_contiguous()) && !crate::profile::counts() {
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
        }
        #[cfg(not(feature = "cuda"))]
        let _ = kept;
        compute(inputs)
    }

    /// Whether there is a recording.
    pub fn is_recorded(&self) -> bool {
        #[cfg(feature = "cuda")]
        return matches!(*self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Recorded(_));
        #[cfg(not(feature = "cuda"))]
        false
    }
}

impl Debug for Replay {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        f.debug_struct("Replay").field("recorded", &self.is_recorded()).finish()
    }
}

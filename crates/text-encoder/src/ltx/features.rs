//! [`TextFeatures`]: the hidden states of a text, normed as the connectors' projections take them.

use super::config::Features;
use candle_core::{DType, Result, Tensor};
use kinora_kernels::rms_norm;

/// Added to denominators.
const EPSILON: f64 = 1e-6;
/// The width of the interval that the states of LTX-2.0 are scaled to.
const RANGE: f64 = 8.0;

/// The normed hidden states of one text. Each is held once; rows of all of them are put together for a few tokens at a time.
pub struct TextFeatures {
    kind: Features,
    dtype: DType,
    /// Every state `[S, C]`.
    states: Vec<Tensor>,
}

impl TextFeatures {
    pub(super) fn new(kind: Features, dtype: DType) -> Self {
        Self { kind, dtype, states: Vec::new() }
    }

    /// Adds the next hidden state `[S, C]`: that of the text's tokens, without padding.
    ///
    /// # Errors
    /// Whatever the device fails on.
    pub fn push(&mut self, state: &Tensor) -> Result<()> {
        let normed = match self.kind {
            Features::Shared => ranged(&state.to_dtype(DType::F32)?)?,
            Features::PerModality => {
                let ones = Tensor::ones(state.dim(1)?, DType::F32, state.device())?;
                rms_norm(state, &ones, EPSILON)?
            }
        };
        self.states.push(normed.to_dtype(self.dtype)?);
        Ok(())
    }

    /// Returns the number of states.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Returns whether there are no states yet.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Returns the number of the text's tokens.
    pub(super) fn tokens(&self) -> Result<usize> {
        self.states.first().map_or(Ok(0), |state| state.dim(0))
    }

    /// Returns the features `[len, C · states]` of the tokens from `start` on; those of one channel are neighbours.
    pub(super) fn rows(&self, start: usize, len: usize) -> Result<Tensor> {
        let states = self.states.iter().map(|state| state.narrow(0, start, len)?.contiguous());
        Tensor::stack(&states.collect::<Result<Vec<_>>>()?, 2)?.flatten_from(1)
    }
}

/// Returns `x [S, C]`, f32, minus its mean, in an interval of the width [`RANGE`].
fn ranged(x: &Tensor) -> Result<Tensor> {
    let scalar = |x: Tensor| -> Result<f64> { Ok(f64::from(x.to_scalar::<f32>()?)) };
    let mean = scalar(x.sum(1)?.sum(0)?)? / (x.elem_count() as f64 + EPSILON);
    let width = scalar(x.max(1)?.max(0)?)? - scalar(x.min(1)?.min(0)?)?;
    let scale = RANGE / (width + EPSILON);
    (x - mean)? * scale
}

//! [`Memory`]: the numbers and tensors that a step cache keeps of one prediction, and how change is measured.

use super::rule::Numbers;
use candle_core::{D, DType, Device, Result, Tensor};
use std::collections::BTreeMap;

/// The tensor whose change is measured.
pub(super) const SIGNAL: &str = "signal";
/// The tensor that is added where a prediction is reused.
pub(super) const RESIDUAL: &str = "residual";
/// `easycache`: latents of the step before, of the last computed step, and the velocity of that one.
pub(super) const LATENTS: &str = "latents";
pub(super) const COMPUTED_LATENTS: &str = "computed_latents";
pub(super) const VELOCITY: &str = "velocity";

const NAMES: [&str; 5] = [SIGNAL, RESIDUAL, LATENTS, COMPUTED_LATENTS, VELOCITY];
const NUMBERS: &str = "numbers";

/// Numbers and tensors of one prediction; tensors share their data when it is cloned.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub numbers: Numbers,
    tensors: BTreeMap<String, Tensor>,
}

impl Memory {
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    pub fn keep(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// Mean absolute change of `now` against what is kept, by the mean absolute value of that.
    pub fn relative_change(&self, name: &str, now: &Tensor) -> Result<Option<f64>> {
        let Some(before) = self.get(name) else { return Ok(None) };
        let change = mean_change(now, before)? / mean_abs(before)?;
        Ok(Some(change).filter(|change| change.is_finite()))
    }

    /// Everything, by name; `Memory::restore` takes it back bit for bit.
    pub fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let Numbers { error, ratio, count, rate } = self.numbers;
        let numbers = Tensor::new(&[error, ratio, count, rate], &Device::Cpu)?;
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone()));
        Ok(tensors.chain([(NUMBERS.to_string(), numbers)]).collect())
    }

    /// `None` if a name or the numbers are not those of a memory.
    pub fn restore(tensors: Vec<(String, Tensor)>) -> Option<Self> {
        let mut memory = Self::default();
        for (name, tensor) in tensors {
            if name == NUMBERS {
                let [error, ratio, count, rate] = tensor.to_vec1::<f64>().ok()?.try_into().ok()?;
                memory.numbers = Numbers { error, ratio, count, rate };
            } else {
                let known =
                    |known: &str| name == known || name.strip_prefix(known).is_some_and(|rest| rest.starts_with('.'));
                NAMES.into_iter().find(|name| known(name))?;
                memory.keep(name, tensor);
            }
        }
        Some(memory)
    }
}

/// Mean of `|now - before|`.
pub(super) fn mean_change(now: &Tensor, before: &Tensor) -> Result<f64> {
    mean_abs(&(now.to_dtype(DType::F32)? - before.to_dtype(DType::F32)?)?)
}

/// Mean absolute value. Axis by axis: one long f32 sum over a clip would lose digits.
pub(super) fn mean_abs(x: &Tensor) -> Result<f64> {
    let mut mean = x.to_dtype(DType::F32)?.abs()?;
    while mean.rank() > 0 {
        mean = mean.mean(D::Minus1)?;
    }
    Ok(f64::from(mean.to_scalar::<f32>()?))
}

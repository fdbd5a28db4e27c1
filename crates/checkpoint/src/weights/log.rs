//! The log of [`Weights`]: which tensors a module keeps, so that they can be overwritten.

use super::Weights;
use candle_core::Tensor;
use std::sync::{Arc, Mutex, PoisonError};

/// Tensors in the order in which they were returned, see [`Weights::logged`].
pub type TensorLog = Arc<Mutex<Vec<LoggedTensor>>>;

/// A tensor that a module keeps.
pub struct LoggedTensor {
    /// The canonical name of the requested tensor.
    pub name: String,
    /// How the tensor's bytes are read, where its dtype does not say that, see [`Weights::kept_in`].
    pub form: String,
    /// The tensor.
    pub tensor: Tensor,
}

impl Weights {
    /// Returns the same view, which also adds every tensor that it returns (or its replacement, see [`Weights::kept_in`]) to
    /// `log`. A caller that knows a module's tensors can overwrite them.
    #[must_use]
    pub fn logged(&self, log: &TensorLog) -> Self {
        Self { log: Some(log.clone()), ..self.clone() }
    }

    /// Records that the caller keeps the requested tensor `name` below this view in another form, which has `bytes` bytes. If
    /// that form consists of tensors, they are `tensors`, and `form` tells apart forms whose tensors look the same.
    pub fn kept_in(&self, name: &str, bytes: usize, form: &str, tensors: Vec<Tensor>) {
        let name = self.full(name);
        if let Some(asked) = self.lock().get_mut(&name) {
            asked.bytes = bytes;
        }
        if let Some(log) = &self.log {
            log.lock().unwrap_or_else(PoisonError::into_inner).retain(|logged| logged.name != name);
        }
        self.add_to_log(&name, form, tensors);
    }

    /// Records that the caller keeps `bytes` bytes beside the requested tensor `name` below this view, in `tensors` if there are any.
    pub fn also_keeps(&self, name: &str, bytes: usize, tensors: Vec<Tensor>) {
        let name = self.full(name);
        if let Some(asked) = self.lock().get_mut(&name) {
            asked.bytes += bytes;
        }
        self.add_to_log(&name, "", tensors);
    }

    pub(super) fn add_to_log(&self, name: &str, form: &str, tensors: impl IntoIterator<Item = Tensor>) {
        let Some(log) = &self.log else { return };
        let logged = |tensor| LoggedTensor { name: name.to_string(), form: form.to_string(), tensor };
        log.lock().unwrap_or_else(PoisonError::into_inner).extend(tensors.into_iter().map(logged));
    }
}

//! Checkpoint files to named tensors: strict, memory-mapped, any layout; knows no model.

mod error;
mod weights;

pub use error::{Error, Result};
pub use weights::Weights;

//! LoRA files and their kin: what every key of one means, which tensors of a model it changes, and the arithmetic.
//!
//! [`LoraFile`] reads the keys, without a model; [`LoraTarget`] knows a model's tensors by all names that files give them;
//! [`LoraFile::changes`] brings both together as [`Changes`], which [`crate::Weights::with_changes`] applies when a tensor is
//! read.

mod apply;
mod changes;
mod describe;
mod error;
mod file;
mod key;
mod module;
mod scale;
mod stored;
mod target;

pub use changes::{Change, Changes};
pub use describe::LoraDescription;
pub use error::LoraError;
pub use file::LoraFile;
pub use key::is_lora;
pub use target::{Expert, LoraTarget};

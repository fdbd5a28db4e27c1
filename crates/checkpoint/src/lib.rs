//! Checkpoint files to named tensors: strict, memory-mapped, any layout; knows no model.
//!
//! [`WeightSet`] tells which files belong together, [`KeyMap`] what the names in them mean, and [`Weights`] hands out what
//! a module asks for, by canonical name and shape. Nothing is skipped in silence: a tensor that is missing, unused, misshapen,
//! unknown or not finite is an [`Error`] that names it.

mod artefact;
mod checkpoint;
mod convert;
mod entry;
mod error;
mod file;
mod header;
mod index;
mod key_map;
mod map;
mod pickle;
mod pth;
mod random;
mod similar;
mod weight_set;
mod weights;
mod zip;

pub use artefact::{check_writable, load_safetensors, save_and_open, save_safetensors};
pub use error::{Error, Result};
pub use file::{TensorFile, TensorInfo};
pub use index::{is_plain_name, shard_paths};
pub use key_map::KeyMap;
pub use safetensors::Dtype;
pub use weight_set::WeightSet;
pub use weights::{LoadReport, Quant, TensorLog, Weights};

//! Checkpoint files to named tensors: strict, memory-mapped, any layout; knows no model.
//!
//! [`Layout`] tells what lies at a path, [`KeyMap`] what the names in it mean, and [`Weights`] hands out what a module
//! asks for, by canonical name and shape. Nothing is skipped in silence: a tensor that is missing, unused, misshapen,
//! unknown or not finite is an [`Error`] that names it.

mod artefact;
mod checkpoint;
mod convert;
mod error;
mod file;
mod header;
mod index;
mod key_map;
mod layout;
mod map;
mod pickle;
mod pth;
mod random;
mod similar;
mod weights;
mod zip;

pub use artefact::{check_writable, load_safetensors, save_safetensors};
pub use error::{Error, Result};
pub use file::{TensorFile, TensorInfo};
pub use index::shard_paths;
pub use key_map::KeyMap;
pub use layout::{Component, DiffusersFolder, Folder, Layout};
pub use safetensors::Dtype;
pub use weights::{LoadReport, Quant, TensorLog, Weights};

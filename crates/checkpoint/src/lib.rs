//! Checkpoint files to named tensors: strict, memory-mapped, any layout; knows no model.

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

pub use artefact::{load_safetensors, save_safetensors};
pub use error::{Error, Result};
pub use file::{TensorFile, TensorInfo};
pub use index::shard_paths;
pub use key_map::KeyMap;
pub use layout::{Component, DiffusersFolder, Folder, Layout};
pub use safetensors::Dtype;
pub use weights::{LoadReport, Weights};

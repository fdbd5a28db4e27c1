//! Checkpoint files to named tensors: strict, memory-mapped, any layout; knows no model.

mod checkpoint;
mod convert;
mod error;
mod file;
mod header;
mod index;
mod key_map;
mod map;
mod similar;
mod weights;

pub use error::{Error, Result};
pub use file::{TensorFile, TensorInfo};
pub use index::shard_paths;
pub use key_map::KeyMap;
pub use safetensors::Dtype;
pub use weights::{LoadReport, Weights};

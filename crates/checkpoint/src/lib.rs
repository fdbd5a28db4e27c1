//! Checkpoint files to named tensors: strict, read tensor by tensor, any layout; knows no model.
//!
//! [`WeightSet`] tells which files belong together, [`KeyMap`] what the names in them mean, and [`Weights`] hands out what
//! a module asks for, by canonical name and shape. Nothing is skipped in silence: a tensor that is missing, unused, misshapen,
//! unknown or not finite is an [`Error`] that names it.

mod artefact;
mod checkpoint;
mod companions;
mod content;
mod convert;
mod data;
mod entry;
mod error;
mod file;
mod gguf;
mod header;
mod index;
mod json;
mod key_map;
mod kinds;
mod lora;
mod pattern;
mod pickle;
mod pth;
mod random;
mod similar;
mod stored;
mod weight_set;
mod weights;
mod zip;

pub use artefact::{check_writable, load_safetensors, save_and_open, save_safetensors};
pub use content::Content;
pub use data::read_file;
pub use error::{Error, Result};
pub use file::{TensorFile, TensorInfo};
pub use index::{is_plain_name, shard_paths};
pub use json::{plain_json, read_json};
pub use key_map::{KeyMap, unwrapped};
pub use kinds::refuse_unread;
pub use kinora_formats::{Blocks, Format};
pub use lora::{Change, Changes, Expert, LoraDescription, LoraError, LoraFile, LoraTarget, is_lora};
pub use weight_set::WeightSet;
pub use weights::{LoadReport, LoggedTensor, LowRank, Quant, StoredMatrix, TensorLog, Weights};

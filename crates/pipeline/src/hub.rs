//! Models from the Hugging Face hub, in the cache that Python's `huggingface_hub` uses too.

use crate::{Error, Result};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// The directory of `repository` in the cache, if a download of it is complete.
pub fn cached(_repository: &str) -> Option<PathBuf> {
    None
}

/// Downloads.
pub fn pull(name: &str, _on_event: impl FnMut(u64) -> ControlFlow<()>) -> Result<PathBuf> {
    Err(Error::request(format!("cannot pull {name}"), "this build has no hub support"))
}

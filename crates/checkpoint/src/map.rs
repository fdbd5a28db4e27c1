//! The memory map: the only place of the crate with `unsafe`.
#![allow(unsafe_code)]

use crate::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// Maps `path` for reading. An empty file is an empty map.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let error = |source| Error::Io { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(error)?;
    if file.metadata().map_err(error)?.is_dir() {
        return Err(error(std::io::ErrorKind::IsADirectory.into()));
    }
    // SAFETY: the map is read-only and private. Its bytes are plain data, checked wherever they are interpreted; as with
    // every reader of mapped files, the file must not be cut short by another process while it is in use. Our own
    // writers never do that: they write to a temporary file and rename it.
    unsafe { Mmap::map(&file) }.map_err(error)
}

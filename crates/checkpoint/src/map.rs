//! Memory maps: the only module of the crate with `unsafe` code.
#![allow(unsafe_code)]

use crate::{Error, Result};
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// Opens `path` and maps it for reading. An empty file gives an empty map.
pub(crate) fn map(path: &Path) -> Result<(File, Mmap)> {
    let error = |source| Error::Io { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(error)?;
    if file.metadata().map_err(error)?.is_dir() {
        return Err(error(std::io::ErrorKind::IsADirectory.into()));
    }
    let map = map_open(&file).map_err(error)?;
    Ok((file, map))
}

/// Maps a file that is open for reading.
pub(crate) fn map_open(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only and private. Its bytes are plain data, checked wherever they are interpreted; as with
    // every reader of mapped files, the file must not be cut short by another process while it is in use. Our own
    // writers never do that: they write to a temporary file and rename it.
    unsafe { Mmap::map(file) }
}

/// Gives the pages that lie wholly in `range` back to the system, because touched pages of a map count as this process's
/// memory. They are read from the file again when they are touched again.
pub(crate) fn give_back(map: &Mmap, range: Range<usize>) {
    #[cfg(unix)]
    {
        let (start, end) = (range.start.next_multiple_of(PAGES), range.end / PAGES * PAGES);
        if start < end {
            // SAFETY: the map is read-only, so no page holds anything that the file does not.
            // Where the system refuses, the pages stay, as without the call.
            let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
        }
    }
    #[cfg(not(unix))]
    let _ = (map, range);
}

/// A multiple of every usual page size, in bytes.
#[cfg(unix)]
const PAGES: usize = 1 << 16;

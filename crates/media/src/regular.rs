//! Files that can be read more than once.

use crate::error::{MediaError, Result};
use std::fs::File;
use std::path::Path;

/// Opens a file that is there to stay: it is read more than once.
pub(crate) fn regular(path: &Path) -> Result<File> {
    let failed = |source| MediaError::io("read", path, source);
    // Asked for before it is opened: opening a pipe waits for someone who writes to it.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(MediaError::NotRegular { path: path.to_path_buf() });
    }
    File::open(path).map_err(failed)
}

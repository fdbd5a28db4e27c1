//! [`HiddenFolder`]: several files that get their names together.

use crate::{PROBE, temporary};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A hidden folder of finished files that do not have their names yet; removed, with the files left in it, when it is
/// dropped.
#[derive(Debug)]
pub struct HiddenFolder {
    folder: TempDir,
    /// Held until the folder is gone.
    _lock: Option<File>,
}

impl HiddenFolder {
    /// Creates a folder in `folder`, with a random hidden name. Only the user can read it; the files in it get the
    /// permissions of any new file.
    ///
    /// # Errors
    /// `folder` is missing or cannot be written to.
    pub fn create_in(folder: &Path) -> io::Result<Self> {
        temporary::folder_in(folder).map(|(folder, lock)| Self { folder, _lock: lock })
    }

    /// Writes 64 KiB and removes them again, so that a full disk is noticed before anything is computed.
    pub fn probe_space(&self) -> io::Result<()> {
        tempfile::tempfile_in(self.folder.path())?.write_all(&PROBE)
    }

    /// Returns the path of the file `name` in this folder. The caller creates the file and syncs it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Moves the file `name` out of this folder to `target`, replacing the file that was there. After the last file,
    /// [`sync_folder`](crate::sync_folder) makes the moves durable.
    ///
    /// # Errors
    /// The rename fails, for example because `target` is a folder.
    pub fn persist(&self, name: &str, target: &Path) -> io::Result<()> {
        std::fs::rename(self.path(name), target)
    }
}

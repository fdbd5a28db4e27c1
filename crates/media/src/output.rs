//! The file that a clip or a picture is written to: [`AtomicFile`] with this crate's errors.

use crate::error::{MediaError, Result};
use kinora_files::{AtomicFile, folder_of};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// A file that gets its name with [`commit`](Self::commit).
pub(crate) struct Output(AtomicFile);

impl Output {
    /// Creates the temporary file beside `path`, or returns the reason why `path` could never be written.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut file = AtomicFile::create(path).map_err(|source| not_writable(path, source))?;
        file.probe_space().map_err(|source| MediaError::io("write", path, source))?;
        Ok(Self(file))
    }

    /// Returns the path that the file will have.
    pub(crate) fn target(&self) -> &Path {
        self.0.target()
    }

    /// Returns the path that the file has now.
    #[cfg_attr(not(feature = "ffmpeg"), expect(dead_code, reason = "only FFmpeg opens its output by name"))]
    pub(crate) fn temporary_path(&self) -> &Path {
        self.0.temporary_path()
    }

    /// Appends `bytes`.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).map_err(|source| MediaError::io("write", self.target(), source))
    }

    /// Overwrites the bytes at `offset` and returns to the end.
    pub(crate) fn put_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.0.write_all_at(offset, bytes).map_err(|source| MediaError::io("write", self.target(), source))
    }

    /// Moves everything from `offset` on back, and writes `bytes` in front of it.
    pub(crate) fn insert_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.0.insert_at(offset, bytes).map_err(|source| MediaError::io("write", self.target(), source))
    }

    /// Syncs the file, gives it its name, and returns its length in bytes.
    pub(crate) fn commit(self) -> Result<u64> {
        let target = self.target().to_path_buf();
        self.0.commit().map_err(|source| MediaError::io("write", &target, source))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Output {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.0.seek(position)
    }
}

/// Returns the error for a file that cannot be created or replaced.
pub(crate) fn not_writable(path: &Path, source: io::Error) -> MediaError {
    match source.kind() {
        io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput => MediaError::NotAFile { path: path.to_path_buf() },
        io::ErrorKind::NotFound if !folder_of(path).is_dir() => {
            MediaError::MissingDirectory { directory: folder_of(path).to_path_buf() }
        }
        _ => match MediaError::io("write", path, source) {
            MediaError::Io { path, source, .. } => MediaError::NotWritable { path, source },
            other => other,
        },
    }
}

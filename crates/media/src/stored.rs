//! [`Stored`]: the bytes that a reader reads, in a file or in memory.

use crate::error::{MediaError, Result};
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempPath;

/// A file, or its bytes in memory.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// The file; of bytes in memory the name that errors have for them.
    pub(crate) path: PathBuf,
    bytes: Option<Arc<[u8]>>,
}

impl Stored {
    pub(crate) fn file(path: &Path) -> Self {
        Self { path: path.to_path_buf(), bytes: None }
    }

    pub(crate) fn in_memory(name: &Path, bytes: Arc<[u8]>) -> Self {
        Self { path: name.to_path_buf(), bytes: Some(bytes) }
    }

    /// Returns the bytes, if they are in memory.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        self.bytes.as_deref()
    }

    /// Opens it at its start. A file must be there to stay: it is read more than once.
    pub(crate) fn open(&self) -> Result<Stream> {
        match &self.bytes {
            Some(bytes) => Ok(Stream::Memory(Cursor::new(Arc::clone(bytes)))),
            None => self.regular().map(|file| Stream::File(BufReader::new(file))),
        }
    }

    fn regular(&self) -> Result<File> {
        // Asked for before it is opened: opening a pipe waits for someone who writes to it.
        if !std::fs::metadata(&self.path).map_err(|error| self.failed(error))?.is_file() {
            return Err(MediaError::NotRegular { path: self.path.clone() });
        }
        File::open(&self.path).map_err(|error| self.failed(error))
    }

    /// Returns the first 64 bytes, by which formats are recognised; fewer where there are fewer.
    pub(crate) fn start(&self) -> Result<Vec<u8>> {
        let mut start = Vec::new();
        self.open()?.take(64).read_to_end(&mut start).map_err(|error| self.failed(error))?;
        Ok(start)
    }

    /// Returns a file with these bytes, for readers that take nothing else; one of its own goes with the second value.
    pub(crate) fn on_disk(&self) -> Result<(PathBuf, Option<TempPath>)> {
        let Some(bytes) = &self.bytes else { return Ok((self.path.clone(), None)) };
        let failed = |error| MediaError::io("write", &std::env::temp_dir(), error);
        let mut file = tempfile::Builder::new().prefix("kinora-").tempfile().map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        let path = file.into_temp_path();
        Ok((path.to_path_buf(), Some(path)))
    }

    /// Returns the error of reading it.
    pub(crate) fn failed(&self, error: io::Error) -> MediaError {
        MediaError::io("read", &self.path, error)
    }
}

/// The bytes of a [`Stored`], from any position.
pub(crate) enum Stream {
    File(BufReader<File>),
    Memory(Cursor<Arc<[u8]>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Memory(bytes) => bytes.read(buffer),
        }
    }
}

impl Seek for Stream {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(position),
            Self::Memory(bytes) => bytes.seek(position),
        }
    }
}

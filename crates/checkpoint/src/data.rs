//! [`Data`]: the bytes of a tensor file, read where and when they are needed.
//!
//! Files are read, not mapped: a file that is cut short while it is used is an error here, where touching a page of its map
//! would end the process. Pieces of a megabyte or so go through a buffer of each thread, which costs no more than the
//! faults of a map, and leave nothing behind that counts as this process's memory.

use crate::content::{Content, LOOKED_AT};
use crate::{Error, Result};
use std::borrow::Cow;
use std::fs::File;
use std::io::{Error as IoError, ErrorKind};
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

/// The longest text that is read, in bytes: a large tokenizer has 20 million.
const LONGEST_TEXT: usize = 1 << 28;

/// The content of a file.
pub(crate) enum Data {
    File { file: File, stamp: Stamp },
    Static(&'static [u8]),
}

/// The size of a file, and when it was written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    bytes: u64,
    written: Option<SystemTime>,
}

impl Stamp {
    fn of(file: &File) -> std::io::Result<Self> {
        let facts = file.metadata()?;
        Ok(Self { bytes: facts.len(), written: facts.modified().ok() })
    }
}

impl Data {
    /// Opens a regular file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let error = |source| io_error(path, source);
        let kind = std::fs::metadata(path).map_err(error)?.file_type();
        if kind.is_dir() {
            return Err(error(ErrorKind::IsADirectory.into()));
        }
        if !kind.is_file() {
            // A pipe would wait for someone to write into it.
            return Err(error(IoError::new(ErrorKind::InvalidInput, "it is not a regular file")));
        }
        Self::of_open(File::open(path).map_err(error)?).map_err(error)
    }

    /// The content of a file that is open for reading.
    pub(crate) fn of_open(file: File) -> std::io::Result<Self> {
        let stamp = Stamp::of(&file)?;
        Ok(Self::File { file, stamp })
    }

    /// The number of bytes when it was opened.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::File { stamp, .. } => usize::try_from(stamp.bytes).unwrap_or(usize::MAX),
            Self::Static(bytes) => bytes.len(),
        }
    }

    /// Reads `out` from the position `start`, which several threads may do at once.
    pub(crate) fn read(&self, start: usize, out: &mut [u8]) -> std::io::Result<()> {
        match self {
            Self::File { file, .. } => read_at(file, start as u64, out),
            Self::Static(bytes) => {
                let end = start.checked_add(out.len());
                let part = end.and_then(|end| bytes.get(start..end)).ok_or(ErrorKind::UnexpectedEof)?;
                out.copy_from_slice(part);
                Ok(())
            }
        }
    }

    /// The bytes in `range`, as far as there are any: `None` beyond the end.
    pub(crate) fn get(&self, range: Range<usize>) -> Option<Cow<'_, [u8]>> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        match self {
            Self::Static(bytes) => Some(Cow::Borrowed(&bytes[range])),
            Self::File { .. } => {
                let mut bytes = vec![0; range.len()];
                self.read(range.start, &mut bytes).ok()?;
                Some(Cow::Owned(bytes))
            }
        }
    }

    /// The first bytes, at most `count` of them.
    pub(crate) fn start(&self, count: usize) -> Cow<'_, [u8]> {
        self.get(0..self.len().min(count)).unwrap_or_default()
    }

    /// Whether the file is as it was when it was opened: another program may have written into it.
    pub(crate) fn is_unchanged(&self) -> bool {
        match self {
            Self::File { file, stamp } => Stamp::of(file).is_ok_and(|now| now == *stamp),
            Self::Static(_) => true,
        }
    }
}

/// Returns all bytes of a regular file that is no weights: a configuration, an index or a tokenizer.
///
/// # Errors
/// A file that cannot be read, or one that is far too long.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    let data = Data::open(path)?;
    if data.len() > LONGEST_TEXT {
        let path = path.to_path_buf();
        return Err(match Content::of(&data.start(LOOKED_AT)) {
            Some(content) => Error::Content { path, content, wanted: "a text of this model" },
            None => {
                Error::Invalid { path, problem: format!("it has {} bytes, which no text of a model has", data.len()) }
            }
        });
    }
    let mut bytes = vec![0; data.len()];
    data.read(0, &mut bytes).map_err(|source| io_error(path, source))?;
    Ok(bytes)
}

/// The error of reading `path`. Two of them have a reason that the system does not say: a link that leads nowhere, and a
/// file that was cut short after it had been opened.
pub(crate) fn io_error(path: &Path, source: IoError) -> Error {
    let path = path.to_path_buf();
    match source.kind() {
        ErrorKind::NotFound => match std::fs::read_link(&path) {
            Ok(target) => Error::DanglingLink { path, target },
            Err(_) => Error::Io { path, source },
        },
        ErrorKind::UnexpectedEof => Error::Changed { path },
        _ => Error::Io { path, source },
    }
}

#[cfg(unix)]
fn read_at(file: &File, start: u64, out: &mut [u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, start)
}

#[cfg(windows)]
fn read_at(file: &File, mut start: u64, mut out: &mut [u8]) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !out.is_empty() {
        match file.seek_read(out, start)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => {
                out = &mut out[count..];
                start += count as u64;
            }
        }
    }
    Ok(())
}

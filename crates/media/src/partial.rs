//! A file that appears under its name only when it is whole: written under a temporary name in the same directory,
//! synced and renamed at the end, removed when dropped before that.

use crate::error::{MediaError, Result};
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

const BUFFER_BYTES: usize = 64 * 1024;

pub(crate) struct Partial {
    out: BufWriter<NamedTempFile>,
    target: PathBuf,
    failed: bool,
}

impl Partial {
    /// Opens the temporary file beside `path`, or says why `path` could never be written.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let target = resolve_target(path)?;
        let (prefix, suffix) = temporary_name(&target);
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(&suffix);
        // The default of a temporary file is private to the user; a clip gets what any new file would get.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(parent(&target));
        // Without tempfile's addition of a name that means nothing to the user.
        let file = file.map_err(|source| not_writable(&target, source.kind().into()))?;
        probe_space(file.as_file()).map_err(|source| MediaError::io("write", &target, source))?;
        Ok(Self { out: BufWriter::with_capacity(BUFFER_BYTES, file), target, failed: false })
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Where the bytes are until [`commit`](Self::commit), for a library that opens its output by name.
    #[cfg_attr(not(feature = "ffmpeg"), expect(dead_code, reason = "only FFmpeg opens its output by name"))]
    pub(crate) fn temporary_path(&self) -> &Path {
        self.out.get_ref().path()
    }

    /// Appends `bytes`.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(|source| MediaError::io("write", &self.target, source))
    }

    /// Overwrites what is at `offset` and returns to the end.
    pub(crate) fn put_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = self.seek(SeekFrom::Start(offset)).and_then(|_| self.write_all(bytes));
        written
            .and_then(|()| self.seek(SeekFrom::End(0)))
            .map_err(|source| MediaError::io("write", &self.target, source))?;
        Ok(())
    }

    /// Syncs the file and gives it its name; returns its length in bytes.
    pub(crate) fn commit(self) -> Result<u64> {
        let Self { out, target, failed } = self;
        if failed {
            return Err(MediaError::encoder("the writer", "finish", "an earlier write failed"));
        }
        let io = |source| MediaError::io("write", &target, source);
        let file = out.into_inner().map_err(|error| io(error.into_error()))?;
        file.as_file().sync_all().map_err(io)?;
        let bytes = file.as_file().metadata().map_err(io)?.len();
        file.persist(&target).map_err(|error| not_writable(&target, error.error))?;
        sync_directory(parent(&target));
        Ok(bytes)
    }
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        self.failed |= written.is_err();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Seek for Partial {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let position = self.out.seek(position);
        self.failed |= position.is_err();
        position
    }
}

/// Writes into an empty file and empties it again, so that a full disk is noticed before the first frame is computed.
pub(crate) fn probe_space(mut file: &File) -> io::Result<()> {
    file.write_all(&vec![0; BUFFER_BYTES])?;
    file.set_len(0)?;
    file.rewind()
}

/// The directory of a path; of a bare file name, the current one.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// The error for a file that cannot be created or replaced.
pub(crate) fn not_writable(path: &Path, source: io::Error) -> MediaError {
    match MediaError::io("write", path, source) {
        MediaError::Io { path, source, .. } => match source.kind() {
            io::ErrorKind::NotFound if !parent(&path).is_dir() => {
                MediaError::MissingDirectory { directory: parent(&path).to_path_buf() }
            }
            _ => MediaError::NotWritable { path, source },
        },
        other => other,
    }
}

/// Makes a rename durable. Not every file system can do this, and the file itself is already synced.
pub(crate) fn sync_directory(directory: &Path) {
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
}

/// Follows a symbolic link to what will be replaced, and refuses what is not a regular file.
fn resolve_target(path: &Path) -> Result<PathBuf> {
    match fs::metadata(path) {
        Ok(existing) if existing.is_file() && !path.is_symlink() => Ok(path.to_path_buf()),
        Ok(existing) if existing.is_file() => fs::canonicalize(path).map_err(|source| not_writable(path, source)),
        Ok(_) => Err(MediaError::NotAFile { path: path.to_path_buf() }),
        Err(_) => Ok(path.to_path_buf()),
    }
}

/// `clip.mp4` is written as `.clip.XXXXXX.mp4`: hidden, and with an extension that format detection understands.
fn temporary_name(target: &Path) -> (String, String) {
    let part =
        |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
    // File systems limit names to 255 bytes; a long name must still fit with the random part.
    let stem: String = part(target.file_stem()).chars().take(40).collect();
    (format!(".{stem}."), format!(".{}", part(target.extension())))
}

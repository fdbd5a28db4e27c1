//! [`AtomicFile`]: a buffered writer whose file gets its name at the end.

use crate::{PROBE, folder_of, sync_folder, temporary};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

const BUFFER_BYTES: usize = 64 << 10;

/// A file that is being written. It gets its name with [`commit`](Self::commit), and is removed when it is dropped before
/// that.
#[derive(Debug)]
pub struct AtomicFile {
    out: BufWriter<NamedTempFile>,
    target: PathBuf,
    failed: bool,
}

impl AtomicFile {
    /// Creates the temporary file in the folder of `path`, with the permissions of any new file. If `path` is a symbolic
    /// link, the file that it leads to is replaced.
    ///
    /// # Errors
    /// [`IsADirectory`](io::ErrorKind::IsADirectory) if `path` is a folder, [`InvalidInput`](io::ErrorKind::InvalidInput)
    /// if it is another thing that is not a regular file, and the system's error if the folder is missing or cannot be
    /// written to.
    pub fn create(path: &Path) -> io::Result<Self> {
        let target = resolve(path)?;
        let (stem, suffix) = parts(&target);
        let file = temporary::file_in(folder_of(&target), &stem, &suffix)?;
        Ok(Self { out: BufWriter::with_capacity(BUFFER_BYTES, file), target, failed: false })
    }

    /// Writes 64 KiB into the empty file and removes them again, so that a full disk is noticed before anything is
    /// computed.
    pub fn probe_space(&mut self) -> io::Result<()> {
        let file = self.out.get_mut().as_file_mut();
        file.write_all(&PROBE)?;
        file.set_len(0)?;
        file.rewind()
    }

    /// Returns the path that the file will have.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Returns the path that the file has now, for a library that opens its output by name. It has the target's extension.
    pub fn temporary_path(&self) -> &Path {
        self.out.get_ref().path()
    }

    /// Overwrites the bytes at `offset` and returns to the end of the file.
    pub fn write_all_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset))?;
        self.write_all(bytes)?;
        self.seek(SeekFrom::End(0)).map(drop)
    }

    /// Moves everything from `offset` on back, and writes `bytes` in front of it.
    pub fn insert_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut end = self.seek(SeekFrom::End(0))?;
        let mut moved = vec![0; BUFFER_BYTES * 16];
        while end > offset {
            let len = (end - offset).min(moved.len() as u64);
            end -= len;
            let part = &mut moved[..len as usize];
            self.seek(SeekFrom::Start(end))?;
            self.out.get_mut().read_exact(part)?;
            self.write_all_at(end + bytes.len() as u64, part)?;
        }
        self.write_all_at(offset, bytes)
    }

    /// Syncs the file, gives it its name, and returns its length in bytes.
    ///
    /// # Errors
    /// A write that fails now or failed before, even if its error was ignored, or a rename that fails.
    pub fn commit(self) -> io::Result<u64> {
        Ok(self.commit_open()?.metadata()?.len())
    }

    /// Syncs the file, gives it its name, and returns it open: it stays this one when another file gets the name.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_open(self) -> io::Result<File> {
        let Self { out, target, failed } = self;
        if failed {
            return Err(io::Error::other("an earlier write failed"));
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        let file = file.persist(&target).map_err(|error| error.error)?;
        sync_folder(folder_of(&target));
        let _ = file.unlock(); // it is whole
        Ok(file)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        self.failed |= written.is_err();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.failed |= flushed.is_err();
        flushed
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let position = self.out.seek(position);
        self.failed |= position.is_err();
        position
    }
}

/// Follows a symbolic link to the file that will be replaced, and refuses everything that is not a regular file.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::metadata(path) {
        Ok(existing) if existing.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(existing) if !existing.is_file() => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        Ok(_) if path.is_symlink() => fs::canonicalize(path),
        // The temporary name is shorter: that the last one is too long would come out at the end.
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => Err(error),
        _ => Ok(path.to_path_buf()),
    }
}

/// Returns what is before and after the random part of the temporary name: `clip.mp4` is written as
/// `.clip.kinora-XXXXXXXX.mp4`, hidden, and with an extension that a library recognises.
fn parts(target: &Path) -> (String, String) {
    let text = |part: Option<&OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    // File systems limit names to 255 bytes; a long name must still fit with the random part.
    let stem: String = text(target.file_stem()).unwrap_or_default().chars().take(40).collect();
    let extension = text(target.extension()).filter(|extension| extension.len() <= 16);
    (stem, extension.map(|extension| format!(".{extension}")).unwrap_or_default())
}

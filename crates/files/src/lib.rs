//! Files that appear under their names only when they are whole.
//!
//! A file is written under a random hidden name in the folder of its target, synced, renamed to the target, and the
//! folder is synced. A process that is killed at any point leaves the old file or the new one, and no file of the user's
//! is ever overwritten but the target.
//!
//! A hidden name is locked by the process that writes there; what a killed one has left in a folder is removed when the
//! next file is written into it.
//!
//! [`write()`], [`copy`] and [`rename`] do all of it at once, [`AtomicFile`] is a writer, and [`HiddenFolder`] holds
//! several files that get their names together. [`Claim`] is a name that nobody else takes; [`shell_word`], [`path_text`]
//! and [`beside`] are about names themselves. All errors are those of [`std::io`]; the caller knows the path.

mod claim;
mod file;
mod folder;
mod name;
mod temporary;

pub use claim::Claim;
pub use file::AtomicFile;
pub use folder::HiddenFolder;
pub use name::{beside, is_hidden, path_of_text, path_text, shell_word};
pub use temporary::is_temporary;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// The bytes that [`AtomicFile::probe_space`] and [`HiddenFolder::probe_space`] write.
static PROBE: [u8; 64 << 10] = [0; 64 << 10];

/// Writes `bytes` to `path`, replacing the file that was there.
///
/// # Errors
/// Those of [`AtomicFile::create`], and a failed write. The file that was there is then unchanged.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes.as_ref())?;
    file.commit().map(drop)
}

/// Copies the file `from` to `to`, replacing the file that was there. Permissions are not copied.
///
/// # Errors
/// Those of [`AtomicFile::create`], and a failed read or write. The file that was there is then unchanged.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut file = AtomicFile::create(to)?;
    io::copy(&mut source, &mut file)?;
    file.commit().map(drop)
}

/// Syncs the finished file `from` and gives it the name `to` in a folder of the same file system, replacing the file that
/// was there. Meant for files that are written under a name that stays the same, such as a download that can be resumed.
///
/// # Errors
/// A file that cannot be opened, synced or renamed.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    // Windows syncs only files that are open for writing.
    File::options().write(true).open(from)?.sync_all()?;
    std::fs::rename(from, to)?;
    sync_folder(folder_of(to));
    Ok(())
}

/// Reads a whole file.
///
/// # Errors
/// [`InvalidInput`](io::ErrorKind::InvalidInput) for what is no regular file: reading a pipe waits for a writer, who may
/// never come.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let data = std::fs::metadata(path)?;
    if !data.is_file() && !data.is_dir() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    std::fs::read(path)
}

/// Reads a whole text.
///
/// # Errors
/// Those of [`read`], and [`InvalidData`](io::ErrorKind::InvalidData) for what is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    let no_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text");
    String::from_utf8(read(path)?).map_err(no_text)
}

/// Checks that an [`AtomicFile`] can be created for `path`, so that this is known before its content is computed.
///
/// # Errors
/// Those of [`AtomicFile::create`].
pub fn check_writable(path: &Path) -> io::Result<()> {
    AtomicFile::create(path).map(drop)
}

/// Returns the folder that `path` lies in; for a bare file name, the current one.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the renames in `folder` durable. Failures are ignored: not every file system can do this, and the contents of the
/// files are already synced.
pub fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// Drops the text that tempfile adds to errors: it has a random name that means nothing to the user.
fn plain(error: &io::Error) -> io::Error {
    error.kind().into()
}

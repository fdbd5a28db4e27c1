//! Names that files have until they are whole: hidden, random, and locked by the process that writes them, so that those
//! of processes that were killed can be told and removed.

use crate::name::hash;
use crate::plain;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use tempfile::{Builder, NamedTempFile, TempDir};

/// Stands in every temporary name, before its random letters.
const MARK: &str = ".kinora-";
/// Random letters of a temporary name.
const RANDOM: usize = 8;

/// Whether a file of this name is one of ours that is not whole.
pub fn is_temporary(name: &OsStr) -> bool {
    let Some(name) = name.to_str().filter(|name| name.starts_with('.')) else { return false };
    let random = name.rfind(MARK).map(|at| &name[at + MARK.len()..]);
    let random = random.map(|rest| rest.split_once('.').map_or(rest, |(random, _)| random));
    random.is_some_and(|random| random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Creates a file in `folder`, whose name begins with a dot and `stem` and ends with `suffix`. It has the permissions of
/// any new file.
pub(crate) fn file_in(folder: &Path, stem: &str, suffix: &str) -> io::Result<NamedTempFile> {
    let prefix = format!(".{stem}{MARK}");
    let mut builder = Builder::new();
    builder.prefix(&prefix).suffix(suffix).rand_bytes(RANDOM);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask
    loop {
        let file = builder.tempfile_in(folder).map_err(|error| plain(&error))?;
        if lock(file.as_file(), file.path()) {
            sweep(folder, file.as_file());
            return Ok(file);
        }
    }
}

/// Creates a folder in `folder`, which only the user can read, and the lock that shows that it is in use.
pub(crate) fn folder_in(folder: &Path) -> io::Result<(TempDir, Option<File>)> {
    let prefix = format!(".files{MARK}");
    loop {
        let made = Builder::new().prefix(&prefix).rand_bytes(RANDOM).tempdir_in(folder);
        let made = made.map_err(|error| plain(&error))?;
        let Some(open) = cfg!(unix).then(|| File::open(made.path())).transpose()? else { return Ok((made, None)) };
        if lock(&open, made.path()) {
            sweep(folder, &open);
            return Ok((made, Some(open)));
        }
    }
}

/// The name of the hidden file that stands for the claim to `path`: always the same.
pub(crate) fn claim_of(path: &Path) -> String {
    format!(".claim{MARK}{:08x}", hash(path.file_name().unwrap_or_default()) as u32)
}

/// Locks what was just created; `false` if another process took it for a leftover before.
#[cfg(unix)]
pub(crate) fn lock(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let is_there = || file.metadata().is_ok_and(|own| fs::symlink_metadata(path).is_ok_and(|at| at.ino() == own.ino()));
    match file.try_lock() {
        Ok(()) => is_there(),
        Err(fs::TryLockError::WouldBlock) => false,
        Err(fs::TryLockError::Error(_)) => true, // not every file system has locks
    }
}

/// Locks keep other programs from reading there.
#[cfg(not(unix))]
pub(crate) fn lock(_: &File, _: &Path) -> bool {
    true
}

/// Removes the temporary files in `folder` that nobody holds and that belong to the user of `own`. A leftover is only
/// untidy: errors are ignored.
#[cfg(unix)]
fn sweep(folder: &Path, own: &File) {
    use std::os::unix::fs::MetadataExt;
    let Ok(user) = own.metadata().map(|data| data.uid()) else { return };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| is_temporary(&entry.file_name())) {
        let is_ours = |data: &fs::Metadata| data.uid() == user && (data.is_file() || data.is_dir());
        let Some(data) = entry.metadata().ok().filter(is_ours) else { continue };
        // The process that writes it has it locked, until it ends in whatever way. The lock is held until the name is gone,
        // so that a process that has just created the file, and waits for the lock to it, sees that it is lost.
        let unheld = File::open(entry.path()).ok().filter(|file| file.try_lock().is_ok());
        if let Some(_held) = unheld {
            let _ = if data.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        }
    }
}

#[cfg(not(unix))]
fn sweep(_: &Path, _: &File) {}

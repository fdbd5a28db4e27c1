//! The directory of a run or of a story: one process works in it at a time, and it goes again where nothing was computed.

use super::run_dir::FILES;
use crate::error::Settings;
use crate::{Error, Result};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// The file that the process which works in a directory holds locked.
pub(crate) const LOCK: &str = "lock";

/// A directory that this process alone works in, until it drops this or ends, however it ends.
pub(crate) struct Lock(Option<File>);

impl Lock {
    /// Creates the directory `path` if it is not there, and locks it.
    ///
    /// # Errors
    /// [`Error::Request`] if another run works there; a directory that cannot be made.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        let io = |path: PathBuf| move |source| Error::Io { path, source };
        std::fs::create_dir_all(path).map_err(io(path.to_path_buf()))?;
        let name = path.join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(io(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(Some(file))),
            Err(TryLockError::WouldBlock) => {
                let what = format!("another run works in `{}`", path.display());
                Err(Error::request(what, "wait until it ends, or name another directory"))
            }
            // Not every file system has locks.
            Err(TryLockError::Error(_)) => Ok(Self(None)),
        }
    }
}

impl Drop for Lock {
    /// Closing the file is not enough: a process that is being started has it open for a moment too.
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            let _ = file.unlock();
        }
    }
}

/// Does `run`, which works in `directory`. If it fails before its first step, a directory that it found missing or empty is
/// that again, so that the corrected command can use it.
pub(crate) fn tidied<T>(directory: Option<&Path>, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(directory) = directory else { return run() };
    let existed = directory.is_dir();
    let was_empty = entries(directory).next().is_none();
    let result = run();
    // A run that was stopped goes on.
    if was_empty && result.as_ref().is_err_and(|error| !error.is_stop()) && !has_steps(directory) {
        discard(directory, existed);
    }
    result
}

/// Refuses a directory of somebody else's, into which nothing is written: one that is not empty and has no `file`, which
/// stands in each of ours. `what` it should hold, and the `setting` that names it.
///
/// # Errors
/// [`Error::Request`] with the directory.
pub(crate) fn check_own(directory: &Path, file: &str, what: &str, setting: Settings) -> Result<()> {
    let is_other = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name != LOCK && !kinora_files::is_temporary(name)
    };
    if directory.join(file).exists() || !entries(directory).any(|path| is_other(&path)) {
        return Ok(());
    }
    let what = format!("`{}` is not empty, and holds no {what}", directory.display());
    Err(Error::request(what, "name a new or an empty directory").about(setting))
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Whether a step was done in `directory`, or in one of its windows.
fn has_steps(directory: &Path) -> bool {
    let own = |directory: &Path| [super::run_dir::STATE, super::run_dir::LATENTS].map(|name| directory.join(name));
    own(directory)
        .iter()
        .chain(entries(directory).flat_map(|window| own(&window)).collect::<Vec<_>>().iter())
        .any(|file| file.exists())
}

/// Removes the files of a run, and the directory if it is new. A leftover is only untidy.
fn discard(directory: &Path, existed: bool) {
    // Another run may have begun there meanwhile.
    if !directory.is_dir() {
        return;
    }
    let Ok(lock) = Lock::take(directory) else { return };
    for window in entries(directory).filter(|path| path.is_dir()) {
        remove_files(&window);
        let _ = std::fs::remove_dir(window);
    }
    drop(lock);
    remove_files(directory);
    if !existed {
        let _ = std::fs::remove_dir(directory);
    }
}

fn remove_files(directory: &Path) {
    for name in FILES {
        let _ = std::fs::remove_file(directory.join(name));
    }
}

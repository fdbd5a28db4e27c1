//! What Kinora keeps for itself: how long runs took, and what it read of prompts.

use std::env;
use std::path::PathBuf;

/// The variable that names the folder; empty: nothing is kept.
const FOLDER: &str = "KINORA_CACHE";

/// Returns the variable with which a process keeps it in `folder`; `None` where the user has named a folder.
pub fn variable(folder: PathBuf) -> Option<(&'static str, PathBuf)> {
    env::var_os(FOLDER).is_none().then_some((FOLDER, folder))
}

/// Returns the path of `name` in the user's cache directory, if there is one.
pub fn path(name: &str) -> Option<PathBuf> {
    let path = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if env::var_os(FOLDER).is_some() {
        return Some(path(FOLDER)?.join(name));
    }
    let caches = path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")));
    Some(caches.or_else(|| path("LOCALAPPDATA"))?.join("kinora").join(name))
}

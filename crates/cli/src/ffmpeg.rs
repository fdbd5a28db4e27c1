//! Finds the program `ffmpeg`, which reads the clips that Kinora does not read itself.

use std::env;
use std::path::{Path, PathBuf};

/// Returns the path of the first `ffmpeg` on `PATH` beside which `ffprobe` lies. Folders that are named relative to the
/// current one are passed over: whoever fills that one could choose the program.
pub fn find() -> Option<PathBuf> {
    let program = |folder: &Path, name: &str| folder.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    let both = |folder: &PathBuf| ["ffmpeg", "ffprobe"].iter().all(|name| is_program(&program(folder, name)));
    let folders = env::var_os("PATH")?;
    let folder = env::split_paths(&folders).filter(|folder| folder.is_absolute()).find(both)?;
    Some(program(&folder, "ffmpeg"))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

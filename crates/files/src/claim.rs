//! [`Claim`]: a name that one process alone may take.

use crate::{folder_of, temporary};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The first of `path`, `name-2.ext`, `name-3.ext` and so on where nothing is yet and that no other process has claimed.
/// Until it is dropped, or its process ends, others get another name.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// The hidden file that stands for the claim, locked; `None` where none can be made: then writing there fails too.
    mark: Option<(PathBuf, File)>,
}

impl Claim {
    /// Finds a name and claims it.
    pub fn unused(path: &Path) -> Self {
        let (mut name, mut number) = (path.to_path_buf(), 1);
        loop {
            if let Some(claim) = Some(&name).filter(|name| !is_taken(name)).and_then(|name| Self::of(name)) {
                return claim;
            }
            number += 1;
            name = with_number(path, number);
        }
    }

    /// Returns the claimed path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Claims `path`, unless another process has it.
    fn of(path: &Path) -> Option<Self> {
        let name = temporary::claim_of(path);
        let mark = folder_of(path).join(name);
        let claim = |mark| Some(Self { path: path.to_path_buf(), mark });
        let Ok(file) = File::options().create(true).truncate(false).write(true).open(&mark) else { return claim(None) };
        if !temporary::lock(&file, &mark) {
            return None;
        }
        let own = claim(Some((mark, file)));
        // The one that had it may just have finished.
        own.filter(|_| !is_taken(path))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some((mark, file)) = self.mark.take() {
            // In this order: who waits for the file sees that it is gone.
            let _ = std::fs::remove_file(mark);
            let _ = file.unlock();
        }
    }
}

fn is_taken(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// `name-7.ext` for `name.ext`.
fn with_number(path: &Path, number: u64) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!("-{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_before_the_extension() {
        assert_eq!(with_number(Path::new("a/kinora-7.mp4"), 2), Path::new("a/kinora-7-2.mp4"));
        assert_eq!(with_number(Path::new("clip"), 3), Path::new("clip-3"));
    }

    #[test]
    fn claims_at_the_same_time_differ_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let names: Vec<PathBuf> = std::thread::scope(|scope| {
            let claims: Vec<_> = (0..16).map(|_| scope.spawn(|| Claim::unused(&path))).collect();
            let claims: Vec<Claim> = claims.into_iter().map(|claim| claim.join().unwrap()).collect();
            claims.iter().map(|claim| claim.path().to_path_buf()).collect()
        });
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), 16, "{names:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let claim = Claim::unused(&path);
        std::fs::write(claim.path(), "").unwrap();
        assert_eq!(Claim::unused(claim.path()).path(), folder.path().join("clip-2.mp4"));
    }
}

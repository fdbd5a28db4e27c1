//! Work on files. All of the server's is here, on threads for blocking work: a disk that is slow or full of requests holds up nobody
//! who asks for something else.

use crate::id;
use std::collections::BTreeSet;
use std::future;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The beginning of the names of uploads that are not whole.
pub const UPLOADING: &str = "upload-";

/// Does `work` on a thread for blocking work.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that ends cancels it, and with it whoever waits.
            Err(_) => future::pending().await,
        },
    }
}

/// Removes files and folders. What cannot be removed now is swept later.
pub async fn remove(paths: impl IntoIterator<Item = PathBuf>) {
    let paths: Vec<PathBuf> = paths.into_iter().collect();
    blocking(move || paths.iter().for_each(|path| remove_now(path))).await;
}

fn remove_now(path: &Path) {
    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

/// Makes a folder and those above it.
///
/// # Errors
/// The system's.
pub async fn make_folder(path: PathBuf) -> io::Result<()> {
    blocking(move || std::fs::create_dir_all(path)).await
}

/// Whether the file is there.
pub async fn is_file(path: &Path) -> bool {
    tokio::fs::metadata(path).await.is_ok_and(|data| data.is_file())
}

/// The words that name files, as whole paths; others as they are.
pub async fn whole_paths(words: Vec<String>) -> Vec<PathBuf> {
    let whole = |word: String| std::path::absolute(&word).ok().filter(|path| path.exists()).unwrap_or(word.into());
    blocking(move || words.into_iter().map(whole).collect()).await
}

/// The bytes of all files in a folder but one.
pub async fn bytes_in(folder: PathBuf, but: PathBuf) -> u64 {
    blocking(move || {
        let files = entries(&folder)
            .filter(|entry| entry.path() != but)
            .filter_map(|entry| entry.metadata().ok())
            .filter(std::fs::Metadata::is_file);
        files.map(|data| data.len()).sum()
    })
    .await
}

/// The first bytes of a file.
pub async fn start_of(path: PathBuf) -> Vec<u8> {
    blocking(move || {
        let mut start = Vec::new();
        let _ = std::fs::File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
        start
    })
    .await
}

/// The recipe in a clip.
///
/// # Errors
/// A clip without one.
pub async fn recipe(clip: PathBuf) -> kinora::Result<kinora::Recipe> {
    blocking(move || kinora::Recipe::read(&clip)).await
}

/// A new file in `folder`, and its path, which is removed when it is dropped.
///
/// # Errors
/// The system's.
pub async fn new_upload(folder: PathBuf) -> io::Result<(tokio::fs::File, Upload)> {
    let (file, path) = blocking(move || {
        let file = tempfile::Builder::new().prefix(UPLOADING).tempfile_in(folder)?;
        Ok::<_, io::Error>(file.into_parts())
    })
    .await?;
    Ok((tokio::fs::File::from_std(file), Upload(Some(path))))
}

/// The file of an upload on its way, removed unless it is kept.
pub struct Upload(Option<tempfile::TempPath>);

impl Upload {
    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.0.as_deref().map(Path::to_path_buf).unwrap_or_default()
    }

    /// Gives it its place for good. It is called where blocking is no harm.
    ///
    /// # Errors
    /// The system's.
    pub fn keep(mut self, place: &Path) -> io::Result<()> {
        let Some(path) = self.0.take() else { return Ok(()) };
        path.persist(place).map_err(|error| error.error)?;
        // The name must be on the disk before the store says that it is.
        place.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (Some(path), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(path));
        }
    }
}

/// Removes files of ours below `data` that are of no id in `known`, and states that are of none in `unfinished`: what a killed server
/// left.
pub async fn sweep(data: PathBuf, known: BTreeSet<String>, unfinished: BTreeSet<String>) {
    let none = BTreeSet::new();
    blocking(move || {
        for (folder, kept) in [("clips", &known), ("files", &known), ("state", &unfinished), ("uploads", &none)] {
            let is_left = |name: &str| {
                (id::is(id::CLIP, name) || id::is(id::UPLOAD, name) || name.starts_with(UPLOADING))
                    && !kept.contains(name)
            };
            let all = entries(&data.join(folder));
            all.filter(|entry| is_left(&entry.file_name().to_string_lossy()))
                .for_each(|entry| remove_now(&entry.path()));
        }
    })
    .await;
}

fn entries(folder: &Path) -> impl Iterator<Item = std::fs::DirEntry> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What blocks, by the words with which it is called.
    const BLOCKING: [&str; 7] =
        ["std::fs", "File::open", ".is_file()", ".is_dir()", ".exists()", "tempfile_in", "Recipe::read("];
    /// Parts of the server that run on threads of their own, or before anyone is answered.
    const ELSEWHERE: [&str; 5] = ["disk.rs", "work", "store", "config", "server.rs"];

    #[test]
    fn only_here_files_are_touched() {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            for entry in entries(&folder).filter(|entry| !ELSEWHERE.iter().any(|name| entry.file_name() == *name)) {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let text = std::fs::read_to_string(entry.path()).expect("a source");
                let found = BLOCKING.iter().find(|word| text.contains(*word));
                assert_eq!(found, None, "{} blocks the threads that answer", entry.path().display());
                seen += 1;
            }
        }
        assert!(seen > 20, "{seen} sources");
    }
}

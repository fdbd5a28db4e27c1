//! Downloads the files of a repository that the caller wants into the hub cache.

use crate::client::Client;
use crate::fetch::fetch;
use crate::{Error, Hub, Progress, Result, folder_name, is_plain};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// The names of the needed files, or the first one that the repository lacks.
pub type Selection = std::result::Result<BTreeSet<String>, String>;

/// What [`Progress`] names while the list of a repository's files is waited for.
const LISTING: &str = "the list of files";

/// The files that the caller needs.
pub struct Wanted<'a> {
    /// Picks the needed files among the names of all files of the repository.
    pub select: &'a dyn Fn(&BTreeSet<&str>) -> Selection,
    /// Returns what the directory of a finished download lacks, if anything: the content of files may ask for others.
    pub missing: &'a dyn Fn(&Path) -> Option<String>,
}

/// A file of a repository.
pub(super) struct RemoteFile {
    /// Path in the repository, such as `transformer/config.json`.
    pub name: String,
    pub size: u64,
    /// The file's `ETag` on the hub and the name of its blob in the cache: SHA-256 of large files, git's SHA-1 of small
    /// ones.
    pub hash: String,
}

/// The hub's answer about a repository: <https://huggingface.co/docs/hub/api>, `/api/models/{repo}/revision/{revision}`
/// with `blobs=true`.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    #[serde(rename = "rfilename")]
    name: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// The directories of a repository in the cache.
struct Place {
    blobs: PathBuf,
    snapshot: PathBuf,
    main: PathBuf,
    locks: PathBuf,
}

impl Hub {
    /// Downloads the wanted files of the newest commit of `repository`, and returns the directory that has them, which
    /// [`Hub::snapshot`] finds from then on.
    ///
    /// Files that are in the cache are not downloaded again, incomplete ones are continued, and a file counts only when
    /// its size and hash are those that the hub says. `on_progress` is called every few hundred kilobytes and stops the
    /// download with [`ControlFlow::Break`]; another call continues it.
    ///
    /// # Errors
    /// Any [`Error`]: of the hub, the network or the disk.
    pub fn download(
        &self,
        repository: &str,
        wanted: &Wanted,
        on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<PathBuf> {
        let client = Client::new(self)?;
        let page = format!("{}/{repository}", self.endpoint);
        let mut tick = || match on_progress(Progress { file: LISTING, done: 0, total: 0 }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped),
        };
        let (commit, files) = list(&client, self, repository, wanted, &mut tick)?;
        let place = Place::new(&self.cache, repository, &commit)?;
        let mut absent = Vec::new();
        for file in &files {
            if !place.has(file)? {
                absent.push(file);
            }
        }
        let total = files.iter().map(|file| file.size).sum();
        let mut done = total - absent.iter().map(|file| file.size).sum::<u64>();
        check_space(&self.cache, absent.iter().map(|file| file.size - place.arrived(file)).sum())?;
        for file in absent {
            let address = format!("{page}/resolve/{commit}/{}", file.name);
            let (blob, lock) = (place.blob(file), place.locks.join(format!("{}.lock", file.hash)));
            let mut on_bytes = |bytes| match on_progress(Progress { file: &file.name, done: done + bytes, total }) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Error::Stopped),
            };
            fetch(&client, &address, file, &blob, &lock, &mut on_bytes).map_err(|error| on_page(error, &page))?;
            place.link(file)?;
            done += file.size;
        }
        if let Some(missing) = (wanted.missing)(&place.snapshot) {
            return Err(Error::NotAModel { address: page, missing });
        }
        kinora_files::write(&place.main, &commit).map_err(|source| io(&place.main, source))?;
        Ok(place.snapshot)
    }
}

/// Returns the newest commit and the wanted files of it.
fn list(
    client: &Client,
    hub: &Hub,
    repository: &str,
    wanted: &Wanted,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<(String, Vec<RemoteFile>)> {
    let page = format!("{}/{repository}", hub.endpoint);
    let address = format!("{}/api/models/{repository}/revision/main?blobs=true", hub.endpoint);
    let text = client.text(&address, tick).map_err(|error| match error {
        Error::NotFound { .. } => Error::NotFound { address: page.clone() },
        error => on_page(error, &page),
    })?;
    let bad = |reason: String| Error::BadAnswer { address: address.clone(), reason };
    let listing: Listing = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    if !is_plain(&listing.sha) {
        return Err(bad(format!("`{}` is not a commit", listing.sha)));
    }
    let names: BTreeSet<&str> = listing.siblings.iter().map(|sibling| sibling.name.as_str()).collect();
    let needed = (wanted.select)(&names).map_err(|missing| Error::NotAModel { address: page, missing })?;
    let mut files = Vec::new();
    for sibling in listing.siblings.into_iter().filter(|sibling| needed.contains(&sibling.name)) {
        let file = sibling.file().ok_or_else(|| bad("it does not say size and hash of every file".into()))?;
        files.push(file);
    }
    Ok((listing.sha, files))
}

/// Makes a refusal name the page on which the licence can be accepted.
fn on_page(error: Error, page: &str) -> Error {
    match error {
        Error::Denied { status, token, token_file, .. } => {
            Error::Denied { address: page.into(), status, token, token_file }
        }
        error => error,
    }
}

impl Sibling {
    fn file(self) -> Option<RemoteFile> {
        let (size, hash) = match self.lfs {
            Some(lfs) => (lfs.size, lfs.sha256),
            None => (self.size?, self.blob_id?),
        };
        let is_hash = matches!(hash.len(), 40 | 64) && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| RemoteFile { name: self.name, size, hash: hash.to_ascii_lowercase() })
    }
}

impl Place {
    fn new(cache: &Path, repository: &str, commit: &str) -> Result<Self> {
        let folder = cache.join(folder_name(repository));
        let place = Self {
            blobs: folder.join("blobs"),
            snapshot: folder.join("snapshots").join(commit),
            main: folder.join("refs/main"),
            locks: cache.join(".locks").join(folder_name(repository)),
        };
        for path in [&place.blobs, &place.snapshot, &folder.join("refs"), &place.locks] {
            std::fs::create_dir_all(path).map_err(|source| io(path, source))?;
        }
        Ok(place)
    }

    fn blob(&self, file: &RemoteFile) -> PathBuf {
        self.blobs.join(&file.hash)
    }

    /// Whether the file is complete. A blob that was downloaded with another commit is linked into this snapshot.
    fn has(&self, file: &RemoteFile) -> Result<bool> {
        let has_size = |path: &Path| std::fs::metadata(path).is_ok_and(|found| found.len() == file.size);
        if has_size(&self.snapshot.join(&file.name)) {
            return Ok(true);
        }
        let here = has_size(&self.blob(file));
        if here {
            self.link(file)?;
        }
        Ok(here)
    }

    /// Returns the bytes of the file that earlier downloads have left.
    fn arrived(&self, file: &RemoteFile) -> u64 {
        std::fs::metadata(crate::fetch::unfinished(&self.blob(file))).map_or(0, |found| found.len().min(file.size))
    }

    /// Puts the blob into the snapshot: as a relative link where the system has links, else the blob itself.
    fn link(&self, file: &RemoteFile) -> Result<()> {
        let (blob, path) = (self.blob(file), self.snapshot.join(&file.name));
        let folder = path.parent().unwrap_or(&self.snapshot);
        std::fs::create_dir_all(folder).map_err(|source| io(folder, source))?;
        if path.symlink_metadata().is_ok() {
            std::fs::remove_file(&path).map_err(|source| io(&path, source))?;
        }
        let up = "../".repeat(file.name.matches('/').count());
        let linked = symlink(&format!("{up}../../blobs/{}", file.hash), &path);
        let linked = linked.or_else(|_| std::fs::hard_link(&blob, &path)).or_else(|_| std::fs::rename(&blob, &path));
        linked.map_err(|source| io(&path, source))
    }
}

#[cfg(unix)]
fn symlink(target: &str, path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(windows)]
fn symlink(target: &str, path: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target.replace('/', "\\"), path)
}

fn check_space(cache: &Path, needed: u64) -> Result<()> {
    match fs4::available_space(cache) {
        Ok(free) if free < needed => Err(Error::NoSpace { path: cache.to_path_buf(), needed, free }),
        _ => Ok(()),
    }
}

pub(super) fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.to_path_buf(), source }
}

//! One repository into the cache: which files it has, which of them a model needs, and where they go.

use super::fetch::{Client, fetch};
use super::{HubError, NETWORKS, OPTIONAL, Progress, Settings, folder_name, is_plain, missing};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, HubError>;

/// A file of a repository.
pub(super) struct RemoteFile {
    /// `transformer/config.json`.
    pub name: String,
    pub size: u64,
    /// What the hub calls its `ETag` and the cache its blob: SHA-256 of large files, git's SHA-1 of small ones.
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

/// Where a repository lies in the cache.
struct Place {
    blobs: PathBuf,
    snapshot: PathBuf,
    main: PathBuf,
    locks: PathBuf,
}

/// Downloads what is not there yet of the newest commit of `repository`.
pub(super) fn download(
    settings: &Settings,
    repository: &str,
    on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<PathBuf> {
    let client = Client::new(settings);
    let page = format!("{}/{repository}", settings.endpoint);
    let (commit, files) = list(&client, settings, repository, &page)?;
    let place = Place::new(&settings.cache, repository, &commit)?;
    let mut absent = Vec::new();
    for file in &files {
        if !place.has(file)? {
            absent.push(file);
        }
    }
    let total = files.iter().map(|file| file.size).sum();
    let mut done = total - absent.iter().map(|file| file.size).sum::<u64>();
    check_space(&settings.cache, absent.iter().map(|file| file.size - place.arrived(file)).sum())?;
    for file in absent {
        let address = format!("{page}/resolve/{commit}/{}", file.name);
        let (blob, lock) = (place.blob(file), place.locks.join(format!("{}.lock", file.hash)));
        let mut on_bytes = |bytes| match on_progress(Progress { file: &file.name, done: done + bytes, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(HubError::Stopped),
        };
        fetch(&client, &address, file, &blob, &lock, &mut on_bytes).map_err(|error| on_page(error, &page))?;
        place.link(file)?;
        done += file.size;
    }
    if let Some(missing) = missing(&place.snapshot) {
        return Err(HubError::NotAModel { address: page, missing });
    }
    std::fs::write(&place.main, &commit).map_err(|source| io(&place.main, source))?;
    Ok(place.snapshot)
}

/// The newest commit and the files of it that a model needs.
fn list(client: &Client, settings: &Settings, repository: &str, page: &str) -> Result<(String, Vec<RemoteFile>)> {
    let address = format!("{}/api/models/{repository}/revision/main?blobs=true", settings.endpoint);
    let text = client.text(&address).map_err(|error| match error {
        HubError::NotFound { .. } => HubError::NotFound { address: page.into() },
        error => on_page(error, page),
    })?;
    let bad = |reason: String| HubError::BadAnswer { address: address.clone(), reason };
    let listing: Listing = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    if !is_plain(&listing.sha) {
        return Err(bad(format!("`{}` is not a commit", listing.sha)));
    }
    let names: BTreeSet<&str> = listing.siblings.iter().map(|sibling| sibling.name.as_str()).collect();
    let needed = needed(&names).map_err(|missing| HubError::NotAModel { address: page.into(), missing })?;
    let needed: BTreeSet<String> = needed.into_iter().map(str::to_string).collect();
    let mut files = Vec::new();
    for sibling in listing.siblings.into_iter().filter(|sibling| needed.contains(&sibling.name)) {
        let file = sibling.file().ok_or_else(|| bad("it does not say size and hash of every file".into()))?;
        files.push(file);
    }
    Ok((listing.sha, files))
}

/// A refusal names the page on which the licence can be accepted.
fn on_page(error: HubError, page: &str) -> HubError {
    match error {
        HubError::Denied { status, with_token, .. } => HubError::Denied { address: page.into(), status, with_token },
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

/// Those of the names that a model needs: no pictures, no second copy of the weights in another format.
/// The error is what is missing.
fn needed<'a>(names: &BTreeSet<&'a str>) -> std::result::Result<Vec<&'a str>, String> {
    let mut needed = Vec::new();
    let mut take = |name: String| names.get(name.as_str()).map(|name| needed.push(*name)).ok_or(name);
    take("model_index.json".into())?;
    take("tokenizer/tokenizer.json".into())?;
    for name in [
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/special_tokens_map.json",
        "image_processor/preprocessor_config.json",
    ] {
        let _ = take(name.into());
    }
    for network in NETWORKS {
        if OPTIONAL.contains(&network) && !names.iter().any(|name| name.starts_with(&format!("{network}/"))) {
            continue;
        }
        take(format!("{network}/config.json"))?;
        for name in weights(names, network).ok_or_else(|| format!("{network}/*.safetensors"))? {
            take(name)?;
        }
    }
    Ok(needed)
}

/// The safetensors of one network: the index and its shards, or the one file.
fn weights(names: &BTreeSet<&str>, network: &str) -> Option<Vec<String>> {
    for stem in ["diffusion_pytorch_model", "model"].map(|stem| format!("{network}/{stem}")) {
        let (index, single) = (format!("{stem}.safetensors.index.json"), format!("{stem}.safetensors"));
        if names.contains(index.as_str()) {
            let shards = names.iter().filter(|name| is_shard(name, &stem)).map(ToString::to_string);
            return Some(std::iter::once(index).chain(shards).collect());
        }
        if names.contains(single.as_str()) {
            return Some(vec![single]);
        }
    }
    None
}

/// `{stem}-00001-of-00003.safetensors`.
fn is_shard(name: &str, stem: &str) -> bool {
    let numbers = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".safetensors"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.and_then(|numbers| numbers.split_once("-of-")).is_some_and(|(a, b)| is_number(a) && is_number(b))
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

    /// Whether the file is complete; one that came with another commit is linked.
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

    /// Bytes of an unfinished download.
    fn arrived(&self, file: &RemoteFile) -> u64 {
        std::fs::metadata(super::fetch::unfinished(&self.blob(file))).map_or(0, |found| found.len().min(file.size))
    }

    /// Puts the blob into the snapshot: a relative link where the system has links, else the blob itself.
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
        Ok(free) if free < needed => Err(HubError::NoSpace { path: cache.to_path_buf(), needed, free }),
        _ => Ok(()),
    }
}

pub(super) fn io(path: &Path, source: std::io::Error) -> HubError {
    HubError::Io { path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts that every model has, without the transformer.
    const REST: &[&str] = &[
        "model_index.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ];

    fn needed_with(more: &[&'static str]) -> std::result::Result<BTreeSet<&'static str>, String> {
        needed(&REST.iter().chain(more).copied().collect()).map(|names| names.into_iter().collect())
    }

    #[test]
    fn shards_are_taken_with_their_index_and_nothing_else_of_the_folder() {
        let transformer = [
            "transformer/config.json",
            "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
            "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
            "transformer/diffusion_pytorch_model.safetensors.index.json",
        ];
        let spare = [
            "README.md",
            "assets/logo.png",
            "text_encoder/pytorch_model.bin",
            "transformer/diffusion_pytorch_model.fp16-00001-of-00001.safetensors",
            "transformer/diffusion_pytorch_model.safetensors",
            "transformer/../diffusion_pytorch_model-1-of-1.safetensors",
            "vae/diffusion_pytorch_model.fp16.safetensors",
        ];
        let all: Vec<&str> = transformer.iter().chain(&spare).copied().collect();
        assert_eq!(needed_with(&all), Ok(REST.iter().chain(&transformer).copied().collect()));
    }

    #[test]
    fn what_a_repository_lacks_is_named() {
        assert_eq!(needed_with(&[]), Err("transformer/config.json".into()));
        assert_eq!(needed_with(&["transformer/config.json"]), Err("transformer/*.safetensors".into()));
        assert_eq!(needed(&BTreeSet::new()), Err("model_index.json".into()));
    }
}

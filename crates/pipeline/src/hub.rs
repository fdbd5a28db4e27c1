//! Models from the Hugging Face hub, in the cache that Python's `huggingface_hub` keeps: either finds what the other
//! has downloaded.
//!
//! The cache is `models--OWNER--NAME/` with `blobs/HASH`, `snapshots/COMMIT/FILE` (links to blobs) and `refs/main`
//! (the commit): <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.
//!
//! This is the one module of the library that reads the environment, because that is where every program which shares
//! the cache is told about it: `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, and to download also `HF_ENDPOINT`,
//! `HF_TOKEN` and `HF_TOKEN_PATH`.

#[cfg(feature = "hub")]
mod download;
mod error;
#[cfg(feature = "hub")]
mod fetch;

pub use error::HubError;

use crate::{Error, Manifest, Result};
use kinora_checkpoint::{Layout, shard_paths};
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// The parts of a model that have weights.
const NETWORKS: [&str; 5] = ["text_encoder", "transformer", "transformer_2", "vae", "image_encoder"];
/// Those that most models do without.
const OPTIONAL: [&str; 2] = ["transformer_2", "image_encoder"];

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file under way, as the repository calls it.
    pub file: &'a str,
    /// Bytes that are here, of all files, also those of earlier downloads.
    pub done: u64,
    /// Bytes of all files.
    pub total: u64,
}

/// The directory of `repository` in the cache, if every file that a model needs is there.
pub fn cached(repository: &str) -> Option<PathBuf> {
    let folder = Settings::from_environment().ok()?.cache.join(folder_name(repository));
    let commit = std::fs::read_to_string(folder.join("refs/main")).ok()?;
    let snapshot = folder.join("snapshots").join(commit.trim());
    (is_plain(commit.trim()) && missing(&snapshot).is_none()).then_some(snapshot)
}

/// Downloads the known model `name` and returns its directory, which [`cached`] finds from then on.
///
/// What is already there is not downloaded again, half a file is continued, and a file counts only when its size and
/// hash are those that the hub says. `on_progress` is called every few hundred kilobytes and stops the download with
/// [`ControlFlow::Break`]; the same call continues it.
///
/// # Errors
/// [`Error::UnknownModel`], or [`Error::Hub`] with what the hub, the network or the disk said.
pub fn pull(name: &str, on_progress: impl FnMut(Progress) -> ControlFlow<()>) -> Result<PathBuf> {
    let manifest = Manifest::known().into_iter().find(|manifest| manifest.name == name);
    let manifest = manifest.ok_or_else(|| Error::UnknownModel {
        name: name.to_string(),
        hint: "`kinora models` lists those that can be downloaded".into(),
    })?;
    let repository = manifest.repository.ok_or_else(|| {
        let page = manifest.page.unwrap_or_default();
        let hint = format!("download the files of {page} and give their directory to --model");
        Error::request(format!("`{name}` is published in another layout, which is not downloaded"), hint)
    })?;
    download(&repository, on_progress)
}

#[cfg(feature = "hub")]
fn download(repository: &str, mut on_progress: impl FnMut(Progress) -> ControlFlow<()>) -> Result<PathBuf> {
    let settings = Settings::from_environment()?;
    Ok(download::download(&settings, repository, &mut on_progress)?)
}

#[cfg(not(feature = "hub"))]
fn download(_repository: &str, _on_progress: impl FnMut(Progress) -> ControlFlow<()>) -> Result<PathBuf> {
    Err(Error::request("this build cannot download", "build it with the feature `hub`"))
}

/// What a model in diffusers' layout lacks at `path`, if it lacks anything.
fn missing(path: &Path) -> Option<String> {
    let Ok(Layout::Diffusers(folder)) = Layout::detect(path) else { return Some("model_index.json".into()) };
    for name in NETWORKS {
        let Some(component) = folder.components.get(name) else {
            if OPTIONAL.contains(&name) {
                continue;
            }
            return Some(name.into());
        };
        let whole = |file: &PathBuf| match file.extension().and_then(|extension| extension.to_str()) {
            Some("json") => shard_paths(file).is_ok(),
            extension => extension == Some("safetensors"),
        };
        if component.config.is_none() || component.weights.is_empty() || !component.weights.iter().all(whole) {
            return Some(name.into());
        }
    }
    let tokenizer = "tokenizer/tokenizer.json";
    (!path.join(tokenizer).is_file()).then(|| tokenizer.into())
}

/// Where the hub and its cache are.
#[derive(Debug, PartialEq)]
struct Settings {
    cache: PathBuf,
    endpoint: String,
    token: Option<String>,
}

impl Settings {
    fn from_environment() -> std::result::Result<Self, HubError> {
        Self::read(|name| std::env::var_os(name), std::env::home_dir().as_deref())
    }

    /// As <https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables> has it.
    fn read(variable: impl Fn(&str) -> Option<OsString>, home: Option<&Path>) -> std::result::Result<Self, HubError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let path = |name: &str| {
            let path = PathBuf::from(set(name)?);
            match (path.strip_prefix("~"), home) {
                (Ok(rest), Some(home)) => Some(home.join(rest)),
                _ => Some(path),
            }
        };
        let caches = || path("XDG_CACHE_HOME").or_else(|| Some(home?.join(".cache")));
        let hub = path("HF_HOME").or_else(|| Some(caches()?.join("huggingface")));
        let cache = path("HF_HUB_CACHE").or_else(|| Some(hub.as_ref()?.join("hub"))).ok_or(HubError::NoCache)?;
        let token_file = path("HF_TOKEN_PATH").or_else(|| Some(hub.as_ref()?.join("token")));
        let saved = || std::fs::read_to_string(token_file?).ok();
        let token = text("HF_TOKEN").or_else(saved).map(|token| token.trim().to_string());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        Ok(Self {
            cache,
            endpoint: endpoint.trim_end_matches('/').to_string(),
            token: token.filter(|token| !token.is_empty()),
        })
    }
}

/// What the cache calls a repository's folder.
fn folder_name(repository: &str) -> String {
    format!("models--{}", repository.replace('/', "--"))
}

/// Whether a name from outside is one file name and nothing that leads elsewhere.
fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Settings {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        Settings::read(variable, Some(Path::new("/home/a"))).unwrap()
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_has_it() {
        assert_eq!(read(&[]).cache, Path::new("/home/a/.cache/huggingface/hub"));
        assert_eq!(read(&[("XDG_CACHE_HOME", "/x")]).cache, Path::new("/x/huggingface/hub"));
        assert_eq!(read(&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).cache, Path::new("/h/hub"));
        assert_eq!(read(&[("HF_HOME", "~/h")]).cache, Path::new("/home/a/h/hub"));
        assert_eq!(read(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")]).cache, Path::new("/c"));
        assert!(matches!(Settings::read(|_| None, None), Err(HubError::NoCache)));
    }

    #[test]
    fn the_endpoint_and_the_token_come_from_the_environment() {
        let plain = read(&[("HF_HOME", "/nowhere"), ("HF_TOKEN", "")]);
        assert_eq!((plain.endpoint.as_str(), plain.token), ("https://huggingface.co", None));
        let set = read(&[("HF_ENDPOINT", "http://mirror/"), ("HF_TOKEN", " hf_x\n")]);
        assert_eq!((set.endpoint.as_str(), set.token.as_deref()), ("http://mirror", Some("hf_x")));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        assert!(is_plain("model-00001-of-00002.safetensors") && is_plain("0fad780"));
        assert!(["", ".", "..", "a/b", "a\\b", "/a", "a b"].iter().all(|name| !is_plain(name)));
    }
}

//! The cache of the Hugging Face hub, in the layout of Python's `huggingface_hub`: each finds what the other has
//! downloaded.
//!
//! The hub cache is `models--OWNER--NAME/` with `blobs/HASH`, `snapshots/COMMIT/FILE` (links to blobs) and `refs/main`
//! (the commit): <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.
//!
//! The environment says where the cache is, as it does for every program that shares it: `HF_HUB_CACHE`, `HF_HOME`,
//! `XDG_CACHE_HOME`; for downloads also `HF_ENDPOINT`, `HF_TOKEN` and `HF_TOKEN_PATH`. [`Hub::from_environment`] is the
//! one place that reads it.
//!
//! The crate knows no model: the caller says which files of a repository it needs, and whether a directory has them.

#[cfg(feature = "download")]
mod download;
mod error;
#[cfg(feature = "download")]
mod fetch;

#[cfg(feature = "download")]
pub use download::{Selection, Wanted};
pub use error::{Error, Result};

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The progress of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The name of the file under way, in its repository.
    pub file: &'a str,
    /// Bytes that are in the cache, of all wanted files, including those of earlier downloads.
    pub done: u64,
    /// Bytes of all wanted files.
    pub total: u64,
}

/// The hub and its cache on this machine.
#[derive(Debug, PartialEq)]
pub struct Hub {
    cache: PathBuf,
    #[cfg_attr(not(feature = "download"), allow(dead_code, reason = "only downloads need it"))]
    endpoint: String,
    #[cfg_attr(not(feature = "download"), allow(dead_code, reason = "only downloads need it"))]
    token: Option<String>,
}

impl Hub {
    /// Returns the hub and the cache that the environment names, or the usual ones.
    ///
    /// # Errors
    /// [`Error::NoCache`].
    pub fn from_environment() -> Result<Self> {
        Self::read(|name| std::env::var_os(name), std::env::home_dir().as_deref())
    }

    /// Returns the directory of the newest downloaded commit of `repository`, which may be incomplete.
    pub fn snapshot(&self, repository: &str) -> Option<PathBuf> {
        let folder = self.cache.join(folder_name(repository));
        let commit = std::fs::read_to_string(folder.join("refs/main")).ok()?;
        let commit = commit.trim();
        is_plain(commit).then(|| folder.join("snapshots").join(commit))
    }

    /// Reads the variables of
    /// <https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables>.
    fn read(variable: impl Fn(&str) -> Option<OsString>, home: Option<&Path>) -> Result<Self> {
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
        let cache = path("HF_HUB_CACHE").or_else(|| Some(hub.as_ref()?.join("hub"))).ok_or(Error::NoCache)?;
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

/// Returns the name of a repository's folder in the cache.
fn folder_name(repository: &str) -> String {
    format!("models--{}", repository.replace('/', "--"))
}

/// Whether a name from outside is a single file name that cannot lead to another directory.
fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Hub {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        Hub::read(variable, Some(Path::new("/home/a"))).unwrap()
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_has_it() {
        assert_eq!(read(&[]).cache, Path::new("/home/a/.cache/huggingface/hub"));
        assert_eq!(read(&[("XDG_CACHE_HOME", "/x")]).cache, Path::new("/x/huggingface/hub"));
        assert_eq!(read(&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).cache, Path::new("/h/hub"));
        assert_eq!(read(&[("HF_HOME", "~/h")]).cache, Path::new("/home/a/h/hub"));
        assert_eq!(read(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")]).cache, Path::new("/c"));
        assert!(matches!(Hub::read(|_| None, None), Err(Error::NoCache)));
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

//! The cache of the Hugging Face hub, in the layout of Python's `huggingface_hub`: each finds what the other has
//! downloaded.
//!
//! The hub cache is `models--OWNER--NAME/` with `blobs/HASH`, `snapshots/COMMIT/FILE` (links to blobs) and `refs/main`
//! (the commit): <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.
//!
//! The environment says where the cache is, as it does for every program that shares it: `HF_HUB_CACHE`, `HF_HOME`,
//! `XDG_CACHE_HOME`; for downloads also `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`, certificates
//! (`SSL_CERT_FILE`, `SSL_CERT_DIR`) and proxies. [`Hub::from_environment`] is the one place that reads it.
//!
//! The crate knows no model: the caller says which files of a repository it needs, and whether a directory has them.

#[cfg(feature = "download")]
mod client;
#[cfg(feature = "download")]
mod download;
mod error;
#[cfg(feature = "download")]
mod fetch;

#[cfg(feature = "download")]
pub use download::{Selection, Wanted};
pub use error::{Error, Result, Trouble};

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
#[cfg_attr(not(feature = "download"), allow(dead_code, reason = "only downloads need most of it"))]
pub struct Hub {
    cache: PathBuf,
    endpoint: String,
    token: Option<Token>,
    /// The file that a token is read from where no variable has one.
    token_file: Option<PathBuf>,
    /// The variable that forbids the network.
    offline: Option<&'static str>,
    /// Files and folders with the certificates of trusted authorities, and the variables that name them.
    authorities: Vec<(&'static str, PathBuf)>,
    /// The variable that names a proxy; the client reads it itself.
    proxy: Option<&'static str>,
}

/// An access token, and the variable or file that it was read from.
#[derive(Debug, PartialEq)]
#[cfg_attr(not(feature = "download"), allow(dead_code, reason = "only downloads need it"))]
struct Token {
    text: String,
    from: String,
}

/// The folder of the cache that says which licences were accepted, in a file for each repository.
const LICENCES: &str = ".kinora-licences";

/// The variables that name a proxy, in the order in which they count.
const PROXIES: [&str; 6] = ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

impl Hub {
    /// Returns the hub and the cache that the environment names, or the usual ones.
    ///
    /// # Errors
    /// [`Error::NoCache`].
    pub fn from_environment() -> Result<Self> {
        Self::read(|name| std::env::var_os(name), std::env::home_dir().as_deref())
    }

    /// Returns the directories of the downloaded commits of `repository`, the likeliest first, as [`snapshots_in`] does.
    pub fn snapshots(&self, repository: &str) -> Vec<PathBuf> {
        snapshots_in(&self.cache.join(folder_name(repository)))
    }

    /// Deletes the repository from the cache, and returns its directory and its bytes; `None` if it is not there. `only_tell`
    /// deletes nothing.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, repository: &str, only_tell: bool) -> Result<Option<(PathBuf, u64)>> {
        let folder = self.cache.join(folder_name(repository));
        if !folder.is_dir() {
            return Ok(None);
        }
        let bytes = bytes_in(&folder);
        if !only_tell {
            std::fs::remove_dir_all(&folder).map_err(|source| Error::Io { path: folder.clone(), source })?;
        }
        Ok(Some((folder, bytes)))
    }

    /// Returns whether the licence called `licence` was accepted for `repository` on this machine.
    pub fn has_accepted(&self, repository: &str, licence: &str) -> bool {
        let accepted = std::fs::read_to_string(self.cache.join(LICENCES).join(folder_name(repository)));
        accepted.is_ok_and(|accepted| accepted.trim_end() == licence)
    }

    /// Writes down that the licence called `licence` is accepted for `repository`. Another licence has to be accepted anew.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn accept(&self, repository: &str, licence: &str) -> Result<()> {
        let (folder, io) = (self.cache.join(LICENCES), |path: &Path, source| Error::Io { path: path.into(), source });
        std::fs::create_dir_all(&folder).map_err(|source| io(&folder, source))?;
        let path = folder.join(folder_name(repository));
        std::fs::write(&path, format!("{licence}\n")).map_err(|source| io(&path, source))
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
        let named = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache = named.or_else(|| Some(hub.as_ref()?.join("hub"))).ok_or(Error::NoCache)?;
        let token_file = path("HF_TOKEN_PATH").or_else(|| Some(hub.as_ref()?.join("token")));
        let token = |text: &str, from: &str| Token { text: text.trim().to_string(), from: from.to_string() };
        let saved = || {
            let path = token_file.as_ref()?;
            Some(token(&std::fs::read_to_string(path).ok()?, &path.to_string_lossy()))
        };
        let token = text("HF_TOKEN").map(|text| token(&text, "HF_TOKEN")).or_else(saved);
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let is_on = |name: &&str| {
            let value = text(name).unwrap_or_default().to_ascii_uppercase();
            ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
        };
        let authorities = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(|name| Some((name, path(name)?)));
        Ok(Self {
            cache,
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(is_on),
            authorities: authorities.collect(),
            proxy: PROXIES.into_iter().find(|name| set(name).is_some()),
            endpoint: endpoint.trim_end_matches('/').to_string(),
            token: token.filter(|token| !token.text.is_empty()),
            token_file,
        })
    }
}

/// The bytes of all files in a folder; links count nothing.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(facts) if facts.is_dir() => bytes_in(&entry.path()),
        Ok(facts) if facts.is_file() => facts.len(),
        _ => 0,
    };
    entries.map(bytes).sum()
}

/// Returns the directories of the commits in `folder`, a repository's in the cache, any of which may be incomplete: first that
/// of `refs/main`, then the others, the newest first. Copies of a cache often lack `refs`.
pub fn snapshots_in(folder: &Path) -> Vec<PathBuf> {
    let main = std::fs::read_to_string(folder.join("refs/main")).unwrap_or_default();
    let entries = std::fs::read_dir(folder.join("snapshots")).into_iter().flatten().flatten();
    let is_main = |path: &Path| path.file_name().is_some_and(|name| name == main.trim());
    let written = |path: &Path| path.metadata().and_then(|facts| facts.modified()).ok();
    let mut snapshots: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    snapshots.sort_by_key(|path| std::cmp::Reverse((is_main(path), written(path), path.clone())));
    snapshots
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
        let token = Token { text: "hf_x".into(), from: "HF_TOKEN".into() };
        assert_eq!((set.endpoint.as_str(), set.token), ("http://mirror", Some(token)));
    }

    #[test]
    fn refusals_say_where_a_token_is_read_from() {
        let denied = |token: Option<&str>, token_file: Option<&str>| {
            let (address, token) = ("https://hub/a/b".into(), token.map(str::to_string));
            Error::Denied { address, status: 401, token, token_file: token_file.map(PathBuf::from) }.hint().unwrap()
        };
        let hint = denied(None, read(&[]).token_file.as_ref().and_then(|path| path.to_str()));
        assert!(hint.contains("set HF_TOKEN to an access token, or write one into `/home/a/.cache/huggingface/token`"));
        assert!(
            hint.ends_with("the licence may have to be accepted, too: open https://hub/a/b in a browser"),
            "{hint}"
        );
        assert!(denied(Some("HF_TOKEN"), Some("/t")).starts_with("check that the access token of HF_TOKEN is valid"));
        assert_eq!(read(&[("HF_TOKEN_PATH", "/t")]).token_file.as_deref(), Some(Path::new("/t")));
        let none = Hub::read(|name| (name == "HF_HUB_CACHE").then(|| "/c".into()), None).unwrap();
        assert_eq!(none.token_file, None);
    }

    #[test]
    fn licences_are_accepted_once_for_each_repository() {
        let folder = std::env::temp_dir().join(format!("kinora-licences-{}", std::process::id()));
        let hub = read(&[("HF_HUB_CACHE", folder.join("hub").to_str().unwrap())]);
        assert!(!hub.has_accepted("a/b", "one"));
        hub.accept("a/b", "one").unwrap();
        assert!(hub.has_accepted("a/b", "one") && !hub.has_accepted("a/c", "one"));
        assert!(!hub.has_accepted("a/b", "another"), "it has to be accepted anew");
        hub.accept("a/b", "another").unwrap();
        assert!(hub.has_accepted("a/b", "another") && !hub.has_accepted("a/b", "one"));
        assert_eq!(hub.snapshots("a/b"), Vec::<PathBuf>::new());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_keeps_from_the_network_is_read() {
        assert_eq!(read(&[("HUGGINGFACE_HUB_CACHE", "/c"), ("HF_HOME", "/h")]).cache, Path::new("/c"));
        assert_eq!(read(&[("HF_HUB_OFFLINE", "1")]).offline, Some("HF_HUB_OFFLINE"));
        assert_eq!(read(&[("TRANSFORMERS_OFFLINE", "yes")]).offline, Some("TRANSFORMERS_OFFLINE"));
        assert_eq!(read(&[("HF_HUB_OFFLINE", "0")]).offline, None);
    }

    #[test]
    fn the_snapshot_of_the_main_reference_comes_first_and_then_the_newest() {
        let folder = std::env::temp_dir().join(format!("kinora-snapshots-{}", std::process::id()));
        let names = || {
            let found = snapshots_in(&folder);
            found.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        for (age, name) in [(300, "a"), (100, "b"), (200, "c")] {
            let path = folder.join("snapshots").join(name);
            std::fs::create_dir_all(&path).unwrap();
            let time = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
            std::fs::File::open(&path).unwrap().set_modified(time).unwrap();
        }
        assert_eq!(names(), ["b", "c", "a"]);
        std::fs::create_dir_all(folder.join("refs")).unwrap();
        std::fs::write(folder.join("refs/main"), "c\n").unwrap();
        assert_eq!(names(), ["c", "b", "a"]);
        std::fs::write(folder.join("refs/main"), "../elsewhere").unwrap();
        assert_eq!(names(), ["b", "c", "a"]);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(names().is_empty());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        assert!(is_plain("model-00001-of-00002.safetensors") && is_plain("0fad780"));
        assert!(["", ".", "..", "a/b", "a\\b", "/a", "a b"].iter().all(|name| !is_plain(name)));
    }
}

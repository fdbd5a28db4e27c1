//! Downloads one file over HTTP: continues where an earlier download stopped, and checks size and hash.

use super::download::{RemoteFile, io};
use crate::{Error, Hub, Result};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::{Agent, Body};

/// The waiting times before the next attempt, after attempts that brought no bytes.
const WAITS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// A connection that is silent for this long is given up.
const SILENCE: Duration = Duration::from_secs(20);
/// Bytes per read.
const CHUNK: usize = 1 << 18;
/// The largest answer about a repository that is read, in bytes.
const LONGEST_TEXT: u64 = 64 << 20;

/// Sends requests to the hub.
pub(super) struct Client<'a> {
    agent: Agent,
    hub: &'a Hub,
}

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a Hub) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Large files are on other hosts, which must not see the token.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .accept_encoding("identity")
            .user_agent(concat!("kinora/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .build();
        Self { agent: config.new_agent(), hub }
    }

    /// Returns the text of a short answer.
    pub(super) fn text(&self, address: &str) -> Result<String> {
        let mut response = self.get(address, 0)?;
        let text = response.body_mut().with_config().limit(LONGEST_TEXT).read_to_string();
        text.map_err(|error| connection(address, &error))
    }

    /// Requests the bytes from `start` to the end.
    fn get(&self, address: &str, start: u64) -> Result<Response<Body>> {
        let mut request = self.agent.get(address);
        if let Some(token) = &self.hub.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        let response = request.call().map_err(|error| connection(address, &error))?;
        let address = address.to_string();
        match response.status().as_u16() {
            200 | 206 => Ok(response),
            status @ (401 | 403) => Err(Error::Denied { address, status, with_token: self.hub.token.is_some() }),
            404 => Err(Error::NotFound { address }),
            status => Err(Error::Status { address, status }),
        }
    }
}

/// Returns the path of a blob that is not complete yet.
pub(super) fn unfinished(blob: &Path) -> PathBuf {
    blob.with_extension("incomplete")
}

/// Downloads `file` into `blob`. `on_progress` gets the number of its bytes that are on disk, and an error from it
/// stops the download.
pub(super) fn fetch(
    client: &Client,
    address: &str,
    file: &RemoteFile,
    blob: &Path,
    lock: &Path,
    on_progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let path = unfinished(blob);
    let locked = File::create(lock).map_err(|source| io(lock, source))?;
    if let Err(std::fs::TryLockError::WouldBlock) = locked.try_lock() {
        return Err(Error::Busy { file: file.name.clone() });
    }
    let mut part = Part::open(&path, file, on_progress)?;
    let mut fruitless = 0;
    while part.size < file.size {
        let before = part.size;
        if let Err(error) = part.continue_from(client, address, file, on_progress) {
            let given_up = part.size == before && fruitless == WAITS.len();
            if given_up || !may_pass(&error) {
                return Err(error);
            }
        }
        if part.size > before {
            fruitless = 0;
        } else {
            wait(WAITS[fruitless], part.size, on_progress)?;
            fruitless += 1;
        }
    }
    let damage = part.damage(file);
    drop(part);
    if let Some(reason) = damage {
        std::fs::remove_file(&path).map_err(|source| io(&path, source))?;
        return Err(Error::Damaged { file: file.name.clone(), reason });
    }
    kinora_files::rename(&path, blob).map_err(|source| io(blob, source))
}

/// The part of a file that has arrived.
struct Part {
    path: PathBuf,
    file: File,
    size: u64,
    hasher: Hasher,
}

impl Part {
    /// Opens and hashes what an earlier download has left.
    fn open(path: &Path, file: &RemoteFile, on_progress: &mut dyn FnMut(u64) -> Result<()>) -> Result<Self> {
        let options = OpenOptions::new().read(true).append(true).create(true).clone();
        let opened = options.open(path).map_err(|source| io(path, source))?;
        let mut part = Self { path: path.to_path_buf(), file: opened, size: 0, hasher: Hasher::new(file) };
        let mut buffer = vec![0; CHUNK];
        loop {
            on_progress(part.size.min(file.size))?;
            let count = part.file.read(&mut buffer).map_err(|source| io(path, source))?;
            if count == 0 {
                return Ok(part);
            }
            part.hasher.update(&buffer[..count]);
            part.size += count as u64;
        }
    }

    /// Appends the bytes of one connection until it ends.
    fn continue_from(
        &mut self,
        client: &Client,
        address: &str,
        file: &RemoteFile,
        on_progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let response = client.get(address, self.size)?;
        // A server without range requests sends the file from its beginning.
        let mut skip = if response.status().as_u16() == 206 { 0 } else { self.size };
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; CHUNK];
        while self.size < file.size {
            let count = body.read(&mut buffer).map_err(|error| connection(address, &error))?;
            if count == 0 {
                let reason = format!("it ended after {} of {} bytes", self.size, file.size);
                return Err(Error::Connection { address: address.into(), reason });
            }
            let known = skip.min(count as u64);
            skip -= known;
            let new = &buffer[known as usize..count];
            self.file.write_all(new).map_err(|source| io(&self.path, source))?;
            self.hasher.update(new);
            self.size += new.len() as u64;
            on_progress(self.size.min(file.size))?;
        }
        Ok(())
    }

    /// Returns what is wrong with the complete file, if anything.
    fn damage(&mut self, file: &RemoteFile) -> Option<String> {
        if self.size != file.size {
            return Some(format!("it has {} bytes instead of {}", self.size, file.size));
        }
        let found = self.hasher.clone().hex();
        (found != file.hash).then(|| format!("its hash is {found} instead of {}", file.hash))
    }
}

/// The two kinds of hashes that the hub gives.
#[derive(Clone)]
enum Hasher {
    /// SHA-256, for files in large file storage.
    Sha256(Sha256),
    /// Git's own hash, for all other files: SHA-1 of `blob SIZE\0` and the content.
    Git(Sha1),
}

impl Hasher {
    fn new(file: &RemoteFile) -> Self {
        if file.hash.len() == 64 {
            return Self::Sha256(Sha256::new());
        }
        Self::Git(Sha1::new_with_prefix(format!("blob {}\0", file.size)))
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
        }
    }

    fn hex(self) -> String {
        match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Git(hasher) => hex(&hasher.finalize()),
        }
    }
}

/// Whether another attempt may succeed.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Connection { .. } => true,
        Error::Status { status, .. } => matches!(status, 408 | 429 | 500..),
        _ => false,
    }
}

fn wait(time: Duration, size: u64, on_progress: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
    let slice = Duration::from_millis(100);
    for _ in 0..time.as_millis() / slice.as_millis() {
        on_progress(size)?;
        std::thread::sleep(slice);
    }
    Ok(())
}

fn connection(address: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Connection { address: address.into(), reason: error.to_string() }
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

//! Downloads one file over HTTP: continues where an earlier download stopped, and checks size and hash.

use super::client::{Client, Patience};
use super::download::{RemoteFile, io};
use crate::{Error, Result};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use ureq::Body;
use ureq::http::Response;

/// Bytes per read.
const CHUNK: usize = 1 << 18;
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
    // What was flipped on the way once is likely to arrive whole the next time.
    for is_last in [false, true] {
        let Some(reason) = fetch_part(client, address, file, &path, on_progress)? else { break };
        std::fs::remove_file(&path).map_err(|source| io(&path, source))?;
        if is_last {
            return Err(Error::Damaged { file: file.name.clone(), reason });
        }
    }
    kinora_files::rename(&path, blob).map_err(|source| io(blob, source))
}

/// Downloads what is missing of `file` in `path`, and returns what is wrong with it, if anything.
fn fetch_part(
    client: &Client,
    address: &str,
    file: &RemoteFile,
    path: &Path,
    on_progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Option<String>> {
    let mut part = Part::open(path, file, on_progress)?;
    let mut patience = Patience::default();
    while part.size < file.size {
        let before = part.size;
        let outcome = part.continue_from(client, address, file, on_progress);
        if part.size > before {
            patience.restore();
        }
        if let Err(error) = outcome {
            let size = part.size;
            patience.after(error, &mut || on_progress(size))?;
        }
    }
    Ok(part.damage(file))
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
        let start = start_of(&response, self.size);
        let mut skip = self.size.checked_sub(start).ok_or_else(|| Error::BadAnswer {
            address: address.into(),
            reason: format!("it sends the bytes from {start} on, {} were asked for", self.size),
        })?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; CHUNK];
        while self.size < file.size {
            let count = body.read(&mut buffer).map_err(|error| client.connection(address, &error))?;
            if count == 0 {
                let reason = format!("it ended after {} of {} bytes", self.size, file.size);
                return Err(client.connection(address, &reason));
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

/// The position of the answer's first byte in the file: a server without range requests sends it from its beginning, and some
/// send another range than they were asked for.
fn start_of(response: &Response<Body>, asked: u64) -> u64 {
    if response.status().as_u16() != 206 {
        return 0;
    }
    let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    start.unwrap_or(asked)
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

//! A Hugging Face hub on 127.0.0.1, as far as `kinora pull` asks one: the listing of a repository, its small files,
//! and its large ones on a second host to which it redirects. It counts what it sends, and fails on demand.

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The repository's only commit.
pub const COMMIT: &str = "0fad780a534b6463e45facd96134c9f345acfa5b";

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Every request gets this status, and may be repeated at once.
    Status(u16),
    /// The first requests of each address get this status.
    Passing { status: u16, times: usize },
    /// Every answer is a page of a captive portal.
    Nonsense,
    /// One bit of the file is wrong.
    Damage { file: &'static str },
    /// One bit of the file is wrong when it is sent first.
    DamageOnce { file: &'static str },
    /// The file is said to be packed.
    Packed { file: &'static str },
    /// A range of the file begins so many bytes before (below 0) or after the one that was asked for.
    OtherRange { file: &'static str, by: i64 },
    /// After so many bytes nothing more comes, but the connection stays.
    Stall { file: &'static str, after: u64 },
    /// Every connection ends after so many bytes.
    Cut { file: &'static str, after: u64 },
    /// A byte now and then.
    Slow { file: &'static str },
    /// Ranges are ignored.
    NoRanges,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// With the query.
    pub path: String,
    headers: BTreeMap<String, String>,
}

impl Request {
    /// A header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// The server; it listens until the test process ends.
pub struct Hub {
    /// For `HF_ENDPOINT`.
    pub address: String,
    state: Arc<Mutex<State>>,
}

struct State {
    repository: String,
    address: String,
    files: BTreeMap<String, Vec<u8>>,
    fault: Fault,
    requests: Vec<Request>,
    /// Bytes of content by file.
    sent: BTreeMap<String, u64>,
}

impl Hub {
    /// Serves the files below `folder` as `repository`.
    pub fn serve(repository: &str, folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let mut files = BTreeMap::new();
        collect(folder, "", &mut files);
        let state = Arc::new(Mutex::new(State {
            repository: repository.to_string(),
            address: address.clone(),
            files,
            fault: Fault::None,
            requests: Vec::new(),
            sent: BTreeMap::new(),
        }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                // A client that goes away in the middle is part of the tests.
                std::thread::spawn(move || drop(answer(&state, stream)));
            }
        });
        Self { address, state }
    }

    pub fn add(&mut self, name: &str, content: Vec<u8>) {
        self.state().files.insert(name.to_string(), content);
    }

    pub fn remove(&mut self, name: &str) {
        self.state().files.remove(name).unwrap();
    }

    pub fn fail(&self, fault: Fault) {
        self.state().fault = fault;
    }

    pub fn file(&self, name: &str) -> Vec<u8> {
        self.state().files[name].clone()
    }

    /// The name of the file's blob.
    pub fn hash(&self, name: &str) -> String {
        hash(name, &self.state().files[name])
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// Files of which content was sent, sorted.
    pub fn fetched(&self) -> Vec<String> {
        self.state().sent.keys().cloned().collect()
    }

    /// Bytes of the file that were sent.
    pub fn sent(&self, name: &str) -> u64 {
        self.state().sent.get(name).copied().unwrap_or(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn listing(&self) -> String {
        let sibling = |(name, content): (&String, &Vec<u8>)| {
            let lfs = is_large(name)
                .then(|| json!({"sha256": hash(name, content), "size": content.len(), "pointerSize": 134}));
            json!({"rfilename": name, "size": content.len(), "blobId": git_hash(content), "lfs": lfs})
        };
        let siblings: Vec<_> = self.files.iter().map(sibling).collect();
        json!({"id": self.repository, "sha": COMMIT, "siblings": siblings}).to_string()
    }
}

fn answer(state: &Mutex<State>, mut stream: TcpStream) -> std::io::Result<()> {
    let request = read_request(&stream)?;
    let (fault, address, repository) = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        (state.fault, state.address.clone(), state.repository.clone())
    };
    match fault {
        Fault::Status(status) => return refuse(&mut stream, status),
        Fault::Passing { status, times } => {
            let same = |earlier: &&Request| earlier.path == request.path;
            if state.lock().unwrap().requests.iter().filter(same).count() <= times {
                return refuse(&mut stream, status);
            }
        }
        Fault::Nonsense => return whole(&mut stream, "<html>Please log in to this network</html>"),
        _ => {}
    }
    if request.path == format!("/api/models/{repository}/revision/main?blobs=true") {
        let listing = state.lock().unwrap().listing();
        return whole(&mut stream, &listing);
    }
    let by_hash = request.path.strip_prefix("/cdn/");
    let by_name = request.path.strip_prefix(&format!("/{repository}/resolve/{COMMIT}/"));
    let found =
        state.lock().unwrap().files.iter().map(|(name, content)| (name.clone(), content.clone())).find(
            |(name, content)| by_name == Some(name) || by_hash.is_some_and(|wanted| wanted == hash(name, content)),
        );
    let Some((name, content)) = found else { return write!(stream, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n") };
    if by_name.is_some() && is_large(&name) {
        let (hash, size) = (hash(&name, &content), content.len());
        // Another way to write 127.0.0.1, so another host for whoever compares names.
        let address = address.replace("127.0.0.1", "127.1");
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: {address}/cdn/{hash}\r\nX-Repo-Commit: {COMMIT}\r\n\
             X-Linked-Etag: \"{hash}\"\r\nX-Linked-Size: {size}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    send(state, &mut stream, &request, fault, &name, content)
}

/// Sends the content from the start of the range on, or what the fault leaves of it.
fn send(
    state: &Mutex<State>,
    stream: &mut TcpStream,
    request: &Request,
    fault: Fault,
    name: &str,
    mut content: Vec<u8>,
) -> std::io::Result<()> {
    let (etag, size) = (hash(name, &content), content.len());
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let mut start: usize = range.filter(|_| fault != Fault::NoRanges).unwrap_or(0);
    match fault {
        Fault::OtherRange { file, by } if file == name && start > 0 => start = start.saturating_add_signed(by as isize),
        _ => {}
    }
    let packed = matches!(fault, Fault::Packed { file } if file == name);
    let encoding = if packed { "Content-Encoding: gzip\r\n" } else { "" };
    let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{encoding}Content-Length: {}\r\nContent-Range: bytes {start}-{}/{size}\r\nETag: \"{etag}\"\r\n\
         X-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\r\n",
        size - start,
        size - 1
    )?;
    let count = |bytes: u64| *state.lock().unwrap().sent.entry(name.to_string()).or_default() += bytes;
    let mut end = size;
    match fault {
        Fault::Damage { file } if file == name => content[size / 2] ^= 1,
        Fault::DamageOnce { file } if file == name && !state.lock().unwrap().sent.contains_key(name) => {
            content[size / 2] ^= 1;
        }
        Fault::Stall { file, after } | Fault::Cut { file, after } if file == name => {
            end = size.min(start + after as usize);
        }
        Fault::Slow { file } if file == name => {
            for byte in &content[start..] {
                stream.write_all(&[*byte])?;
                count(1);
                std::thread::sleep(Duration::from_millis(20));
            }
            return Ok(());
        }
        _ => {}
    }
    stream.write_all(&content[start..end])?;
    count((end - start) as u64);
    if matches!(fault, Fault::Stall { .. }) && end < size {
        // Until the client goes away.
        stream.read_exact(&mut [0])?;
    }
    Ok(())
}

fn refuse(stream: &mut TcpStream, status: u16) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} No\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn whole(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len())
}

fn read_request(stream: &TcpStream) -> std::io::Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_string();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_string());
    }
    Ok(Request { path, headers })
}

/// Which files the hub keeps in large file storage.
fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors")
}

fn hash(name: &str, content: &[u8]) -> String {
    if is_large(name) { hex(&Sha256::digest(content)) } else { git_hash(content) }
}

fn git_hash(content: &[u8]) -> String {
    let hasher = Sha1::new_with_prefix(format!("blob {}\0", content.len()));
    hex(&hasher.chain_update(content).finalize())
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
}

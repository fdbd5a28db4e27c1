//! A receiver of webhooks: it takes requests, keeps them, and answers as it is told.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long an event may take: more than the first retry.
const PATIENCE: Duration = Duration::from_mins(2);

/// A request that came.
#[derive(Debug)]
pub struct Event {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// Which of its signatures are made with the secret, as Standard Webhooks says.
    pub fn signed_with(&self, secret: &str) -> Vec<bool> {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("a prefix")).expect("base64");
        let body = String::from_utf8(self.body.clone()).expect("text");
        let text = format!("{}.{}.{body}", self.id(), self.headers["webhook-timestamp"]);
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
        mac.update(text.as_bytes());
        let own = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        self.headers["webhook-signature"].split(' ').map(|signature| signature == own).collect()
    }
}

/// The receiver.
pub struct Receiver {
    pub url: String,
    events: mpsc::Receiver<Event>,
    answers: Arc<Mutex<VecDeque<String>>>,
}

impl Receiver {
    /// Listens on an address of this machine.
    pub fn start(host: &str) -> Self {
        let listener = TcpListener::bind((host, 0)).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, events) = mpsc::channel();
        let answers = Arc::<Mutex<VecDeque<String>>>::default();
        let own = Arc::clone(&answers);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(event) = read(&stream) else { continue };
                let answer = own.lock().expect("answers").pop_front();
                if sender.send(event).is_err() {
                    return;
                }
                let answer = answer.unwrap_or_else(|| "HTTP/1.1 204 No Content".into());
                if answer.is_empty() {
                    std::mem::forget(stream); // a receiver that never answers
                    continue;
                }
                let _ = (&stream)
                    .write_all(format!("{answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes());
            }
        });
        Self { url, events, answers }
    }

    /// Answers the next requests so, in this order, each a status line with headers; nothing is no answer at all.
    pub fn answer(&self, next: &[&str]) {
        self.answers.lock().expect("answers").extend(next.iter().map(|answer| (*answer).to_string()));
    }

    /// The next request.
    pub fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no event: {error}"))
    }

    /// Whether nothing has come that was not taken.
    pub fn is_silent(&self) -> bool {
        matches!(self.events.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout))
    }
}

fn read(stream: &TcpStream) -> std::io::Result<Event> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_string();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        // A server that was killed sends no end.
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_string());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Event { path, headers, body })
}

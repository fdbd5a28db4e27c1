//! A server in a directory of its own, and requests to it.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// A server that runs; it is killed when this is dropped.
pub struct Served {
    process: Child,
    pub port: u16,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of an error in OpenAI's shape.
    pub fn code(&self) -> String {
        let error = &self.json()["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{self:?}");
        error["code"].as_str().unwrap_or_default().to_string()
    }
}

impl Answer {
    /// Reads an answer, after which the server closes.
    pub fn read(stream: TcpStream) -> std::io::Result<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other(format!("no status: {line:?}")))?;
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_string());
        }
        let mut body = Vec::new();
        let _ = reader.read_to_end(&mut body);
        Ok(Self { status, headers, body })
    }
}

impl Served {
    /// Starts a server with the data in `data`.
    pub fn start(data: &Path, more: &[&str]) -> Self {
        Self::try_start(data, more).unwrap_or_else(|message| panic!("{message}"))
    }

    /// Starts a server, or returns what it said.
    pub fn try_start(data: &Path, more: &[&str]) -> Result<Self, String> {
        let process = Command::new(kinora_tests::binary())
            .args(["serve", "--port", "0", "--device", "cpu", "--threads", "1", "--data"])
            .arg(data)
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // From here on it is ended with this, whatever happens.
        let mut served = Self { process, port: 0 };
        let mut said = BufReader::new(served.process.stderr.take().expect("a pipe"));
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if said.read_line(&mut line).expect("text") == 0 {
                return Err(text);
            }
            text.push_str(&line);
            if let Some(url) = line.trim().strip_prefix("Kinora is at http://") {
                let port = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
                // Nobody else reads what it says.
                std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
                served.port = port;
                return Ok(served);
            }
        }
    }

    /// Ends it at once.
    pub fn kill(mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Sends SIGTERM, and waits for its end; returns whether it ended well.
    pub fn end(mut self) -> bool {
        let id = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("kill is there");
        self.process.wait().is_ok_and(|status| status.success())
    }

    /// The processes that it started.
    pub fn workers(&self) -> Vec<u32> {
        let children = format!("/proc/{0}/task", self.process.id());
        let tasks = std::fs::read_dir(children).into_iter().flatten().flatten();
        let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
    }

    /// Asks with these headers alone, beside the body's length.
    pub fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_raw(method, path, headers, body).expect("an answer")
    }

    fn try_raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        stream.write_all((head + "\r\n").as_bytes())?;
        // A server that refuses a long body may close before it has read all of it.
        let _ = stream.write_all(body);
        Answer::read(stream)
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Opens a connection, and sends `text` with the server's name in the place of HOST.
    pub fn socket(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.write_all(text.replace("HOST", &self.host()).as_bytes()).expect("it is sent");
        stream
    }

    /// The resident bytes of the server alone, and the most of them since `forget`.
    pub fn memory(&self) -> [u64; 2] {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("Linux");
        ["VmRSS:", "VmHWM:"].map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
            line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
        })
    }

    /// Forgets the most of the resident bytes so far.
    pub fn forget(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").expect("Linux");
    }

    /// Waits until `is`, which is asked again and again.
    pub fn wait(what: &str, is: impl Fn() -> bool) {
        let start = Instant::now();
        while !is() {
            assert!(start.elapsed() < PATIENCE, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks as a program does.
    pub fn ask(&self, method: &str, path: &str, more: &[(&str, &str)], body: &[u8]) -> Answer {
        let host = self.host();
        self.raw(method, path, &[&[("Host", host.as_str())], more].concat(), body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    /// Sends a form; a value with a file name is a file.
    pub fn form(&self, path: &str, fields: &[(&str, Option<&str>, &[u8])], more: &[(&str, &str)]) -> Answer {
        let mut body = Vec::new();
        for (name, file, value) in fields {
            let file = file.map_or_else(String::new, |file| format!("; filename=\"{file}\""));
            body.extend(format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes());
            body.extend(*value);
            body.extend(b"\r\n");
        }
        body.extend(b"--edge--\r\n");
        let kind = ("Content-Type", "multipart/form-data; boundary=edge");
        self.ask("POST", path, &[&[kind], more].concat(), &body)
    }

    /// The clip when it is finished.
    pub fn finished(&self, id: &str) -> Value {
        self.until(id, |clip| {
            ["succeeded", "failed", "cancelled"].contains(&clip["status"].as_str().unwrap_or_default())
        })
    }

    /// The clip when it is as `is` wants it.
    pub fn until(&self, id: &str, is: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let clip = self.get(&format!("/api/clips/{id}")).json();
            if is(&clip) {
                return clip;
            }
            assert!(start.elapsed() < PATIENCE, "{clip}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A small request.
pub fn small(seed: u64) -> Value {
    serde_json::json!({
        "prompt": "a red ball rolls over a meadow", "width": 32, "height": 48, "frames": 5, "sampling": {"steps": 3},
        "seed": seed.to_string(),
    })
}

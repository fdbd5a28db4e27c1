//! What a client may hold: connections, storage, and the server's patience.

use super::guarded::key;
use super::served::{Answer, Served};
use serde_json::json;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// The files in a folder of the data directory.
fn files(data: &Path, folder: &str) -> usize {
    std::fs::read_dir(data.join(folder)).expect("a folder").count()
}

fn picture() -> Vec<u8> {
    kinora_media::Picture::new(64, 64, vec![90; 64 * 64 * 3]).and_then(|picture| picture.png_bytes()).expect("a PNG")
}

#[test]
fn who_is_slow_is_left() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let head = "POST /api/files HTTP/1.1\r\nHost: HOST\r\nContent-Type: multipart/form-data; boundary=edge\r\n";
    let json =
        "POST /api/plan HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{";
    let form = "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx";
    let openings = [
        ("nothing at all", String::new(), None),
        ("half a head", "GET /api/me HTTP/1.1\r\nHo".to_string(), None),
        ("a body of JSON", json.to_string(), Some(408)),
        ("a form", format!("{head}Content-Length: 5000\r\n\r\n{form}"), Some(408)),
        (
            "a form in pieces",
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{form}\r\n", form.len()),
            Some(408),
        ),
    ];
    let start = Instant::now();
    std::thread::scope(|scope| {
        for (what, text, status) in openings {
            let mut stream = server.socket(&text);
            scope.spawn(move || {
                let mut dripping = stream.try_clone().expect("the same connection");
                let is_chunked = text.contains("chunked");
                // A byte a second, until the server has had enough.
                std::thread::spawn(move || {
                    let drop: &[u8] = if is_chunked { b"1\r\nx\r\n" } else { b"x" };
                    while text.ends_with(['x', '{', 'o']) && dripping.write_all(drop).is_ok() {
                        std::thread::sleep(Duration::from_secs(1));
                    }
                });
                match status {
                    None => {
                        let mut said = Vec::new();
                        let _ = stream.read_to_end(&mut said);
                        let said = String::from_utf8_lossy(&said).into_owned();
                        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{what}: {said}");
                    }
                    Some(status) => {
                        let answer = Answer::read(stream).unwrap_or_else(|error| panic!("{what}: {error}"));
                        assert_eq!((answer.status, answer.code().as_str()), (status, "request_timeout"), "{what}");
                    }
                }
            });
        }
    });
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
    Served::wait("what was sent of a file goes with it", || files(data.path(), "uploads") == 0);
}

#[test]
fn too_many_connections_are_told_so() {
    let data = tempfile::tempdir().expect("a directory");
    let config = data.path().join("config.toml");
    std::fs::write(&config, "connections = 3\n").expect("a file");
    let server = Served::start(data.path(), &["--config", &config.to_string_lossy()]);
    let mut held: Vec<_> = (0..3).map(|_| server.socket("")).collect();
    // The server has to have taken them first.
    Served::wait("no connection is left", || server.get("/api/me").status == 503);
    let refused = server.get("/api/me");
    assert_eq!((refused.code().as_str(), refused.headers["retry-after"].as_str()), ("too_many_connections", "1"));
    held.pop();
    Served::wait("a connection that was given back", || server.get("/api/me").status == 200);
}

#[test]
fn a_full_quota_is_said_before_the_upload() {
    let data = tempfile::tempdir().expect("a directory");
    let config = data.path().join("config.toml");
    let tier = "credits = \"unlimited\"\nrunning = 1\nwaiting = 9\nlongest_seconds = 9.0\nstorage = 100000\n";
    let tiers = format!("local_tier = \"a\"\ndefault_tier = \"a\"\n[tiers.a]\n{tier}");
    std::fs::write(&config, tiers).expect("a file");
    let server = Served::start(data.path(), &["--config", &config.to_string_lossy()]);
    let head = "POST /api/files HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=edge\r\n";
    let form = "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx";
    // Nothing of the file is sent: the answer comes for what is announced.
    let answer =
        Answer::read(server.socket(&format!("{head}Content-Length: 150000\r\n\r\n{form}"))).expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (429, "storage_quota"), "{answer:?}");
    assert_eq!(answer.headers["x-should-retry"], "false");
    // One that announces nothing is stopped where the room ends.
    let mut stream = server.socket(&format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{form}\r\n", form.len()));
    for _ in 0..20 {
        let _ = stream.write_all(format!("2000\r\n{}\r\n", "x".repeat(0x2000)).as_bytes());
    }
    assert_eq!(Answer::read(stream).expect("an answer").code(), "storage_quota");
    // Uploads on their way count.
    let first = server.socket(&format!("{head}Content-Length: 90000\r\n\r\n{form}"));
    Served::wait("the first is on its way", || files(data.path(), "uploads") == 1);
    let second = Answer::read(server.socket(&format!("{head}Content-Length: 20000\r\n\r\n{form}"))).expect("an answer");
    assert_eq!(second.code(), "storage_quota");
    assert_eq!(server.form("/api/files", &[("file", Some("a"), &picture())], &[]).status, 201, "a small one has room");
    drop(first);
    Served::wait("whoever goes leaves nothing", || files(data.path(), "uploads") == 0);
}

#[test]
fn uploads_wait_for_their_turn() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let head = "POST /api/files HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=edge\r\nContent-Length: 2000000\r\n\r\n";
    let form = "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx";
    let held: Vec<_> = (0..4).map(|_| server.socket(&format!("{head}{form}"))).collect();
    Served::wait("four are on their way", || files(data.path(), "uploads") == 4);
    let fifth = server.socket(&format!("{head}{form}"));
    assert_eq!(
        server.form("/api/files", &[("file", Some("a"), &picture())], &[]).status,
        201,
        "a short one needs no turn"
    );
    assert_eq!(files(data.path(), "uploads"), 4, "nothing of the fifth is read");
    let refused = Answer::read(fifth).expect("an answer");
    assert_eq!((refused.status, refused.code().as_str()), (429, "too_many_uploads"));
    assert_eq!(refused.headers["retry-after"], "5");
    drop(held);
    Served::wait("they have gone", || files(data.path(), "uploads") == 0);
    let _next = server.socket(&format!("{head}{form}"));
    Served::wait("they gave their turns back", || files(data.path(), "uploads") == 1);
}

#[test]
fn refused_requests_leave_no_uploads() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let text = |name: &'static str, value: &'static [u8]| (name, None, value);
    let picture = picture();
    let image = ("input_reference", Some("a.png"), &picture[..]);
    let many = vec![
        ("/v1/videos", vec![text("prompt", b"x"), image, text("num_inference_steps", b"100000")]),
        ("/v1/videos", vec![image, text("prompt", b"x"), text("model", b"sora-2")]),
        ("/v1/videos", vec![image, text("prompt", b"x"), text("lora", b"y")]),
        ("/v1/videos", vec![image, text("prompt", b"x"), ("unknown", Some("b.png"), &picture[..])]),
        ("/v1/videos", vec![image, image, text("prompt", b"x")]),
        ("/v1/videos/edits", vec![text("prompt", b"x"), image]),
        ("/api/files", vec![("file", Some("a.png"), &picture[..]), text("more", b"x")]),
    ];
    for (path, fields) in many {
        let answer = server.form(path, &fields, &[]);
        assert!((400..500).contains(&answer.status), "{answer:?}");
        Served::wait("nothing is left", || {
            server.get("/api/files").json()["files"] == json!([])
                && files(data.path(), "files") + files(data.path(), "uploads") == 0
        });
    }
    let url = format!("data:image/png;base64,{}", base64(&picture));
    let answer = server.post("/v1/videos", &json!({"prompt": "x", "input_reference": url, "num_inference_steps": 0}));
    assert_eq!(answer.status, 400, "{answer:?}");
    Served::wait("nothing is left", || files(data.path(), "files") == 0);
    // What is sent again is done once, and kept once.
    let fields = [text("prompt", b"x"), image, text("size", b"32x48"), text("num_frames", b"5"), text("seed", b"1")];
    let again = [("Idempotency-Key", "one")];
    let first = server.form("/v1/videos", &fields, &again);
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(server.form("/v1/videos", &fields, &again).headers["idempotent-replayed"], "true");
    Served::wait("the second copy goes", || files(data.path(), "files") == 1);
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = |piece: &[u8]| {
        let bits = piece.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - piece.len()));
        let letter = |place: usize| char::from(LETTERS[(bits >> (18 - 6 * place)) as usize & 63]);
        (0..4).map(|place| if place > piece.len() { '=' } else { letter(place) }).collect::<String>()
    };
    bytes.chunks(3).map(letters).collect()
}

#[test]
fn what_a_key_has_opened_ends_with_it() {
    let data = tempfile::tempdir().expect("a directory");
    let folder = data.path().to_string_lossy().into_owned();
    let anna = key(data.path(), "anna", &[]);
    let server = Served::start(data.path(), &[]);
    let head = format!("HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer {anna}\r\n");
    let mut stream = server.socket(&format!("GET /api/events {head}\r\n"));
    let mut start = [0; 400];
    stream.read_exact(&mut start).expect("a snapshot");
    let form = "Content-Type: multipart/form-data; boundary=edge\r\nContent-Length: 5000\r\n\r\n--edge\r\n";
    let upload = server.socket(&format!("POST /api/files {head}{form}"));
    let listed = kinora_tests::kinora(&["keys", "list", "--data", &folder], Path::new("."));
    let own = listed.stdout.lines().find(|line| line.contains("anna")).and_then(|line| line.split(' ').next());
    kinora_tests::kinora(&["keys", "revoke", own.expect("the key's id"), "--data", &folder], Path::new("."));
    let revoked = Instant::now();
    let _ = stream.read_to_end(&mut Vec::new());
    assert!(revoked.elapsed() < Duration::from_secs(10), "the stream went on for {:?}", revoked.elapsed());
    assert_eq!(Answer::read(upload).expect("an answer").status, 401, "and so does an upload");
}

#[test]
fn a_stream_without_a_key_ends_when_there_are_keys() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let mut stream = server.socket("GET /api/events HTTP/1.1\r\nHost: HOST\r\n\r\n");
    stream.read_exact(&mut [0; 400]).expect("a snapshot");
    key(data.path(), "anna", &[]);
    let made = Instant::now();
    let _ = stream.read_to_end(&mut Vec::new());
    assert!(made.elapsed() < Duration::from_secs(10), "the stream went on for {:?}", made.elapsed());
}

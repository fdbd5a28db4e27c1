//! Files that are not what they seem: they are refused or harmless, cost little memory, and nothing that they name is read.

use super::made::by_command;
use super::served::{Answer, Served, small};
use serde_json::json;
use std::path::Path;
use std::process::Command;

/// What a process that looks at files may need.
const MEMORY: u64 = 600 << 20;

fn upload(server: &Served, bytes: &[u8]) -> Answer {
    server.form("/api/files", &[("file", Some("a"), bytes)], &[])
}

/// A GIF of so many frames of one pixel.
fn gif(side: [u8; 2], frames: usize) -> Vec<u8> {
    let mut bytes = [b"GIF89a".as_slice(), &side, &side, &[0x80, 0, 0, 0, 0, 0, 255, 255, 255]].concat();
    for _ in 0..frames {
        bytes.extend([0x21, 0xf9, 4, 0, 1, 0, 0, 0, 0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0]);
    }
    bytes.push(0x3b);
    bytes
}

/// `bytes` with what follows `name` by `offset` replaced.
fn lying(bytes: &[u8], name: [u8; 4], offset: isize, value: &[u8]) -> Vec<u8> {
    let place = bytes.windows(4).position(|window| window == &name[..]);
    let place = place.unwrap_or_else(|| panic!("no {}", String::from_utf8_lossy(&name))).strict_add_signed(offset);
    let mut bytes = bytes.to_vec();
    bytes[place..place + value.len()].copy_from_slice(value);
    bytes
}

#[test]
fn bombs_are_refused_within_bounds() {
    let [scratch, data] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let server = Served::start(data.path(), &[]);
    by_command(scratch.path(), 1);
    let clip = std::fs::read(scratch.path().join("own.mp4")).expect("a clip");
    assert_eq!(upload(&server, &clip).status, 201, "as it is, it is a clip");
    assert_eq!(upload(&server, &gif([1, 0], 3)).status, 201, "so is this");
    let (huge, all) = ([0xff, 0xff, 0xff, 0xf0], [0xff; 8]);
    let files = [
        ("a GIF of 100,000 frames", gif([1, 0], 100_000)),
        ("a GIF of 65,535 pixels a side", gif([0xff, 0xff], 2)),
        ("a box longer than the file", lying(&clip, *b"moov", -4, &huge)),
        ("a box that is shorter than its head", lying(&clip, *b"moov", -4, &[0, 0, 0, 3])),
        ("a box within that is longer than its own", lying(&clip, *b"trak", -4, &huge)),
        ("more samples than bytes", lying(&clip, *b"stsz", 12, &huge)),
        ("samples of 4 GiB", lying(&clip, *b"stsz", 8, &huge)),
        ("more runs than bytes", lying(&clip, *b"stts", 8, &huge)),
        ("runs of 4 billion frames", lying(&clip, *b"stts", 12, &huge)),
        ("chunks beyond the file", lying(&clip, *b"stco", 12, &huge)),
        ("more chunks than bytes", lying(&clip, *b"stco", 8, &huge)),
        ("frames of 65,535 pixels a side", lying(&clip, *b"avc1", 28, &all[..4])),
    ];
    for (what, bytes) in &files {
        let answer = upload(&server, bytes);
        // Some of what lies is not needed; then the file is what it is.
        assert!(
            answer.status == 201 || (answer.status, answer.code().as_str()) == (400, "invalid_file"),
            "{what}: {answer:?}"
        );
    }
    for (what, bytes) in files.iter().take(3) {
        assert_eq!(upload(&server, bytes).status, 400, "{what}");
    }
    // Also where they are used at once.
    for (what, bytes) in &files {
        let fields = [("prompt", None, &b"x"[..]), ("size", None, b"32x48"), ("video", Some("a"), bytes)];
        let answer = server.form("/v1/videos/extensions", &fields, &[]);
        assert!(answer.status < 500, "{what}: {answer:?}");
    }
    for worker in server.workers() {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{worker}/status")) else { continue };
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
        let most = most.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024;
        assert!(most < MEMORY, "{most} bytes");
    }
    assert_eq!(server.get("/api/me").status, 200);
}

#[test]
fn files_that_are_two_things_are_served_as_one() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let script = b"<html><script>alert(1)</script></html>";
    let picture = kinora_media::Picture::new(16, 16, vec![90; 16 * 16 * 3]).and_then(|picture| picture.png_bytes());
    let both = [&picture.expect("a PNG")[..], script].concat();
    let kept = server.form("/api/files", &[("file", Some("page.html"), &both)], &[]);
    assert_eq!(kept.status, 201, "{kept:?}");
    let name = kept.json()["id"].as_str().expect("an id").to_string();
    let served = server.get(&format!("/api/files/{name}"));
    let header = |name: &str| served.headers.get(name).map(String::as_str);
    assert_eq!(header("content-type"), Some("image/png"));
    assert_eq!(header("x-content-type-options"), Some("nosniff"));
    assert!(header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'")));
    for other in [
        &b"GIF89a=1;alert(1)//"[..],
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"%PDF-1.7",
        script,
    ] {
        assert_eq!(upload(&server, other).code(), "invalid_file");
    }
    // A prompt is text, wherever it comes back.
    let mut hostile = small(1);
    hostile["prompt"] = "<img src=x onerror=alert(1)>".into();
    let answer = server.post("/api/clips", &hostile);
    assert_eq!(answer.headers["content-type"], "application/json");
}

#[test]
fn what_a_recipe_names_is_not_read() {
    let [scratch, data] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let secret = scratch.path().join("secret.png");
    let picture = kinora_media::Picture::new(48, 32, vec![200; 32 * 48 * 3]).expect("a picture");
    picture.write_png(&secret).expect("a file");
    let words =
        ["generate", "a red ball", "--width", "32", "--height", "48", "--frames", "9", "--steps", "2", "--seed", "1"];
    let more = ["--image", "secret.png", "--threads", "1", "--device", "cpu", "-o", "own.mp4"];
    let run = kinora_tests::kinora(&[&words[..], &more].concat(), scratch.path());
    assert_eq!(run.status, Some(0), "{run:?}");
    let clip = std::fs::read(scratch.path().join("own.mp4")).expect("a clip");
    assert!(String::from_utf8_lossy(&clip).contains(&*secret.to_string_lossy()), "the recipe names the picture");
    // Whoever opened it now would wait for ever.
    std::fs::remove_file(&secret).expect("it is there");
    let fifo = Command::new("mkfifo").arg(&secret).status().expect("mkfifo is there");
    assert!(fifo.success());
    let server = Served::start(data.path(), &[]);
    let kept = upload(&server, &clip);
    assert_eq!(kept.status, 201, "{kept:?}");
    let name = kept.json()["id"].clone();
    let mut made = Vec::new();
    for request in [
        json!({"prompt": "on", "seconds": 0.5, "extend": name, "sampling": {"steps": 2}}),
        json!({"prompt": "other", "video": name, "strength": 0.5, "width": 32, "height": 48, "frames": 5, "sampling": {"steps": 2}}),
        json!({"prompt": "first", "image": name, "width": 32, "height": 48, "frames": 5, "sampling": {"steps": 2}}),
    ] {
        let answer = server.post("/api/clips", &request);
        if answer.status == 201 {
            made.push(answer.json()["clips"][0]["id"].as_str().expect("an id").to_string());
        } else {
            assert_eq!(answer.status, 400, "a model takes only some inputs: {answer:?}");
        }
    }
    assert!(!made.is_empty(), "the model goes on from a clip");
    for id in made {
        let clip = server.finished(&id);
        assert_eq!(clip["status"], "succeeded", "{clip}");
        for text in [clip.to_string(), server.get(&format!("/api/clips/{id}/recipe")).json().to_string()] {
            assert!(!text.contains("secret.png"), "{text}");
        }
    }
}

#[test]
fn no_field_takes_a_path() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let passwd = Path::new("/etc/passwd").to_string_lossy().into_owned();
    for field in [
        "image",
        "last_image",
        "video",
        "control",
        "mask",
        "extend",
        "camera",
        "model",
        "preset",
        "init_latents",
        "output",
        "upscale",
        "upscaler",
    ] {
        let answer =
            server.post("/api/clips", &json!({"prompt": "x", "width": 32, "height": 48, "frames": 5, field: passwd}));
        assert!([400, 404].contains(&answer.status), "{field}: {answer:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("root:"), "{field}");
    }
    for url in [
        "file:///etc/passwd",
        "http://127.0.0.1:1/a.png",
        "https://example.org/a.png",
        "/etc/passwd",
        "data:image/png,abc",
    ] {
        let answer = server.post("/v1/videos", &json!({"prompt": "x", "input_reference": {"image_url": url}}));
        assert_eq!(answer.status, 400, "{url}: {answer:?}");
    }
    for path in [
        "/api/files/..%2f..%2fetc%2fpasswd",
        "/api/clips/..%2f..%2fkinora.db/video",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e/kinora.db",
        "/api/files/%ff",
    ] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
}

#[test]
fn bodies_say_what_they_are() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let body = small(1).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        for path in ["/api/clips", "/api/plan", "/api/queue", "/api/session", "/api/clips/delete"] {
            let answer = server.ask("POST", path, &[("Content-Type", kind)], body.as_bytes());
            assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported_media_type"), "{path} {kind}");
        }
    }
    // Browsers ask before they send JSON to another site: nobody is told that they may.
    let preflight = [("Origin", "http://evil.test"), ("Access-Control-Request-Method", "POST")];
    let answer = server.ask("OPTIONS", "/api/clips", &preflight, b"");
    assert!(
        answer.status >= 400 && !answer.headers.keys().any(|name| name.starts_with("access-control")),
        "{answer:?}"
    );
    let many = format!("GET /api/me HTTP/1.1\r\nHost: HOST\r\nX-Long: {}\r\n\r\n", "x".repeat(400_000));
    let answer = Answer::read(server.socket(&many)).expect("an answer");
    assert_eq!(answer.status, 431, "a head without an end");
}

//! Uploads: pictures and clips are told by their content, and what is too large is refused before it is decoded.

use super::served::{Served, small};
use serde_json::json;

/// A picture of one colour.
fn picture(side: usize) -> Vec<u8> {
    let picture = kinora_media::Picture::new(side, side, vec![90; side * side * 3]).expect("a picture");
    picture.png_bytes().expect("a PNG")
}

/// The header of a PNG that says it has these sides, and nothing else.
fn bomb(side: u32) -> Vec<u8> {
    let mut bytes = picture(8);
    bytes[16..20].copy_from_slice(&side.to_be_bytes());
    bytes[20..24].copy_from_slice(&side.to_be_bytes());
    let crc = crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// The check sum of PNG's chunks.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn pictures_and_clips_become_inputs() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let sent = server.form("/api/files", &[("file", Some("../../a name.svg"), &picture(64))], &[]);
    assert_eq!(sent.status, 201, "{sent:?}");
    let asset = sent.json();
    assert_eq!((asset["media"].as_str(), asset["width"].as_u64()), (Some("image"), Some(64)), "{asset}");
    let id = asset["id"].as_str().expect("an id");
    assert!(data.path().join("files").join(id).is_file());
    let read = server.get(&format!("/api/files/{id}"));
    assert_eq!((read.headers["content-type"].as_str(), read.body), ("image/png", picture(64)));
    let takes = server.get("/api/models").json()["models"][0]["takes"].clone();
    let takes = |word: &str| takes.as_array().is_some_and(|words| words.iter().any(|own| own == word));
    let mut request = small(3);
    request["image"] = id.into();
    let answer = server.post("/api/clips", &request);
    if takes("image") {
        let clip = answer.json()["clips"][0]["id"].as_str().expect("an id").to_string();
        assert_eq!(server.ask("DELETE", &format!("/api/files/{id}"), &[], b"").status, 409, "it is needed");
        assert_eq!(server.finished(&clip)["status"], "succeeded");
        let mut next = small(4);
        next["image"] = clip.clone().into();
        let next = server.post("/api/clips", &next).json()["clips"][0]["id"].as_str().expect("an id").to_string();
        assert_eq!(server.finished(&next)["status"], "succeeded", "a clip's last frame is a picture");
        let video = server.get(&format!("/api/clips/{clip}/video")).body;
        let again = server.form("/api/files", &[("file", Some("clip.txt"), &video)], &[]).json();
        assert_eq!((again["media"].as_str(), again["frames"].as_u64()), (Some("video"), Some(5)), "{again}");
    } else {
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    assert_eq!(server.ask("DELETE", &format!("/api/files/{id}"), &[], b"").status, 204);
    assert_eq!(server.get(&format!("/api/files/{id}")).status, 404);
    let data_url = "data:image/png;base64,AAAA";
    let answer = server.post("/v1/videos", &json!({"prompt": "x", "input_reference": {"image_url": data_url}}));
    assert_eq!(answer.status, 400, "{answer:?}");
}

#[test]
fn what_is_no_picture_or_too_large_is_refused() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let refused = |bytes: &[u8]| {
        let start = std::time::Instant::now();
        let answer = server.form("/api/files", &[("file", Some("a.png"), bytes)], &[]);
        let text = answer.json()["error"]["message"].as_str().unwrap_or_default().to_string();
        assert!(!text.contains(&*data.path().to_string_lossy()), "{text}");
        assert!(start.elapsed().as_secs() < 20, "{text}");
        (answer.status, answer.code())
    };
    let invalid = (400, "invalid_file".to_string());
    assert_eq!(refused(&bomb(30_000)), invalid);
    assert_eq!(refused(&bomb(8_000)), invalid, "64 million pixels");
    assert_eq!(refused(b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>"), invalid);
    assert_eq!(refused(b""), invalid);
    let png = picture(64);
    assert_eq!(refused(&png[..png.len() / 2]), invalid);
    assert_eq!(refused(&[b"GIF89a".as_slice(), &[255; 400]].concat()), invalid);
    assert_eq!(refused(&[&[0, 0, 0, 24], b"ftypisom".as_slice(), &[0; 400]].concat()), invalid);
    let none = server.form("/api/files", &[("other", None, b"x")], &[]);
    assert_eq!((none.status, none.json()["error"]["param"].as_str()), (400, Some("file")));
    let many: Vec<(&str, Option<&str>, &[u8])> = (0..70).map(|_| ("a[]", None, &b"x"[..])).collect();
    assert_eq!(server.form("/v1/videos", &many, &[]).status, 400, "too many fields");
    let length = [("Content-Type", "application/json"), ("Content-Length", "999999999999")];
    let answer = server.raw(
        "POST",
        "/api/clips",
        &[&[("Host", format!("127.0.0.1:{}", server.port).as_str())], &length[..1]].concat(),
        &vec![b' '; 2 << 20],
    );
    assert_eq!(answer.status, 413, "{:?}", answer.status);
    let left = std::fs::read_dir(data.path().join("uploads")).expect("a folder").count();
    let kept = std::fs::read_dir(data.path().join("files")).expect("a folder").count();
    assert_eq!((left, kept), (0, 0), "nothing of them is kept");
}

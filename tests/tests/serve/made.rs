//! Clips by both interfaces are those that the command makes; they can be listed, read in parts, shared, changed and deleted.

use super::served::{Served, small};
use serde_json::{Value, json};
use std::path::Path;

/// The frames of a clip.
pub fn frames(path: &Path) -> Vec<Vec<u32>> {
    let mut clip = kinora_media::open(path).expect("a clip");
    let mut frames = Vec::new();
    while let Some(frame) = clip.next_frame().expect("a frame") {
        frames.push(frame.data.iter().map(|value| value.to_bits()).collect());
    }
    frames
}

/// The frames that the command makes of the same request.
pub fn by_command(folder: &Path, seed: u64) -> Vec<Vec<u32>> {
    let seed = seed.to_string();
    let words = ["generate", "a red ball rolls over a meadow", "--width", "32", "--height", "48", "--frames", "5"];
    let more = ["--steps", "3", "--seed", &seed, "--threads", "1", "--device", "cpu", "-o", "own.mp4"];
    let run = kinora_tests::kinora(&[&words[..], &more].concat(), folder);
    assert_eq!(run.status, Some(0), "{run:?}");
    frames(&folder.join("own.mp4"))
}

/// The content of a clip as frames.
pub fn content(server: &Served, id: &str, scratch: &Path) -> Vec<Vec<u32>> {
    let answer = server.get(&format!("/v1/videos/{id}/content"));
    assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, "video/mp4"), "{answer:?}");
    let path = scratch.join("served.mp4");
    std::fs::write(&path, &answer.body).expect("a file");
    frames(&path)
}

fn id(clip: &Value) -> String {
    clip["id"].as_str().unwrap_or_else(|| panic!("{clip}")).to_string()
}

#[test]
fn a_clip_is_the_commands() {
    let [scratch, data] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let server = Served::start(data.path(), &[]);
    let created = server.post("/api/clips", &small(5));
    assert_eq!(created.status, 201, "{created:?}");
    let clip = server.finished(&id(&created.json()["clips"][0]));
    assert_eq!((clip["status"].as_str(), clip["seed"].as_str()), (Some("succeeded"), Some("5")), "{clip}");
    assert_eq!(content(&server, &id(&clip), scratch.path()), by_command(scratch.path(), 5));
    // The recipe has no path of the server in it.
    let recipe = server.get(&format!("/api/clips/{}/recipe", id(&clip)));
    assert_eq!(recipe.json()["model"], json!(["embedded"]));
    let text = String::from_utf8_lossy(&recipe.body).into_owned();
    assert!(!text.contains(&*data.path().to_string_lossy()), "{text}");
    for picture in ["thumbnail", "last", "sheet", "preview"] {
        let answer = server.get(&format!("/api/clips/{}/{picture}", id(&clip)));
        assert_eq!((answer.status, &answer.body[1..4]), (200, &b"PNG"[..]), "{picture}");
    }
    assert!(server.end(), "SIGTERM ends it well");
}

#[test]
fn openais_interface_makes_lists_and_deletes_clips() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let fields: [(&str, Option<&str>, &[u8]); 6] = [
        ("prompt", None, b"a red ball rolls over a meadow"),
        ("model", None, b"embedded"),
        ("size", None, b"32x48"),
        ("num_frames", None, b"5"),
        ("num_inference_steps", None, b"3"),
        ("seed", None, b"5"),
    ];
    let created = server.form("/v1/videos", &fields, &[]);
    assert_eq!((created.status, created.headers["openai-poll-after-ms"].as_str()), (200, "500"), "{created:?}");
    let video = created.json();
    assert_eq!((video["object"].as_str(), video["size"].as_str()), (Some("video"), Some("32x48")), "{video}");
    assert!(["queued", "in_progress"].contains(&video["status"].as_str().expect("a status")), "{video}");
    let own = id(&video);
    let early = server.get(&format!("/v1/videos/{own}/content"));
    assert!(early.status == 200 || early.code() == "video_not_ready", "{early:?}");
    server.finished(&own);
    let done = server.get(&format!("/v1/videos/{own}")).json();
    assert_eq!((done["status"].as_str(), done["progress"].as_u64()), (Some("completed"), Some(100)), "{done}");
    assert!(done["seconds"].is_string() && done["created_at"].is_u64() && done["error"].is_null(), "{done}");

    let whole = server.get(&format!("/v1/videos/{own}/content"));
    let part = server.ask("GET", &format!("/v1/videos/{own}/content"), &[("Range", "bytes=4-11")], b"");
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[4..12]), "a range");
    let tag = whole.headers["etag"].clone();
    let again = server.ask("GET", &format!("/v1/videos/{own}/content"), &[("If-None-Match", &tag)], b"");
    assert_eq!((again.status, again.body.len()), (304, 0));
    let sheet = server.get(&format!("/v1/videos/{own}/content?variant=spritesheet"));
    assert_eq!((sheet.status, sheet.headers["content-type"].as_str()), (200, "image/png"));

    let remix = server.post(&format!("/v1/videos/{own}/remix"), &json!({"prompt": "a blue ball"})).json();
    assert_eq!(remix["remixed_from_video_id"], own.as_str(), "{remix}");
    server.finished(&id(&remix));
    let extended =
        server.post("/v1/videos/extensions", &json!({"prompt": "on", "seconds": "0.25", "video": {"id": own}}));
    assert_eq!(extended.status, 200, "{extended:?}");
    let clip = server.finished(&id(&extended.json()));
    assert_eq!(clip["status"], "succeeded", "{clip}");
    assert!(clip["result"]["frames"].as_u64() > Some(5), "{clip}");
    // Some clients write an object as text into a form.
    let object = json!({"id": own}).to_string();
    let fields: [(&str, Option<&str>, &[u8]); 3] =
        [("prompt", None, b"on"), ("seconds", None, b"0.25"), ("video", None, object.as_bytes())];
    let extended = server.form("/v1/videos/extensions", &fields, &[]);
    assert_eq!(extended.status, 200, "{extended:?}");
    assert_eq!(server.finished(&id(&extended.json()))["status"], "succeeded");

    let page = server.get("/v1/videos?limit=3").json();
    assert_eq!((page["data"].as_array().map(Vec::len), page["has_more"].as_bool()), (Some(3), Some(true)), "{page}");
    let after = page["last_id"].as_str().expect("the last id");
    let rest = server.get(&format!("/v1/videos?limit=2&after={after}")).json();
    assert_eq!((rest["data"][0]["id"].as_str(), rest["has_more"].as_bool()), (Some(own.as_str()), Some(false)));
    let deleted = server.ask("DELETE", &format!("/v1/videos/{own}"), &[("Content-Type", "application/json")], b"");
    assert_eq!(deleted.json(), json!({"id": own, "object": "video.deleted", "deleted": true}));
    assert_eq!(server.get(&format!("/v1/videos/{own}")).code(), "video_not_found");
    assert!(!data.path().join("clips").join(&own).exists(), "its files are gone");
}

#[test]
fn requests_that_cannot_be_are_refused_in_openais_shape() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let refused = |body: Value| {
        let answer = server.post("/v1/videos", &body);
        let error = answer.json()["error"].clone();
        (answer.status, error["code"].as_str().unwrap_or_default().to_string(), error["param"].clone())
    };
    let invalid = |param: &str| (400, "invalid_value".to_string(), json!(param));
    assert_eq!(refused(json!({"prompt": ""})), invalid("prompt"));
    assert_eq!(refused(json!({"prompt": "x", "seconds": "0"})).0, 400);
    assert_eq!(refused(json!({"prompt": "x", "size": "big"})), invalid("size"));
    assert_eq!(refused(json!({"prompt": "x", "guidance_scale": 900})), invalid("sampling.guidance_scale"));
    assert_eq!(refused(json!({"prompt": "x", "lora": "y"})), (400, "unknown_parameter".into(), json!("lora")));
    assert_eq!(refused(json!({"prompt": "x", "model": "sora-2"})), (404, "model_not_found".into(), json!("model")));
    assert_eq!(refused(json!({"prompt": "x", "input_reference": "https://example.org/a.png"})).0, 400);
    assert_eq!(refused(json!({"prompt": "x", "input_reference": {"file_id": "file_1"}})).0, 400);
    let text = server.ask("POST", "/v1/videos", &[("Content-Type", "text/plain")], b"{}");
    assert_eq!((text.status, text.code().as_str()), (415, "unsupported_media_type"));
    let broken = server.ask("POST", "/v1/videos", &[("Content-Type", "application/json")], b"{\"prompt\": ");
    assert_eq!(broken.status, 400);
    assert_eq!(server.get("/v1/nothing").status, 404);
    assert_eq!(server.get("/api/clips").json()["clips"], json!([]), "nothing was accepted");
}

#[test]
fn a_request_that_is_sent_again_is_done_once() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let body = json!({"prompt": "a ball", "size": "32x48", "num_frames": 5, "num_inference_steps": 2, "seed": 1});
    let send = |body: &Value, header: (&str, &str)| {
        let headers = [("Content-Type", "application/json"), header];
        server.ask("POST", "/v1/videos", &headers, body.to_string().as_bytes())
    };
    let first = send(&body, ("Idempotency-Key", "k"));
    let second = send(&body, ("Idempotency-Key", "k"));
    assert_eq!(id(&first.json()), id(&second.json()));
    assert_eq!(second.headers.get("idempotent-replayed").map(String::as_str), Some("true"));
    let other = send(&json!({"prompt": "another", "size": "32x48"}), ("Idempotency-Key", "k"));
    assert_eq!(other.status, 422);
    let once = json!({"prompt": "a cat", "size": "32x48", "num_frames": 5, "num_inference_steps": 2});
    let first = send(&once, ("x-stainless-retry-count", "0"));
    let retry = send(&once, ("x-stainless-retry-count", "1"));
    assert_eq!(id(&first.json()), id(&retry.json()), "a client's own retry");
    let anew = send(&once, ("x-stainless-retry-count", "0"));
    assert_ne!(id(&first.json()), id(&anew.json()), "asked for a second time");
}

#[test]
fn waiting_clips_are_paused_moved_edited_and_cancelled() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let long =
        json!({"prompt": "long", "width": 64, "height": 64, "frames": 17, "sampling": {"steps": 200}, "seed": "1"});
    let running = id(&server.post("/api/clips", &long).json()["clips"][0]);
    let mut three = small(1);
    three["count"] = 3.into();
    let waiting = server.post("/api/clips", &three).json();
    let [a, b, c] = [0, 1, 2].map(|index| id(&waiting["clips"][index]));
    assert_eq!(waiting["clips"][2]["seed"], "3");
    server.until(&running, |clip| clip["status"] == "running" && clip["progress"].as_u64() > Some(5));
    let place = |id: &str| server.get(&format!("/api/clips/{id}")).json()["position"].as_u64();
    let change = |id: &str, body: Value| {
        let headers = [("Content-Type", "application/json")];
        server.ask("PATCH", &format!("/api/clips/{id}"), &headers, body.to_string().as_bytes())
    };
    assert_eq!([place(&a), place(&b), place(&c)], [Some(1), Some(2), Some(3)]);
    assert_eq!(change(&c, json!({"before": null})).status, 200);
    assert_eq!([place(&c), place(&a)], [Some(1), Some(2)]);
    assert_eq!(change(&a, json!({"paused": true})).json()["paused"], true);
    let mut other = small(9);
    other["prompt"] = "a blue ball".into();
    assert_eq!(change(&b, json!({"request": other})).json()["seed"], "9");
    let cancelled = server.ask("POST", &format!("/api/clips/{running}/cancel"), &[], b"");
    assert!(["cancelling", "cancelled"].contains(&cancelled.json()["status"].as_str().expect("a status")));
    assert_eq!(server.finished(&running)["status"], "cancelled");
    assert_eq!(server.get(&format!("/v1/videos/{running}")).json()["error"]["code"], "cancelled");
    assert_eq!(server.finished(&c)["status"], "succeeded");
    assert_eq!(server.finished(&b)["result"]["seed"], "9");
    assert_eq!(server.get(&format!("/api/clips/{a}")).json()["status"], "queued", "it is paused");
    assert_eq!(server.ask("POST", "/api/queue/cancel", &[], b"").json()["cancelled"], 1);
    let gone = server.ask("DELETE", &format!("/api/clips/{b}"), &[], b"");
    assert_eq!(gone.status, 204);
    // What is old goes, but for marks and what is not finished.
    change(&c, json!({"starred": true}));
    let delete = |body: Value| server.post("/api/clips/delete", &body).json()["deleted"].clone();
    assert_eq!(delete(json!({"before": 1_000_000})), 0);
    assert_eq!(delete(json!({"before": 9_000_000_000_000_u64})), 2, "the two that were cancelled");
    let left = server.get("/api/clips").json();
    assert_eq!((left["clips"].as_array().map(Vec::len), left["clips"][0]["id"].as_str()), (Some(1), Some(c.as_str())));
}

//! How long a clip will take is known from earlier ones, by the operations of its network, also to the next server.

use super::served::{Served, small};
use serde_json::{Value, json};

fn planned(server: &Served, request: &Value) -> Value {
    let answer = server.post("/api/plan", request).json();
    assert_eq!(answer["seconds"], answer["plan"]["time"]["seconds"], "{answer}");
    answer["plan"]["time"].clone()
}

fn seconds(time: &Value) -> f64 {
    time["seconds"].as_f64().unwrap_or_else(|| panic!("a time: {time}"))
}

fn created(server: &Served, request: &Value) -> String {
    let answer = server.post("/api/clips", request).json();
    answer["clips"][0]["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_string()
}

/// The request with another size, length and number of steps.
fn other(width: u64, frames: u64, steps: u64) -> Value {
    let mut request = small(1);
    (request["width"], request["height"]) = (width.into(), width.into());
    (request["frames"], request["sampling"]["steps"]) = (frames.into(), steps.into());
    request
}

#[test]
fn time_is_known_from_earlier_clips_and_to_the_next_server() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    assert_eq!(planned(&server, &small(1)), Value::Null, "nothing is known");
    assert_eq!(server.finished(&created(&server, &small(1)))["status"], "succeeded");
    let known = planned(&server, &small(1));
    assert_eq!(known["basis"], "same_size");
    assert!(known["decode"].as_f64().is_some_and(|decode| decode > 0.0 && decode < seconds(&known)), "{known}");
    assert!(server.end());

    let server = Served::start(data.path(), &[]);
    assert_eq!(planned(&server, &small(1)), known);
    let clip = server.finished(&created(&server, &small(2)));
    assert_eq!(clip["plan"]["time"], known, "it was accepted with that");
    // Four times the steps take longer, but the text and the frames do not; a larger clip takes longer still.
    let known = planned(&server, &small(1));
    let mut longer = small(1);
    longer["sampling"]["steps"] = 12.into();
    let (one, four) = (seconds(&known), seconds(&planned(&server, &longer)));
    assert!(four > 1.1 * one && four < 4.0 * one, "{one} {four}");
    let larger = planned(&server, &other(128, 17, 3));
    assert_eq!(larger["basis"], "other_size");
    assert!(seconds(&larger) > 4.0 * one, "{larger} {known}");
    // A story has the windows of its shots.
    let shots = json!([{"prompt": "a red ball rolls"}, {"prompt": "a blue ball", "join": "cut"}]);
    let mut story = small(1);
    story["shots"] = shots;
    for name in ["prompt", "frames"] {
        story.as_object_mut().expect("an object").remove(name);
    }
    story["shots"][0]["seconds"] = 0.3.into();
    story["shots"][1]["seconds"] = 0.3.into();
    let whole = planned(&server, &story);
    assert!(seconds(&whole) > 1.9 * one, "{whole} {known}");
}

#[test]
fn a_clip_says_what_is_left_before_a_step_is_measured() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    server.finished(&created(&server, &other(64, 17, 1)));
    let id = created(&server, &other(192, 17, 50));
    let clip = server.until(&id, |clip| clip["status"] != "queued" && clip["seconds_left"].is_number());
    assert!(clip["stage"]["stage"] != "steps" || clip["stage"]["done"].as_u64() < Some(2), "{clip}");
    let (left, planned) = (clip["seconds_left"].as_f64(), seconds(&clip["plan"]["time"]));
    assert!(left > Some(0.5 * planned) && left <= Some(planned), "{clip}");
    let wait = || server.post("/api/plan", &small(1)).json()["wait"].as_f64();
    assert!(wait() > Some(0.0), "another one would wait for that");
    created(&server, &other(192, 17, 50));
    assert!(wait() > Some(planned), "and for the one after it: {:?}, {planned}", wait());
    server.post("/api/queue/cancel", &json!({}));
    server.ask("POST", &format!("/api/clips/{id}/cancel"), &[], b"");
    server.finished(&id);
}

//! Stories and camera paths are those that the command makes.

use super::made::{content, frames};
use super::served::Served;
use kinora_tests::sandbox::Sandbox;
use serde_json::{Value, json};

fn id(answer: &super::served::Answer) -> String {
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["clips"][0]["id"].as_str().expect("an id").to_string()
}

fn refused(server: &Served, request: &Value) -> (u16, Value, String) {
    let answer = server.post("/api/clips", request);
    let error = answer.json()["error"].clone();
    (answer.status, error["param"].clone(), error["message"].as_str().unwrap_or_default().to_string())
}

/// A remix is made with another prompt, which a story does not have.
fn refuses_remixes(server: &Served, made: &str) {
    for (body, why) in
        [(json!({}), "the text"), (json!({"prompt": 5}), "the text"), (json!({"prompt": "x"}), "their own")]
    {
        let answer = server.post(&format!("/v1/videos/{made}/remix"), &body);
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, &error["param"]), (400, &json!("prompt")), "{error}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(why)), "{error}");
    }
}

#[test]
fn a_story_is_the_commands() {
    let [scratch, data] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let server = Served::start(data.path(), &[]);
    let shots = json!([
        {"prompt": "a red ball rolls over a meadow", "seconds": 1},
        {"prompt": "it stops", "seconds": 1.5, "seed": "11"},
        {"prompt": "a blue ball falls", "seconds": 0.625, "join": "cut", "camera": "zoom=3", "negative_prompt": "red"},
    ]);
    let request = json!({"width": 32, "height": 48, "sampling": {"steps": 3}, "seed": "5", "shots": shots});
    let plan = server.post("/api/plan", &request).json();
    assert!(plan["plan"]["windows"].as_u64() >= Some(3), "{plan}");
    let made = id(&server.post("/api/clips", &request));
    let clip = server.finished(&made);
    assert_eq!(clip["status"], "succeeded", "{clip}");
    assert_eq!(clip["result"]["frames"], plan["plan"]["frames"], "as it was planned: {clip}");
    let listed = server.get("/v1/videos").json()["data"][0]["prompt"].clone();
    assert_eq!(listed, "a red ball rolls over a meadow / it stops / a blue ball falls");
    let story = "[[shot]]\nprompt = \"a red ball rolls over a meadow\"\nseconds = 1.0\n\
                 [[shot]]\nprompt = \"it stops\"\nseconds = 1.5\nseed = 11\n\
                 [[shot]]\nprompt = \"a blue ball falls\"\nseconds = 0.625\njoin = \"cut\"\ncamera = \"zoom=3\"\nnegative_prompt = \"red\"\n";
    std::fs::write(scratch.path().join("story.toml"), story).expect("a file");
    let words =
        ["story", "story.toml", "--width", "32", "--height", "48", "--steps", "3", "--seed", "5", "--threads", "1"];
    let run = kinora_tests::kinora(&[&words[..], &["--device", "cpu", "-o", "own.mp4"]].concat(), scratch.path());
    assert_eq!(run.status, Some(0), "{run:?}");
    assert_eq!(content(&server, &made, scratch.path()), frames(&scratch.path().join("own.mp4")));
    let recipe = String::from_utf8_lossy(&server.get(&format!("/api/clips/{made}/recipe")).body).into_owned();
    assert!(recipe.contains("it stops") && !recipe.contains(&*data.path().to_string_lossy()), "{recipe}");

    refuses_remixes(&server, &made);

    // It goes on with another story.
    let more = json!({"extend": made, "sampling": {"steps": 2}, "shots": [{"prompt": "on", "seconds": 0.5}, {"prompt": "and on", "seconds": 0.5}]});
    let longer = server.finished(&id(&server.post("/api/clips", &more)));
    assert!(longer["result"]["frames"].as_u64() > clip["result"]["frames"].as_u64(), "{longer}");

    let shot = json!({"prompt": "x", "seconds": 1});
    let of = |shots: Value, more: Value| {
        let mut request = json!({"width": 32, "height": 48, "shots": shots});
        request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        refused(&server, &request)
    };
    assert_eq!(of(json!([shot]), json!({"prompt": "x"})).1, "prompt");
    assert_eq!(of(json!([shot]), json!({"seconds": 3})).1, "seconds");
    assert_eq!(of(json!([shot]), json!({"image": made})).1, "image");
    assert_eq!(of(json!([{"prompt": "x", "seconds": -1}]), json!({})).1, "seconds");
    assert_eq!(of(json!([shot, {"prompt": "x", "image": made}]), json!({})).0, 400, "it continues and begins anew");
    assert_eq!(of(json!([{"prompt": "x", "image": "/etc/passwd"}]), json!({})).0, 400);
    assert_eq!(of(json!([{"prompt": "x", "image_path": "/etc/passwd"}]), json!({})).0, 400);
    assert_eq!(of(json!([{"prompt": "x", "camera": "/etc/passwd"}]), json!({})).0, 400);
    assert_eq!(of(json!([{"prompt": "x", "seconds": 100}, {"prompt": "x", "seconds": 100}]), json!({})).1, "seconds");
    let cost = |shots: Vec<Value>| {
        let request = json!({"width": 32, "height": 48, "shots": shots});
        let plan = server.post("/api/plan", &request).json();
        plan["cost"].as_u64().unwrap_or_else(|| panic!("no cost: {plan}"))
    };
    let first = json!({"prompt": "x", "seconds": 0.5});
    let moments = vec![json!({"prompt": "x", "seconds": 0.001}); 30];
    let story = cost([vec![first.clone()], moments].concat());
    assert!(story > 4 * cost(vec![first]), "moments cost what is made of them: {story}");
    let many = of(Value::Array(vec![json!({"prompt": "x", "image": "none"}); 33]), json!({}));
    assert_eq!((many.0, many.1), (400, json!("shots")), "{}", many.2);
}

#[test]
fn a_camera_path_is_the_commands() {
    let sandbox = Sandbox::camera();
    let data = tempfile::tempdir().expect("a directory");
    let model = format!("camera={}", sandbox.path("model").display());
    let server = Served::start(data.path(), &["--model", &model, "--dtype", "f32"]);
    let picture = std::fs::read(sandbox.path("given/image.png")).expect("a picture");
    let image = server.form("/api/files", &[("file", Some("a.png"), &picture)], &[]).json()["id"].clone();
    let path = json!([{}, {"horizontal": 0.5, "forward": 1, "pan": 20}, {"vertical": -0.25, "tilt": -10, "roll": 5, "zoom": 1.5}]);
    let small = |more: Value| {
        let mut request = json!({
            "prompt": "a red ball", "model": "camera", "image": image, "width": 32, "height": 32, "frames": 9, "seed": "3",
            "sampling": {"steps": 2},
        });
        request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        request
    };
    let plan = server.post("/api/plan", &small(json!({"camera_path": path}))).json();
    let notices = plan["plan"]["notices"].to_string();
    assert!(notices.contains("its 3 poses are spread over 9 frames") && !notices.contains('/'), "{plan}");
    let clip = server.finished(&id(&server.post("/api/clips", &small(json!({"camera_path": path})))));
    assert_eq!(clip["status"], "succeeded", "{clip}");
    let places = [
        kinora::Placement::default(),
        kinora::Placement { horizontal: 0.5, forward: 1.0, pan: 20.0, ..kinora::Placement::default() },
        kinora::Placement { vertical: -0.25, tilt: -10.0, roll: 5.0, zoom: 1.5, ..kinora::Placement::default() },
    ];
    sandbox.write("poses.txt", kinora::CameraPath::text(&places.map(kinora::Pose::from)));
    let words = [
        "--image",
        "given/image.png",
        "--camera-path",
        "poses.txt",
        "--width",
        "32",
        "--height",
        "32",
        "--frames",
        "9",
    ];
    let more = ["--seed", "3", "--steps", "2", "--dtype", "f32", "--device", "cpu", "--threads", "1", "-o", "own.mp4"];
    let run = sandbox.generate(&[&words[..], &more].concat());
    assert_eq!(run.status, Some(0), "{run:?}");
    let name = clip["id"].as_str().expect("an id");
    let made = content(&server, name, &sandbox.path("."));
    assert_eq!(made, frames(&sandbox.path("own.mp4")));
    let other = server.finished(&id(&server.post("/api/clips", &small(json!({"camera": "pan=5"})))));
    assert_ne!(content(&server, other["id"].as_str().expect("an id"), &sandbox.path(".")), made, "it follows the path");
    let recipe = String::from_utf8_lossy(&server.get(&format!("/api/clips/{name}/recipe")).body).into_owned();
    assert!(recipe.contains("camera_path") && !recipe.contains(&*data.path().to_string_lossy()), "{recipe}");
}

#[test]
fn paths_that_no_camera_takes_are_refused() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let path = json!([{}, {"horizontal": 0.5, "forward": 1, "pan": 20}]);
    for (wrong, part) in [
        (json!({"camera_path": [{"zoom": 0}]}), "pose 1 zooms by 0"),
        (json!({"camera_path": [{}, {"pan": 1e6}]}), "pose 2 has 1000000"),
        (json!({"camera_path": vec![json!({}); 1001]}), "at most 1000 poses"),
        (json!({"camera_path": path, "camera": "pan=5"}), "neither a move nor shots"),
        (json!({"camera_path": path}), "camera"),
        (json!({"camera_path": "/etc/passwd"}), "invalid type"),
        (json!({"camera_path": [{"file": "/etc/passwd"}]}), "unknown field"),
    ] {
        let mut request = json!({"prompt": "x", "width": 32, "height": 48, "frames": 5});
        request.as_object_mut().expect("an object").extend(wrong.as_object().expect("an object").clone());
        let (status, field, message) = refused(&server, &request);
        assert!(status == 400 && message.contains(part), "{wrong}: {message}");
        assert_ne!(field, "prompt", "{wrong}: {message}");
    }
    let (_, field, message) = refused(&server, &json!({"prompt": "x", "camera_path": path}));
    assert_eq!(field, "camera", "{message}");
}

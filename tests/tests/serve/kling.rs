//! Kling's interface from outside: tokens that the test signs, every address, every number of an error.

use super::served::{Answer, Served};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Something that takes a moment.
const CLIP: &str = "0.3";

/// A key, and what signs with it.
struct Keys {
    id: String,
    key: String,
    access: String,
    secret: String,
}

fn command(data: &Path, words: &[&str]) -> String {
    let run = kinora_tests::kinora(&[words, &["--data", &data.to_string_lossy()]].concat(), Path::new("."));
    assert_eq!(run.status, Some(0), "{run:?}");
    run.stdout + &run.stderr
}

/// The word after `name` in what a command printed.
fn word(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
    line.trim().to_string()
}

fn add(data: &Path, name: &str) -> Keys {
    let said = command(data, &["keys", "add", name]);
    let id = said.split([' ', ',', '\n']).find(|word| word.starts_with("key_")).expect("an id").to_string();
    let key = said.lines().find(|line| line.starts_with("kin_")).expect("a key").to_string();
    Keys { id, key, access: word(&said, "access key"), secret: word(&said, "secret key") }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs().cast_signed()
}

fn signed(head: &Value, claims: &Value, secret: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(head), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
    mac.update(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// A token that ends and begins so many seconds from now.
fn token(access: &str, secret: &str, exp: i64, nbf: i64) -> String {
    let claims = json!({"iss": access, "exp": now() + exp, "nbf": now() + nbf});
    signed(&json!({"alg": "HS256", "typ": "JWT"}), &claims, secret)
}

impl Keys {
    fn token(&self) -> String {
        token(&self.access, &self.secret, 1800, -5)
    }
}

fn ask(server: &Served, token: &str, method: &str, path: &str, body: &Value) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let body = if body.is_null() { String::new() } else { body.to_string() };
    server.ask(method, path, &headers, body.as_bytes())
}

/// The status and the number of an error in Kling's shape.
fn error(answer: &Answer) -> (u16, u64) {
    let body = answer.json();
    assert!(body["message"].is_string() && !body["request_id"].as_str().unwrap_or_default().is_empty(), "{body}");
    assert_eq!(body["data"], Value::Null, "{body}");
    (answer.status, body["code"].as_u64().expect("a number"))
}

/// The data of an answer that tells of success.
fn data(answer: &Answer) -> Value {
    let body = answer.json();
    assert_eq!((answer.status, &body["code"], &body["message"]), (200, &json!(0), &json!("SUCCEED")), "{body}");
    assert!(body["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{body}");
    body["data"].clone()
}

/// The task when it is over.
fn over(server: &Served, token: &str, kind: &str, id: &str) -> Value {
    let start = Instant::now();
    loop {
        let task = data(&ask(server, token, "GET", &format!("/v1/videos/{kind}/{id}"), &Value::Null));
        if ["succeed", "failed"].contains(&task["task_status"].as_str().expect("a status")) {
            return task;
        }
        assert!(start.elapsed() < Duration::from_mins(2), "{task}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn made(server: &Served, token: &str, kind: &str, body: &Value) -> Value {
    let task = data(&ask(server, token, "POST", &format!("/v1/videos/{kind}"), body));
    assert_eq!(task["task_status"], "submitted", "{task}");
    let task = over(server, token, kind, task["task_id"].as_str().expect("an id"));
    assert_eq!(task["task_status"], "succeed", "{task}");
    task
}

#[test]
fn tokens_are_refused_with_the_number_of_their_fault() {
    let data = tempfile::tempdir().expect("a directory");
    let anna = add(data.path(), "anna");
    let server = Served::start(data.path(), &[]);
    let of = |token: &str| error(&ask(&server, token, "GET", "/account/costs", &Value::Null));
    let good = |token: &str| ask(&server, token, "GET", "/account/costs", &Value::Null).status == 200;
    assert!(good(&anna.token()) && good(&anna.key), "a token, and the key itself");
    for path in ["/account/costs", "/v1/videos/text2video", "/v1/videos/image2video/x", "/v1/videos/video-extend"] {
        assert_eq!(error(&server.get(path)), (401, 1001), "{path}");
    }
    let with = |value: &str| error(&server.ask("POST", "/v1/videos/text2video", &[("Authorization", value)], b"{}"));
    assert_eq!([with(""), with("Bearer"), with("Basic YTpi")], [(401, 1001), (401, 1002), (401, 1002)]);
    let claims = json!({"iss": anna.access, "exp": now() + 1800, "nbf": now() - 5});
    let unsigned = signed(&json!({"alg": "none", "typ": "JWT"}), &claims, "x");
    let none = format!("{}.", unsigned.rsplit_once('.').expect("a signature").0);
    let headed = |alg: &str| signed(&json!({"alg": alg, "typ": "JWT"}), &claims, &anna.secret);
    for invalid in ["a.b.c", "..", &unsigned, &none, &headed("none"), &headed("RS256"), &headed("HS512")] {
        assert_eq!(of(invalid), (401, 1002), "{invalid}");
    }
    let own = |exp, nbf| token(&anna.access, &anna.secret, exp, nbf);
    assert_eq!(of(&own(2 * 3600, -5)), (401, 1002), "valid for too long");
    assert_eq!(of(&own(1800, 120)), (401, 1003), "not yet valid");
    assert_eq!(of(&own(-120, -300)), (401, 1004), "expired");
    assert!(good(&own(-5, -300)) && good(&own(1800, 5)), "clocks differ a little");
    for failed in [
        token(&anna.access, "another secret", 1800, -5),
        token("ak_00000000000000000000000000", &anna.secret, 1800, -5),
        "kin_unknown".to_string(),
    ] {
        assert_eq!(of(&failed), (401, 1000), "{failed}");
    }
    // The token is as good as its key, for the other interfaces, too.
    assert_eq!(ask(&server, &anna.token(), "GET", "/api/me", &Value::Null).json()["owner"], "anna");
    let said = command(data.path(), &["keys", "rotate", &anna.id]);
    assert_eq!(of(&anna.token()), (401, 1000), "signed with the secret before");
    let renewed = Keys { secret: word(&said, "secret key"), ..anna };
    assert!(renewed.secret.starts_with("sk_") && good(&renewed.token()) && good(&renewed.key));
    command(data.path(), &["keys", "revoke", &renewed.id]);
    assert_eq!([of(&renewed.token()), of(&renewed.key)], [(401, 1000), (401, 1000)]);
    let listed = command(data.path(), &["keys", "list"]);
    assert!(listed.contains(&renewed.access) && !listed.contains(&renewed.secret[..12]), "{listed}");
}

/// What a token has opened ends when the secret is replaced that has signed it; the key, newer tokens and others' go on.
#[test]
fn a_replaced_secret_ends_the_streams_of_its_tokens() {
    let folder = tempfile::tempdir().expect("a directory");
    let [anna, otto] = ["anna", "otto"].map(|name| add(folder.path(), name));
    let server = Served::start(folder.path(), &[]);
    let open = |bearer: &str| {
        let head = format!("GET /api/events HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer {bearer}\r\n\r\n");
        let mut stream = server.socket(&head);
        stream.read_exact(&mut [0; 400]).expect("a snapshot");
        stream
    };
    let mut signed = open(&anna.token());
    let mut others = vec![open(&anna.key), open(&otto.token())];
    let said = command(folder.path(), &["keys", "rotate", &anna.id]);
    let rotated = Instant::now();
    let _ = signed.read_to_end(&mut Vec::new());
    assert!(rotated.elapsed() < Duration::from_secs(5), "the stream went on for {:?}", rotated.elapsed());
    let anna = Keys { secret: word(&said, "secret key"), ..anna };
    others.push(open(&anna.token()));
    for stream in &mut others {
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a time-out");
        let error = loop {
            match stream.read(&mut [0; 4096]) {
                Ok(0) => panic!("the stream has ended"),
                Ok(_) => {}
                Err(error) => break error.kind(),
            }
        };
        assert!(matches!(error, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error:?}");
    }
    command(folder.path(), &["keys", "revoke", &anna.id]);
    let revoked = Instant::now();
    for mut stream in [others.remove(0), others.remove(1)] {
        stream.set_read_timeout(None).expect("no time-out");
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert!(revoked.elapsed() < Duration::from_secs(5), "a stream went on for {:?}", revoked.elapsed());
}

#[test]
fn tasks_are_made_and_charged() {
    let folder = tempfile::tempdir().expect("a directory");
    let anna = add(folder.path(), "anna");
    let server = Served::start(folder.path(), &[]);
    let get = |keys: &Keys, path: &str| ask(&server, &keys.token(), "GET", path, &Value::Null);
    let left = || {
        data(&get(&anna, "/account/costs?start_time=0&end_time=99999999999999"))["resource_pack_subscribe_infos"][0]
            .clone()
    };
    let pack = left();
    assert_eq!((&pack["total_quantity"], &pack["remaining_quantity"]), (&json!(66), &json!(66)), "{pack}");
    assert_eq!((&pack["resource_pack_name"], &pack["status"]), (&json!("free"), &json!("online")), "{pack}");
    assert!(pack["effective_time"].as_i64() < pack["invalid_time"].as_i64(), "{pack}");
    let none = data(&get(&anna, "/account/costs?start_time=0&end_time=1"))["resource_pack_subscribe_infos"].clone();
    assert_eq!(none, json!([]), "of another time");

    let body = json!({
        "model_name": "kling-v1", "prompt": "a red ball rolls", "negative_prompt": "blue", "mode": "std", "duration": CLIP,
        "aspect_ratio": "1:1", "cfg_scale": 0.7, "external_task_id": "a-1", "sound": "off",
        "camera_control": {"type": "simple", "config": {"horizontal": 0, "pan": 0, "zoom": 3}},
    });
    let task = made(&server, &anna.token(), "text2video", &body);
    let id = task["task_id"].as_str().expect("an id");
    assert_eq!(
        (&task["task_info"], &task["task_status_msg"]),
        (&json!({"external_task_id": "a-1"}), &json!("")),
        "{task}"
    );
    assert!(task["created_at"].as_i64() > Some(1_700_000_000_000), "milliseconds: {task}");
    assert!(task["updated_at"].as_i64() >= task["created_at"].as_i64(), "{task}");
    // The clip itself, as it was asked for: a fast one, whose guidance is 1 + (3 - 1) · 1.4, with Kling's zoom turned round.
    let clip = get(&anna, &format!("/api/clips/{id}")).json();
    assert_eq!((&clip["request"]["mode"], &clip["request"]["camera"]), (&json!("fast"), &json!("zoom=-3")), "{clip}");
    let guidance = clip["request"]["sampling"]["guidance_scale"].as_f64().expect("a number");
    assert!((guidance - 3.8).abs() < 1e-9, "{guidance}");
    assert_eq!(clip["plan"]["width"], clip["plan"]["height"], "1:1: {clip}");
    // 0.3 s of 10 credits for 5 s, rounded up, as the ledger has it.
    let charged = task["final_unit_deduction"].as_str().and_then(|text| text.parse::<i64>().ok());
    assert_eq!((charged, &left()["remaining_quantity"]), (clip["cost"].as_i64(), &json!(65)), "{task}");

    let video = &task["task_result"]["videos"][0];
    assert_eq!((video["id"].is_string(), video["duration"].is_string()), (true, true), "{task}");
    let url = video["url"].as_str().expect("a link");
    let path = url.strip_prefix(&format!("http://127.0.0.1:{}", server.port)).expect("the server's address");
    let content = server.get(path);
    assert_eq!((content.status, &content.body[4..8]), (200, &b"ftyp"[..]), "without a key");
    assert_eq!(server.get(&path.replace("expires=1", "expires=2")).status, 401, "another time");

    // Of a clip that was made long ago, a query has a link that is as good.
    let aged = kinora_serve::Store::open(&folder.path().join("kinora.db")).expect("the store");
    let age = aged.write(|store| Ok(store.execute("UPDATE jobs SET finished_at = finished_at - 4000000000", [])?));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    assert_eq!(runtime.block_on(age).expect("it is written"), 1);
    let task = data(&get(&anna, &format!("/v1/videos/text2video/{id}")));
    let url = task["task_result"]["videos"][0]["url"].as_str().expect("a link");
    assert_eq!(server.get(&url[url.find("/v1").expect("a path")..]).body, content.body);
}

#[test]
fn tasks_are_found_by_both_names_and_listed_in_pages() {
    let folder = tempfile::tempdir().expect("a directory");
    let [anna, otto] = ["anna", "otto"].map(|name| add(folder.path(), name));
    let server = Served::start(folder.path(), &[]);
    let get = |keys: &Keys, path: &str| ask(&server, &keys.token(), "GET", path, &Value::Null);
    let body = json!({"prompt": "a red ball rolls", "duration": CLIP, "external_task_id": "a-1"});
    let task = made(&server, &anna.token(), "text2video", &body);
    let id = task["task_id"].as_str().expect("an id");
    for path in ["/v1/videos/text2video/a-1", "/v1/videos/text2video?external_task_id=a-1"] {
        assert_eq!(data(&get(&anna, path))["task_id"], id, "{path}");
        assert_eq!(error(&get(&otto, path)), (404, 1203), "{path} is another's");
    }
    for path in [format!("/v1/videos/image2video/{id}"), format!("/v1/videos/video-extend/{id}")] {
        assert_eq!(error(&get(&anna, &path)), (404, 1203), "{path}");
    }
    let again = ask(&server, &anna.token(), "POST", "/v1/videos/text2video", &body);
    assert_eq!(error(&again), (400, 1201));
    assert!(again.json()["message"].as_str().is_some_and(|message| message.contains(id)), "{again:?}");
    let other = ask(&server, &otto.token(), "POST", "/v1/videos/text2video", &body);
    assert_eq!(data(&other)["task_info"]["external_task_id"], "a-1", "another owner's names are others");

    let second = made(&server, &anna.token(), "text2video", &json!({"prompt": "a cat", "duration": CLIP}));
    let page = |query: &str| data(&get(&anna, &format!("/v1/videos/text2video{query}")));
    let ids =
        |page: &Value| page.as_array().expect("a list").iter().map(|task| task["task_id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&page("")), [second["task_id"].clone(), task["task_id"].clone()], "the newest first");
    assert_eq!(ids(&page("?pageNum=2&pageSize=1")), [task["task_id"].clone()]);
    assert_eq!(ids(&page("?pageNum=3&pageSize=1")), Vec::<Value>::new());
    for wrong in ["?pageNum=0", "?pageNum=1001", "?pageSize=501", "?pageSize=x"] {
        assert_eq!(error(&get(&anna, &format!("/v1/videos/text2video{wrong}"))), (400, 1201), "{wrong}");
    }
    for unknown in ["/v1/videos/text2video?page_num=2", "/account/costs?from=1"] {
        assert_eq!(error(&get(&anna, unknown)), (400, 1200), "{unknown}");
    }
}

#[test]
fn of_two_tasks_with_one_name_there_is_one() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = Served::start(folder.path(), &[]);
    let mut made = 0;
    for number in 0..5 {
        let name = format!("a-{number}");
        let body = json!({"prompt": "a red ball rolls", "duration": CLIP, "external_task_id": name});
        let post = || ask(&server, "x", "POST", "/v1/videos/text2video", &body);
        let answers = std::thread::scope(|scope| {
            [scope.spawn(post), scope.spawn(post)].map(|thread| thread.join().expect("an answer"))
        });
        let mut statuses = answers.each_ref().map(|answer| (answer.status, answer.json()["code"].clone()));
        statuses.sort_by_key(|(status, _)| *status);
        assert_eq!(statuses, [(200, json!(0)), (400, json!(1201))], "{answers:?}");
        made += 1;
    }
    let all = data(&ask(&server, "x", "GET", "/v1/videos/text2video", &Value::Null));
    assert_eq!(all.as_array().map(Vec::len), Some(made));
}

#[test]
fn pictures_begin_and_end_clips_and_clips_go_on() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = Served::start(folder.path(), &[]);
    // Without keys, whoever reaches this machine's own port may ask, with any token or none.
    let token = "x";
    let picture =
        kinora_media::Picture::new(64, 64, vec![90; 64 * 64 * 3]).expect("a picture").png_bytes().expect("a PNG");
    let body = json!({
        "prompt": "it rolls", "image": STANDARD.encode(&picture), "image_tail": STANDARD.encode(&picture), "mode": "pro",
        "duration": CLIP, "static_mask": "", "dynamic_masks": [],
    });
    let first = made(&server, token, "image2video", &body);
    let id = first["task_result"]["videos"][0]["id"].as_str().expect("an id").to_string();
    let clip = server.get(&format!("/api/clips/{id}")).json();
    assert!(clip["request"]["image"].is_string() && clip["request"]["last_image"].is_string(), "{clip}");
    assert_eq!(first["final_unit_deduction"], "0", "the local tier has no limit");
    assert_eq!(data(&server.get("/v1/videos/text2video")), json!([]), "it is of another kind");
    assert_eq!(data(&server.get("/account/costs"))["resource_pack_subscribe_infos"], json!([]));
    let seconds =
        |task: &Value| task["task_result"]["videos"][0]["duration"].as_str().and_then(|text| text.parse::<f64>().ok());
    let (mut task, mut before) = (first, id);
    for round in 0..2 {
        let next =
            made(&server, token, "video-extend", &json!({"video_id": before, "prompt": "on", "duration": "0.5"}));
        assert!(seconds(&next) > seconds(&task), "{next}");
        let parent = &next["task_info"]["parent_video"];
        assert_eq!(
            (&parent["id"], &parent["duration"]),
            (&json!(before), &task["task_result"]["videos"][0]["duration"])
        );
        assert!(parent["url"].as_str().is_some_and(|url| url.contains("signature=")), "{next}");
        before = next["task_result"]["videos"][0]["id"].as_str().expect("an id").to_string();
        let clip = server.get(&format!("/api/clips/{before}")).json();
        assert_eq!(clip["request"]["mode"], "quality", "the mode of the first: {clip}");
        assert_eq!(data(&server.get("/v1/videos/video-extend")).as_array().map(Vec::len), Some(round + 1));
        task = next;
    }
    let extend = |body: Value| ask(&server, token, "POST", "/v1/videos/video-extend", &body);
    assert_eq!(error(&extend(json!({"video_id": before, "duration": 181}))), (400, 1201), "longer than three minutes");
    assert_eq!(error(&extend(json!({"video_id": "video_none"}))), (404, 1203));
    // A clip that is not made cannot go on, and one that is cancelled has failed.
    let long = json!({"prompt": "long", "duration": 20, "mode": "pro", "external_task_id": "long"});
    let long = data(&ask(&server, token, "POST", "/v1/videos/text2video", &long))["task_id"].clone();
    let long = long.as_str().expect("an id");
    assert_eq!(error(&extend(json!({"video_id": long}))), (400, 1201));
    server.ask("POST", &format!("/api/clips/{long}/cancel"), &[], b"");
    let failed = over(&server, token, "text2video", "long");
    assert_eq!(
        (&failed["task_status"], &failed["task_status_msg"]),
        (&json!("failed"), &json!("the clip was cancelled"))
    );
    assert_eq!(failed["task_result"], Value::Null, "{failed}");
}

#[test]
fn what_cannot_be_is_refused_in_klings_words() {
    let folder = tempfile::tempdir().expect("a directory");
    let config = folder.path().join("config.toml");
    let models = "[models]\nembedded = \"embedded\"\n[kling_models]\nkling-v2-master = \"embedded\"\n";
    let tier = "[tiers.local]\ncredits = \"unlimited\"\nrunning = 1\nwaiting = 0\nlongest_seconds = 60.0\nstorage = \"unlimited\"\n";
    let free = "[tiers.free]\ncredits = 1\nrunning = 1\nwaiting = 1\nlongest_seconds = 10.0\nstorage = \"unlimited\"\n";
    std::fs::write(&config, [models, tier, free].concat()).expect("a file");
    let config = config.to_string_lossy().into_owned();
    let server = Served::start(folder.path(), &["--config", &config]);
    let post = |body: &Value| ask(&server, "x", "POST", "/v1/videos/text2video", body);
    for (name, value) in [
        ("sound", json!("on")),
        ("static_mask", json!("AAAA")),
        ("image", json!("AAAA")),
        ("watermark_info", json!({"enabled": true})),
        ("mode", json!("4k")),
        ("aspect_ratio", json!("wide")),
        ("duration", json!("61")),
        ("cfg_scale", json!(2)),
        ("camera_control", json!({"type": "simple", "config": {"dolly": 1}})),
        ("callback_url", json!("http://10.0.0.1/hook")),
        ("external_task_id", json!("x".repeat(201))),
    ] {
        let answer = post(&json!({"prompt": "waves", name: value}));
        assert_eq!(error(&answer), (400, 1201), "{name}: {answer:?}");
        assert!(answer.json()["message"].as_str().is_some_and(|message| message.contains(name)), "{name}: {answer:?}");
    }
    assert_eq!(error(&post(&json!({"prompt": "x", "model_name": "sora-2"}))), (404, 1203));
    assert_eq!(error(&post(&json!({"prompt": ""}))), (400, 1201));
    let picture =
        |image: &str| ask(&server, "x", "POST", "/v1/videos/image2video", &json!({"prompt": "x", "image": image}));
    for wrong in ["%%%", "AAAA", "https://example.org/a.png", "data:image/png,x"] {
        let answer = picture(wrong);
        assert_eq!(
            (error(&answer), answer.json()["message"].as_str().is_some_and(|text| text.contains("image"))),
            ((400, 1201), true)
        );
    }
    let raw = |method: &str, path: &str, kind: &str, body: &[u8]| {
        error(&server.ask(method, path, &[("Content-Type", kind)], body))
    };
    assert_eq!(raw("POST", "/v1/videos/text2video", "application/json", b"{\"prompt\":"), (400, 1200));
    assert_eq!(raw("POST", "/v1/videos/text2video", "text/plain", b"{}"), (400, 1200));
    assert_eq!(raw("DELETE", "/v1/videos/text2video", "application/json", b""), (404, 1202));
    assert_eq!(raw("POST", "/v1/videos/image2video", "application/json", &vec![b' '; (32 << 20) + 1]), (400, 1200));
    assert_eq!(error(&server.get("/v1/videos/text2video/nothing")), (404, 1203));
    let foreign = server.ask("POST", "/v1/videos/text2video", &[("Origin", "http://evil.test")], b"{}");
    assert_eq!(error(&foreign), (403, 1103));
    let named = post(&json!({"prompt": "x", "model_name": "kling-v2-master", "duration": 20, "mode": "pro"}));
    let named = data(&named)["task_id"].as_str().expect("an id").to_string();
    assert_eq!(server.get(&format!("/api/clips/{named}")).json()["request"]["model"], "embedded");
    let full = post(&json!({"prompt": "x", "duration": CLIP}));
    assert_eq!((error(&full), full.headers["retry-after"].as_str()), ((429, 1303), "30"));
    drop(server);
    let other = tempfile::tempdir().expect("a directory");
    let anna = add(other.path(), "anna");
    let server = Served::start(other.path(), &["--config", &config]);
    let spent = ask(&server, &anna.token(), "POST", "/v1/videos/text2video", &json!({"prompt": "x"}));
    assert_eq!(error(&spent), (429, 1102), "{spent:?}");
}

//! Who may ask: names of the server, origins of browsers, keys and their owners, sessions and links.

use super::served::{Answer, Served, small};
use serde_json::json;
use std::path::Path;

/// Makes a key, and returns its text.
pub fn key(data: &Path, name: &str, more: &[&str]) -> String {
    let data = data.to_string_lossy();
    let run = kinora_tests::kinora(&[&["keys", "add", name, "--data", &data][..], more].concat(), Path::new("."));
    assert_eq!(run.status, Some(0), "{run:?}");
    run.stdout.lines().next().expect("a key").to_string()
}

/// Every route that is not a file of the page.
const ROUTES: [(&str, &str); 12] = [
    ("GET", "/api/me"),
    ("GET", "/api/models"),
    ("POST", "/api/plan"),
    ("GET", "/api/clips"),
    ("POST", "/api/clips"),
    ("GET", "/api/clips/video_x/video"),
    ("POST", "/api/files"),
    ("GET", "/api/events"),
    ("POST", "/v1/videos"),
    ("GET", "/v1/videos"),
    ("GET", "/v1/videos/video_x/content"),
    ("GET", "/v1/models"),
];

#[test]
fn other_names_and_other_sites_are_refused() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let (own, port) = (format!("127.0.0.1:{}", server.port), server.port);
    let hosts: [(&[&str], u16); 9] = [
        (&[&own], 200),
        (&[&format!("localhost:{port}")], 200),
        (&[&format!("LOCALHOST:{port}")], 200),
        (&["evil.test"], 421),
        (&[&format!("evil.test:{port}")], 421),
        (&[&format!("localhost.:{port}")], 421),
        (&["127.0.0.1"], 421),
        (&[""], 421),
        (&[&own, "evil.test"], 400),
    ];
    for path in ["/api/me", "/", "/healthz"] {
        for (names, expected) in hosts {
            let headers: Vec<_> = names.iter().map(|name| ("Host", *name)).collect();
            assert_eq!(server.raw("GET", path, &headers, b"").status, expected, "{path} {names:?}");
        }
        assert_eq!(server.raw("GET", path, &[], b"").status, 400, "{path} without a name");
    }
    // Before everything else, whatever is asked for and how.
    for (method, path) in
        ROUTES.into_iter().chain([("GET", "/openapi.json"), ("PUT", "/api/clips"), ("GET", "/nothing")])
    {
        for (names, expected) in hosts.iter().filter(|(_, expected)| *expected != 200) {
            let headers: Vec<_> = names.iter().map(|name| ("Host", *name)).collect();
            assert_eq!(server.raw(method, path, &headers, b"").status, *expected, "{method} {path} {names:?}");
        }
    }
    let from = |method: &str, path: &str, header: (&str, &str)| server.ask(method, path, &[header], b"").status;
    let ours = format!("http://{own}");
    for (method, path) in ROUTES {
        for wrong in [
            ("Origin", "null"),
            ("Origin", "http://evil.test"),
            ("Origin", "http://127.0.0.1:1"),
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Site", "same-site"),
        ] {
            assert_eq!(from(method, path, wrong), 403, "{method} {path} {wrong:?}");
        }
        if path != "/api/events" {
            assert_ne!(from(method, path, ("Origin", &ours)), 403, "{method} {path}");
        }
    }
    assert_eq!(from("POST", "/api/session", ("Origin", "http://evil.test")), 403);
    assert_eq!(from("GET", "/", ("Sec-Fetch-Site", "cross-site")), 200, "a link may lead here");
    let page = server.get("/");
    assert!(page.headers["content-security-policy"].starts_with("default-src 'none'"), "{page:?}");
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    assert!(!page.headers.contains_key("access-control-allow-origin"));
}

#[test]
fn keys_open_what_is_their_owners() {
    let data = tempfile::tempdir().expect("a directory");
    let [anna, otto] = ["anna", "otto"].map(|name| key(data.path(), name, &[]));
    assert!(anna.starts_with("kin_") && anna.len() == 47, "{anna}");
    let server = Served::start(data.path(), &[]);
    let with = |key: &str, method: &str, path: &str, body: &[u8]| -> Answer {
        let key = format!("Bearer {key}");
        server.ask(method, path, &[("Authorization", &key), ("Content-Type", "application/json")], body)
    };
    for (method, path) in ROUTES {
        let answer = server.ask(method, path, &[], b"");
        assert_eq!((answer.status, answer.code().as_str()), (401, "invalid_api_key"), "{method} {path}");
        assert_eq!(with("kin_wrong", method, path, b"").status, 401, "{method} {path}");
    }
    let created = with(&anna, "POST", "/api/clips", small(1).to_string().as_bytes()).json();
    let id = created["clips"][0]["id"].as_str().unwrap_or_else(|| panic!("{created}")).to_string();
    // 5 frames of 16 a second: a part of what 5 seconds cost.
    assert_eq!(with(&anna, "GET", "/api/me", b"").json()["credits"]["daily"], 66);
    assert!(with(&anna, "GET", "/api/me", b"").json()["credits"]["left"].as_i64() < Some(66));
    for path in [format!("/api/clips/{id}"), format!("/v1/videos/{id}"), format!("/api/clips/{id}/video")] {
        assert_eq!(with(&otto, "GET", &path, b"").code(), "video_not_found", "{path}");
    }
    assert_eq!(with(&otto, "DELETE", &format!("/v1/videos/{id}"), b"").status, 404);
    assert_eq!(with(&otto, "POST", &format!("/api/clips/{id}/cancel"), b"").status, 404);
    assert_eq!(with(&otto, "PATCH", &format!("/api/clips/{id}"), b"{\"paused\": true}").status, 404);
    let others = json!({"prompt": "x", "extend": id, "seconds": 0.5}).to_string();
    assert_eq!(with(&otto, "POST", "/api/clips", others.as_bytes()).status, 400, "another's clip is no input");
    assert_eq!(with(&otto, "POST", "/api/queue/cancel", b"").json()["cancelled"], 0);
    assert_eq!(
        with(&otto, "POST", "/api/clips/delete", json!({"ids": [id]}).to_string().as_bytes()).json()["deleted"],
        0
    );
    assert_eq!(with(&otto, "GET", "/v1/videos", b"").json()["data"], json!([]));

    // A session of the page, and what it needs beside its cookie.
    let sign_in = |key: &str| server.post("/api/session", &json!({"key": key}));
    assert_eq!(sign_in("kin_wrong").status, 401);
    let cookie = sign_in(&anna).headers["set-cookie"].clone();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().expect("a cookie").to_string();
    let ask = |method: &str, more: &[(&str, &str)]| {
        let own = [("Cookie", cookie.as_str()), ("Content-Type", "application/json")];
        server.ask(method, &format!("/api/clips/{id}"), &[&own, more].concat(), b"{\"starred\": true}").status
    };
    assert_eq!(ask("GET", &[]), 200);
    assert_eq!(ask("PATCH", &[]), 403, "without the page's own header");
    assert_eq!(ask("PATCH", &[("x-kinora", "1")]), 200);
    assert_eq!(ask("PATCH", &[("x-kinora", "1"), ("Origin", "null")]), 403);

    let listed = kinora_tests::kinora(&["keys", "list", "--data", &data.path().to_string_lossy()], Path::new("."));
    assert!(!listed.stdout.contains(&anna) && listed.stdout.contains("anna"), "{listed:?}");
    for file in ["kinora.db", "kinora.db-wal"] {
        let bytes = std::fs::read(data.path().join(file)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(&anna[..20]), "{file} has a key in clear");
    }
    let own = listed.stdout.lines().find(|line| line.contains("anna")).and_then(|line| line.split(' ').next());
    let own = own.expect("the key's id").to_string();
    kinora_tests::kinora(&["keys", "revoke", &own, "--data", &data.path().to_string_lossy()], Path::new("."));
    assert_eq!(with(&anna, "GET", "/api/me", b"").status, 401, "it is revoked at once");
    assert_eq!(ask("GET", &[]), 401, "and so is its session");
}

#[test]
fn a_link_is_for_anyone_for_a_time() {
    let data = tempfile::tempdir().expect("a directory");
    let anna = format!("Bearer {}", key(data.path(), "anna", &[]));
    let server = Served::start(data.path(), &[]);
    let with = |method: &str, path: &str, body: &[u8]| -> Answer {
        server.ask(method, path, &[("Authorization", &anna), ("Content-Type", "application/json")], body)
    };
    let created = with("POST", "/api/clips", small(1).to_string().as_bytes()).json();
    let id = created["clips"][0]["id"].as_str().unwrap_or_else(|| panic!("{created}")).to_string();
    let done = || with("GET", &format!("/api/clips/{id}"), b"").json()["status"] == "succeeded";
    while !done() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let link = with("GET", &format!("/api/clips/{id}/link"), b"").json();
    let link = link["url"].as_str().expect("a link");
    assert_eq!(server.get(link).status, 200);
    assert_eq!(server.ask("GET", link, &[("Sec-Fetch-Site", "cross-site")], b"").status, 200, "from a mail");
    assert_eq!(server.get(&link.replace("expires=1", "expires=2")).status, 401);
    assert_eq!(server.ask("DELETE", link, &[], b"").status, 401, "it only reads");
}

#[test]
fn credits_that_are_spent_and_queues_that_are_full_say_so() {
    let data = tempfile::tempdir().expect("a directory");
    let config = data.path().join("config.toml");
    std::fs::write(
        &config,
        "[tiers.local]\ncredits = \"unlimited\"\nrunning = 1\nwaiting = 1\nlongest_seconds = 180.0\nstorage = \"unlimited\"\n\
         [tiers.free]\ncredits = 3\nrunning = 1\nwaiting = 9\nlongest_seconds = 1.0\nstorage = \"unlimited\"\n",
    )
    .expect("a file");
    let config = config.to_string_lossy().into_owned();
    let server = Served::start(data.path(), &["--config", &config]);
    let codes: Vec<_> = (0..4)
        .map(|seed| {
            server.post(
                "/v1/videos",
                &json!({"prompt": "x", "size": "32x48", "num_frames": 5, "num_inference_steps": 100, "seed": seed}),
            )
        })
        .collect();
    let full = codes.iter().find(|answer| answer.status == 429).expect("a full queue");
    assert_eq!((full.code().as_str(), full.headers["retry-after"].as_str()), ("too_many_clips", "30"));
    drop(server);
    let other = tempfile::tempdir().expect("a directory");
    let key = format!("Bearer {}", key(other.path(), "anna", &["--config", &config]));
    let server = Served::start(other.path(), &["--config", &config]);
    let mut answers = (0..4).map(|seed| {
        let headers = [("Authorization", key.as_str()), ("Content-Type", "application/json")];
        server.ask("POST", "/api/clips", &headers, small(seed).to_string().as_bytes())
    });
    let spent = answers.find(|answer| answer.status == 429).expect("no credits");
    assert_eq!((spent.code().as_str(), spent.headers["x-should-retry"].as_str()), ("insufficient_quota", "false"));
    let long = server.ask(
        "POST",
        "/api/clips",
        &[("Authorization", key.as_str()), ("Content-Type", "application/json")],
        json!({"prompt": "x", "seconds": 3}).to_string().as_bytes(),
    );
    assert_eq!(long.json()["error"]["param"], "seconds", "{long:?}");
}

#[test]
fn other_machines_need_keys() {
    let data = tempfile::tempdir().expect("a directory");
    let said = Served::try_start(data.path(), &["--host", "0.0.0.0"]).err().expect("it does not start");
    assert!(
        said.contains("can be reached by other machines, itself or by `public_url`, and there are no keys"),
        "{said}"
    );
    assert!(said.contains("kinora keys add NAME"), "{said}");
    let second = Served::start(data.path(), &[]);
    let said = Served::try_start(data.path(), &[]).err().expect("one server has a directory");
    assert!(said.contains("is the directory of a server that runs"), "{said}");
    drop(second);
    key(data.path(), "anna", &[]);
    let server = Served::start(data.path(), &["--host", "0.0.0.0"]);
    assert_eq!(server.get("/api/me").status, 401);
}

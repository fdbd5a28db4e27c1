//! Webhooks from outside: a receiver in the test verifies signatures, fails, redirects, is gone, and outlives killed servers.

use super::receiver::{Event, Receiver};
use super::served::{Served, small};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A configuration in which the server may reach these networks.
fn config(data: &Path, more: &str, networks: &str) -> String {
    let path: PathBuf = data.join("config.toml");
    std::fs::write(&path, format!("{more}\n[outgoing]\nallowed_networks = [{networks}]\n")).expect("a file");
    path.to_string_lossy().into_owned()
}

fn hooks(data: &Path, words: &[&str]) -> Vec<String> {
    let data = data.to_string_lossy();
    let run = kinora_tests::kinora(&[&["hooks"], words, &["--data", &data]].concat(), Path::new("."));
    assert_eq!(run.status, Some(0), "{run:?}");
    run.stdout.lines().map(str::to_string).collect()
}

/// A clip of Kling's interface that takes a moment, of which `url` is told.
fn task(server: &Served, url: &str) -> String {
    let body = json!({"prompt": "a red ball", "duration": "0.3", "mode": "std", "callback_url": url});
    let answer = server.post("/v1/videos/text2video", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["data"]["task_id"].as_str().expect("an id").to_string()
}

/// A clip of the server's own interface.
fn clip(server: &Served, url: Option<&str>) -> String {
    let mut body = small(1);
    body["callback_url"] = url.into();
    let answer = server.post("/api/clips", &body);
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["clips"][0]["id"].as_str().expect("an id").to_string()
}

fn status(event: &Event) -> (Value, Value) {
    let body = event.json();
    (body["task_id"].clone(), body["task_status"].clone())
}

/// The event of a task's end. That of its beginning came before, unless it was so late that nobody was told of it.
fn end(receiver: &Receiver, id: &str) -> Event {
    let mut event = receiver.next();
    if status(&event) == (json!(id), json!("processing")) {
        event = receiver.next();
    }
    assert_eq!(status(&event), (json!(id), json!("succeed")));
    event
}

/// A task whose link has no signature: each answer signs it anew.
fn unsigned(mut task: Value) -> Value {
    let url = &mut task["task_result"]["videos"][0]["url"];
    let link = url.as_str().and_then(|url| url.split('?').next()).expect("a link").to_string();
    *url = link.into();
    task
}

#[test]
fn every_change_of_a_task_is_called_back_and_signed() {
    let data = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start("127.0.0.1");
    let config = config(data.path(), "", "\"127.0.0.1\"");
    let server = Served::start(data.path(), &["--config", &config]);
    let secret = hooks(data.path(), &["secret", "--owner", "local"]);
    // Of a directory that no server has, there is no secret to show.
    let other = data.path().join("other");
    let words = ["hooks", "secret", "--data", &other.to_string_lossy()];
    let refused = kinora_tests::kinora(&words, Path::new("."));
    assert!(refused.status != Some(0) && refused.stderr.contains("no server has its data in"), "{refused:?}");
    assert!(!other.exists(), "and none is made");
    let id = task(&server, &format!("{}/kling?x=1", receiver.url));
    // On a busy machine the clip may end before it was told that it runs; then that is not told any more.
    let mut told = vec![receiver.next()];
    if status(&told[0]) == (json!(id), json!("processing")) {
        told.push(receiver.next());
        assert_ne!(told[0].id(), told[1].id());
    }
    let succeed = told.last().expect("an event");
    assert_eq!(status(succeed), (json!(id), json!("succeed")));
    for event in &told {
        assert_eq!(event.signed_with(&secret[0]), [true], "{event:?}");
        assert_eq!((event.path.as_str(), event.headers["content-type"].as_str()), ("/kling?x=1", "application/json"));
        assert!(event.body.len() < 20_000);
    }
    let asked = server.get(&format!("/v1/videos/text2video/{id}")).json()["data"].clone();
    assert_eq!(unsigned(succeed.json()), unsigned(asked), "the same as is answered");
    // A secret that is replaced signs beside the new one for a time, and the server need not be started again.
    let both = hooks(data.path(), &["rotate", "--owner", "local"]);
    assert_eq!((both.len(), &both[1]), (2, &secret[0]));
    let id = task(&server, &receiver.url);
    let event = end(&receiver, &id);
    assert_eq!([event.signed_with(&both[0]), event.signed_with(&both[1])], [[true, false], [false, true]]);
    let alone = hooks(data.path(), &["rotate", "--owner", "local", "--hours", "0"]);
    task(&server, &receiver.url);
    assert_eq!(receiver.next().signed_with(&alone[0]), [true]);
}

#[test]
fn receivers_of_the_configuration_are_told_of_finished_clips() {
    let data = tempfile::tempdir().expect("a directory");
    let [all, otto, own] = [(); 3].map(|()| Receiver::start("127.0.0.1"));
    let webhooks = format!("webhooks = [{{url = \"{}\"}}, {{url = \"{}\", owner = \"otto\"}}]", all.url, otto.url);
    let config = config(data.path(), &webhooks, "\"127.0.0.0/8\"");
    let server = Served::start(data.path(), &["--config", &config]);
    let id = clip(&server, Some(&own.url));
    let [event, called] = [all.next(), own.next()];
    for event in [&event, &called] {
        let body = event.json();
        assert_eq!((&body["object"], &body["type"]), (&json!("event"), &json!("video.completed")), "{body}");
        assert_eq!((&body["data"]["id"], &body["id"]), (&json!(id), &json!(event.id())), "{body}");
        assert!(body["created_at"].as_i64().is_some_and(|at| at < 100_000_000_000), "seconds: {body}");
    }
    let [global, local] =
        [&[][..], &["--owner", "local"]].map(|more| hooks(data.path(), &[&["secret"], more].concat()));
    assert_eq!([event.signed_with(&global[0]), called.signed_with(&local[0])], [[true], [true]]);
    assert_eq!([event.signed_with(&local[0]), called.signed_with(&global[0])], [[false], [false]]);
    let long = json!({"prompt": "long", "width": 64, "height": 64, "frames": 17, "sampling": {"steps": 200}});
    let id = server.post("/api/clips", &long).json()["clips"][0]["id"].as_str().expect("an id").to_string();
    server.ask("POST", &format!("/api/clips/{id}/cancel"), &[], b"");
    let body = all.next().json();
    assert_eq!((&body["type"], &body["data"]["id"]), (&json!("video.failed"), &json!(id)), "{body}");
    assert!(otto.is_silent(), "nothing of it was the other owner's");
}

#[test]
fn events_are_sent_again_after_failures_and_killed_servers() {
    let data = tempfile::tempdir().expect("a directory");
    let [failing, silent] = [(); 2].map(|()| Receiver::start("127.0.0.1"));
    let config = config(data.path(), "", "\"127.0.0.1\"");
    let start = || Served::start(data.path(), &["--config", &config]);
    let mut server = start();
    // After an error, the same event comes again.
    failing.answer(&["HTTP/1.1 500 Oh", "HTTP/1.1 204 No Content"]);
    clip(&server, Some(&failing.url));
    let [first, again] = [failing.next(), failing.next()];
    assert_eq!((first.id(), &first.body), (again.id(), &again.body));
    // A receiver that does not answer keeps the next one to another address from nothing.
    silent.answer(&["", "HTTP/1.1 503 Busy\r\nRetry-After: 1"]);
    let held = clip(&server, Some(&silent.url));
    let first = silent.next();
    clip(&server, Some(&failing.url));
    let taken = failing.next();
    // A server that is killed amid a delivery makes it again, and so after one that is killed between two.
    server.kill();
    server = start();
    let second = silent.next();
    server.kill();
    server = start();
    let third = silent.next();
    assert!([&second, &third].iter().all(|event| event.id() == first.id() && event.body == first.body), "{second:?}");
    assert_eq!(first.json()["data"]["id"], held.as_str());
    assert_eq!(server.finished(&held)["status"], "succeeded");
    // An event may come again that was taken just when the server was killed; then comes the next.
    let last = clip(&server, Some(&failing.url));
    let mut next = failing.next();
    while next.id() == taken.id() {
        next = failing.next();
    }
    assert_eq!(next.json()["data"]["id"], last.as_str());
    assert!(silent.is_silent(), "what was taken does not come again");
}

#[test]
fn redirects_are_not_followed_and_receivers_that_are_gone_are_left_alone() {
    let data = tempfile::tempdir().expect("a directory");
    let [moved, elsewhere, gone] = [(); 3].map(|()| Receiver::start("127.0.0.1"));
    let config = config(data.path(), "", "\"127.0.0.1\"");
    let server = Served::start(data.path(), &["--config", &config]);
    moved.answer(&[&format!("HTTP/1.1 307 Moved\r\nLocation: {}", elsewhere.url)]);
    clip(&server, Some(&moved.url));
    let [first, again] = [moved.next(), moved.next()];
    assert_eq!(first.id(), again.id(), "a redirect is a failure");
    assert!(elsewhere.is_silent());
    gone.answer(&["HTTP/1.1 410 Gone"]);
    let id = task(&server, &gone.url);
    assert_eq!(status(&gone.next()).0, json!(id));
    server.finished(&id);
    // Whoever names it anew wants it told again; of the clip before, it is told nothing more.
    let id = task(&server, &gone.url);
    end(&gone, &id);
    assert!(gone.is_silent());
}

#[test]
fn addresses_of_this_machine_are_refused_unless_they_are_allowed() {
    let data = tempfile::tempdir().expect("a directory");
    let [own, other] = ["127.0.0.1", "127.0.0.2"].map(Receiver::start);
    let config = config(data.path(), "", "\"127.0.0.2\"");
    let server = Served::start(data.path(), &["--config", &config]);
    let port = own.url.rsplit(':').next().expect("a port");
    for host in
        ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]", "u:p@example.org"]
    {
        let url = format!("http://{host}:{port}/");
        let body = json!({"prompt": "x", "duration": "0.3", "callback_url": url});
        let answer = server.post("/v1/videos/text2video", &body);
        assert_eq!((answer.status, answer.json()["code"].as_u64()), (400, Some(1201)), "{host}: {answer:?}");
        let mut body = small(1);
        body["callback_url"] = url.into();
        assert_eq!(server.post("/api/clips", &body).json()["error"]["param"], "callback_url", "{host}");
    }
    // A name of which nothing is to be seen is asked for its address, which is refused then.
    clip(&server, Some(&format!("http://2130706433:{port}/")));
    clip(&server, Some(&other.url));
    other.next();
    assert!(own.is_silent(), "the earlier event was due before");
    // The operator's own receivers follow the same rule.
    let webhooks = format!("webhooks = [{{url = \"{}\"}}]", own.url);
    std::fs::write(&config, webhooks).expect("a file");
    let said = Served::try_start(&data.path().join("other"), &["--config", &config]).err().expect("it does not start");
    assert!(said.contains("127.0.0.1 is not a public address"), "{said}");
}

#[test]
fn pictures_are_fetched_where_that_is_switched_on() {
    let data = tempfile::tempdir().expect("a directory");
    let pictures = Receiver::start("127.0.0.1");
    let body = json!({"prompt": "x", "image": format!("{}/a.png", pictures.url), "duration": "0.3"});
    let server = Served::start(data.path(), &[]);
    let answer = server.post("/v1/videos/image2video", &body);
    assert_eq!((answer.status, answer.json()["code"].as_u64()), (400, Some(1201)), "{answer:?}");
    drop(server);
    assert!(pictures.is_silent(), "nobody was asked");
    let config = data.path().join("config.toml");
    std::fs::write(&config, "[outgoing]\nfetch_pictures = true\nallowed_networks = [\"127.0.0.1\"]\n").expect("a file");
    let server = Served::start(data.path(), &["--config", &config.to_string_lossy()]);
    // What comes is looked at as every upload is.
    let answer = server.post("/v1/videos/image2video", &body);
    assert_eq!((answer.status, pictures.next().path.as_str()), (400, "/a.png"), "{answer:?}");
    let openais = json!({"prompt": "x", "input_reference": {"image_url": format!("{}/b.png", pictures.url)}});
    assert_eq!((server.post("/v1/videos", &openais).status, pictures.next().path.as_str()), (400, "/b.png"));
}

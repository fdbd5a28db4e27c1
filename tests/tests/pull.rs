//! `kinora pull` against a hub on 127.0.0.1: what is fetched, continued, verified and refused.

#[path = "pull/hub.rs"]
mod hub;

use hub::{COMMIT, Fault, Hub};
use kinora_tests::{Run, binary, fixture};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const NAME: &str = "wan2.1-t2v-1.3b";
const REPOSITORY: &str = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers";
const WEIGHTS: &str = "transformer/diffusion_pytorch_model.safetensors";

#[test]
fn a_model_is_pulled_found_and_usable() {
    let (hub, home) = (tiny(), home());
    let place = pulled(&hub, &home);
    assert_eq!(place, folder(&home).join("snapshots").join(COMMIT));
    assert_eq!(here(&home, NAME), Some(place.clone()));
    assert_eq!(std::fs::read_to_string(folder(&home).join("refs/main")).unwrap(), COMMIT);
    assert_eq!(std::fs::read(place.join(WEIGHTS)).unwrap(), hub.file(WEIGHTS));
    let inspected = kinora(&home, &hub.address, &["inspect", &place.to_string_lossy()]);
    assert_eq!(inspected.status, Some(0), "{}", inspected.stderr);
    assert!(inspected.stdout.contains("usable   yes"), "{}", inspected.stdout);
    let by_name = kinora(&home, &hub.address, &["inspect", NAME]);
    assert_eq!((by_name.status, by_name.stdout.contains("usable   yes")), (Some(0), true), "{}", by_name.stderr);
}

#[test]
fn only_what_a_model_needs_is_fetched_and_only_once() {
    let mut hub = tiny();
    for spare in ["README.md", "assets/logo.png", "text_encoder/pytorch_model.bin", "tokenizer/spiece.model"] {
        hub.add(spare, b"not needed".to_vec());
    }
    hub.add("vae/diffusion_pytorch_model.fp16.safetensors", b"a second format".to_vec());
    let home = home();
    pulled(&hub, &home);
    let expected = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "transformer/config.json",
        WEIGHTS,
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ];
    assert_eq!(hub.fetched(), expected);
    pulled(&hub, &home);
    assert_eq!(hub.fetched(), expected, "files that are here are fetched again");
}

#[test]
fn sharded_experts_are_pulled_whole() {
    let hub = Hub::serve("Wan-AI/Wan2.2-T2V-A14B-Diffusers", &fixture("wan22_a14b_t2v"));
    let home = home();
    let run = kinora(&home, &hub.address, &["pull", "wan2.2-t2v-a14b"]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert_eq!(here(&home, "wan2.2-t2v-a14b"), Some(PathBuf::from(run.stdout.trim())));
    let shards = hub.fetched().iter().filter(|name| name.contains("-of-00003.safetensors")).count();
    assert_eq!(shards, 6);
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let (hub, home) = (tiny(), home());
    let run = command(&home, &hub.address, &["pull", NAME]).env("HF_TOKEN", "hf_secret").output().unwrap();
    assert!(run.status.success());
    let requests = hub.requests();
    assert!(requests.iter().any(|request| request.path.starts_with("/cdn/")));
    for request in requests {
        let expected = if request.path.starts_with("/cdn/") { None } else { Some("Bearer hf_secret") };
        assert_eq!(request.header("authorization"), expected, "{}", request.path);
    }
}

#[test]
fn a_killed_download_is_continued_where_it_stopped() {
    for fault in [Fault::None, Fault::NoRanges] {
        let (hub, home) = (tiny(), home());
        let (size, half) = (hub.file(WEIGHTS).len() as u64, hub.file(WEIGHTS).len() as u64 / 2);
        hub.fail(Fault::Stall { file: WEIGHTS, after: half });
        let mut child = start(&home, &hub.address);
        wait_for(&unfinished(&hub, &home), half);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(here(&home, NAME), None, "half a model counts as complete");

        let before = hub.sent(WEIGHTS);
        let ranges = fault != Fault::NoRanges;
        hub.fail(fault);
        let place = pulled(&hub, &home);
        assert_eq!(std::fs::read(place.join(WEIGHTS)).unwrap(), hub.file(WEIGHTS));
        let again = hub.sent(WEIGHTS) - before;
        assert_eq!(again, if ranges { size - half } else { size });
        let range = format!("bytes={half}-");
        assert!(hub.requests().iter().any(|request| request.header("range") == Some(&range)));
    }
}

#[test]
fn a_broken_connection_is_taken_up_again_in_the_same_run() {
    let (hub, home) = (tiny(), home());
    let third = hub.file(WEIGHTS).len() as u64 / 3;
    hub.fail(Fault::Cut { file: WEIGHTS, after: third });
    let place = pulled(&hub, &home);
    assert_eq!(std::fs::read(place.join(WEIGHTS)).unwrap(), hub.file(WEIGHTS));
    assert_eq!(hub.sent(WEIGHTS), hub.file(WEIGHTS).len() as u64);
    assert!(hub.requests().iter().filter(|request| request.path.starts_with("/cdn/")).count() > 3);
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_and_keeps_what_is_here() {
    let (hub, home) = (tiny(), home());
    hub.fail(Fault::Slow { file: WEIGHTS });
    let child = start(&home, &hub.address);
    wait_for(&unfinished(&hub, &home), 1);
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("error: stopped on request\n\nhint: what has arrived is kept"), "{text}");
    assert!(unfinished(&hub, &home).exists());
    assert_eq!(here(&home, NAME), None);
}

#[test]
fn damaged_content_is_an_error_and_counts_for_nothing() {
    for file in [WEIGHTS, "vae/config.json"] {
        let (hub, home) = (tiny(), home());
        hub.fail(Fault::Damage { file });
        let run = pull(&home, &hub.address);
        assert_eq!(run.status, Some(1));
        assert!(run.stderr.contains(&format!("error: `{file}` arrived damaged: its hash is ")), "{}", run.stderr);
        assert!(run.stderr.contains("hint: the damaged file was deleted"), "{}", run.stderr);
        let blob = folder(&home).join("blobs").join(hub.hash(file));
        assert!(!blob.exists() && !blob.with_extension("incomplete").exists());
        assert!(!folder(&home).join("refs/main").exists());
        assert_eq!(here(&home, NAME), None);
        hub.fail(Fault::None);
        pulled(&hub, &home);
    }
}

#[test]
fn refusals_say_what_to_do() {
    let cases = [
        (401, format!("error: HUB/{REPOSITORY} refuses access (HTTP 401)"), "set HF_TOKEN to an access token"),
        (403, format!("error: HUB/{REPOSITORY} refuses access (HTTP 403)"), "the licence may have to be accepted"),
        (404, format!("error: HUB/{REPOSITORY} does not exist (HTTP 404)"), "check HF_ENDPOINT"),
        (500, "answers with HTTP 500".into(), "try again later"),
    ];
    for (status, error, hint) in cases {
        let (hub, home) = (tiny(), home());
        hub.fail(Fault::Status(status));
        let run = pull(&home, &hub.address);
        assert_eq!(run.status, Some(1));
        assert!(run.stderr.contains(&error.replace("HUB", &hub.address)), "{}", run.stderr);
        assert!(run.stderr.contains("\n\nhint: ") && run.stderr.contains(hint), "{}", run.stderr);
    }
}

#[test]
fn a_hub_that_is_not_there_or_not_a_hub_is_named() {
    let home = home();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = pull(&home, &format!("http://{nobody}"));
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.contains(&format!("error: the connection to http://{nobody}/api/models/")), "{}", run.stderr);
    assert!(run.stderr.contains("hint: check the network, or set HF_ENDPOINT"), "{}", run.stderr);

    let hub = tiny();
    hub.fail(Fault::Nonsense);
    let run = pull(&home, &hub.address);
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.contains("does not answer as the hub does"), "{}", run.stderr);
    assert!(run.stderr.contains("hint: check HF_ENDPOINT"), "{}", run.stderr);
}

#[test]
fn a_repository_that_lacks_a_part_is_refused_before_anything_is_fetched() {
    let mut hub = tiny();
    hub.remove("vae/diffusion_pytorch_model.safetensors");
    let home = home();
    let run = pull(&home, &hub.address);
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.contains("is not a usable model: it has no vae/*.safetensors"), "{}", run.stderr);
    assert!(hub.fetched().is_empty());
}

#[test]
fn two_downloads_of_one_file_do_not_meet() {
    let (hub, home) = (tiny(), home());
    let locks = home.path().join("hub/.locks").join(folder(&home).file_name().unwrap());
    std::fs::create_dir_all(&locks).unwrap();
    let lock = File::create(locks.join(format!("{}.lock", hub.hash(WEIGHTS)))).unwrap();
    lock.lock().unwrap();
    let run = pull(&home, &hub.address);
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.contains(&format!("error: another process is downloading `{WEIGHTS}`")), "{}", run.stderr);
    drop(lock);
    pulled(&hub, &home);
}

#[test]
fn only_known_models_can_be_pulled() {
    let run = kinora(&home(), "http://127.0.0.1:9", &["pull", "no-such-model"]);
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.contains("error: there is no model `no-such-model`\n\nhint: it is neither a file or directory nor one of the known names: embedded"), "{}", run.stderr);
}

#[test]
fn what_passes_is_waited_for() {
    for status in [429, 503] {
        let (hub, home) = (tiny(), home());
        hub.fail(Fault::Passing { status, times: 2 });
        pulled(&hub, &home);
        let listings = hub.requests().iter().filter(|request| request.path.starts_with("/api/")).count();
        assert_eq!(listings, 3);
    }
}

#[test]
fn a_file_that_was_flipped_once_is_fetched_again() {
    let (hub, home) = (tiny(), home());
    hub.fail(Fault::DamageOnce { file: WEIGHTS });
    let place = pulled(&hub, &home);
    assert_eq!(std::fs::read(place.join(WEIGHTS)).unwrap(), hub.file(WEIGHTS));
    assert_eq!(hub.sent(WEIGHTS), 2 * hub.file(WEIGHTS).len() as u64);
}

#[test]
fn packed_files_and_other_ranges_are_noticed() {
    let (hub, home) = (tiny(), home());
    hub.fail(Fault::Packed { file: WEIGHTS });
    let run = pull(&home, &hub.address);
    assert_eq!(run.status, Some(1));
    assert!(
        run.stderr.contains("(Content-Encoding: gzip)") && run.stderr.contains("hint: check HF_ENDPOINT"),
        "{run:?}"
    );

    let half = hub.file(WEIGHTS).len() / 2;
    let arrived = unfinished(&hub, &home);
    let start = || std::fs::write(&arrived, &hub.file(WEIGHTS)[..half]).unwrap();
    start();
    hub.fail(Fault::OtherRange { file: WEIGHTS, by: 10 });
    let run = pull(&home, &hub.address);
    assert_eq!(run.status, Some(1));
    let expected = format!("it sends the bytes from {} on, {half} were asked for", half + 10);
    assert!(run.stderr.contains(&expected), "{}", run.stderr);
    assert_eq!(std::fs::metadata(&arrived).unwrap().len(), half as u64, "what has arrived is kept");
    hub.fail(Fault::OtherRange { file: WEIGHTS, by: -10 });
    let place = pulled(&hub, &home);
    assert_eq!(std::fs::read(place.join(WEIGHTS)).unwrap(), hub.file(WEIGHTS));
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let (hub, home) = (tiny(), home());
    let nothing = home.path().join("nothing.pem");
    std::fs::write(&nothing, "no certificate").unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = format!("http://secret:word@{nobody}");
    for (name, value, error, hint) in [
        ("HF_TOKEN", "hf_a b", "HF_TOKEN holds no access token", "correct HF_TOKEN"),
        ("HF_TOKEN", "hf_ü", "HF_TOKEN holds no access token", "correct HF_TOKEN"),
        ("HF_ENDPOINT", "localhost:1", "HF_ENDPOINT is `localhost:1`", "correct HF_ENDPOINT"),
        ("HF_HUB_OFFLINE", "1", "`HF_HUB_OFFLINE` is set", "unset HF_HUB_OFFLINE"),
        ("TRANSFORMERS_OFFLINE", "1", "`TRANSFORMERS_OFFLINE` is set", "unset TRANSFORMERS_OFFLINE"),
        ("SSL_CERT_FILE", &nothing.to_string_lossy(), "holds no certificate", "correct SSL_CERT_FILE"),
        ("SSL_CERT_DIR", "/no/such/folder", "cannot be read", "correct SSL_CERT_DIR"),
        ("HTTPS_PROXY", "not a proxy", "HTTPS_PROXY is not the address of a proxy", "correct HTTPS_PROXY"),
        ("HTTP_PROXY", &proxy, &format!("through the proxy {nobody} failed"), "check the proxy"),
    ] {
        let output = command(&home, &hub.address, &["pull", NAME]).env(name, value).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{name}: {text}");
        assert!(text.contains(error) && text.contains(&format!("hint: {hint}")), "{name}: {text}");
        assert!(!text.contains("secret") && !text.contains("hf_"), "{name}: {text}");
        assert!(hub.requests().is_empty(), "{name}");
    }
}

/// A certificate that another authority than the usual ones signed, made by OpenSSL's command where there is one.
#[cfg(unix)]
#[test]
fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let home = home();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=own 2>log && \
        openssl req -newkey rsa:2048 -nodes -keyout key.pem -out request -subj /CN=localhost 2>log && \
        printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE' > more && \
        openssl x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out own.pem -extfile more 2>log && \
        mkdir authorities && cp ca.pem authorities/own.0";
    let shell = |script: &str| Command::new("sh").args(["-c", script]).current_dir(home.path()).status().unwrap();
    if !shell(script).success() {
        return;
    }
    let arguments = ["s_server", "-quiet", "-accept", &port.to_string(), "-cert", "own.pem", "-key", "key.pem", "-WWW"];
    let mut server = Command::new("openssl");
    let server = server.args(arguments).current_dir(home.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = server.stdin(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_mins(1), "no server");
        std::thread::sleep(Duration::from_millis(20));
    }
    let refusal = |name: &str, value: &str| {
        let mut command = command(&home, &format!("https://localhost:{port}"), &["pull", NAME]);
        String::from_utf8_lossy(&command.env(name, value).output().unwrap().stderr).into_owned()
    };
    let unknown = refusal("UNUSED", "");
    let trusted = [refusal("SSL_CERT_FILE", "ca.pem"), refusal("SSL_CERT_DIR", "authorities")];
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(unknown.contains("UnknownIssuer") && unknown.contains("hint: where a company's own"), "{unknown}");
    for answer in trusted {
        assert!(answer.contains("does not answer as the hub does"), "{answer}");
    }
}

#[test]
fn without_the_network_what_is_here_is_found() {
    let (hub, home) = (tiny(), home());
    let place = pulled(&hub, &home);
    let asked = hub.requests().len();
    std::fs::remove_dir_all(folder(&home).join("refs")).unwrap();
    let output = command(&home, &hub.address, &["pull", NAME]).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), place.to_string_lossy());
    assert_eq!(hub.requests().len(), asked);
    assert_eq!(here(&home, NAME), Some(place.clone()));
    // Another commit in the reference, and a snapshot that lacks a file.
    std::fs::create_dir(folder(&home).join("refs")).unwrap();
    std::fs::write(folder(&home).join("refs/main"), "1234567").unwrap();
    let other = folder(&home).join("snapshots/1234567");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(place.join("model_index.json"), other.join("model_index.json")).unwrap();
    assert_eq!(here(&home, NAME), Some(place));
}

/// A disk that is full in the middle: what has arrived is kept, and the same command goes on.
#[cfg(unix)]
#[test]
fn a_full_disk_keeps_what_has_arrived() {
    let (hub, home) = (tiny(), home());
    let mut command = Command::new("sh");
    // Blocks of 512 bytes; the shell hands the ignored signal on.
    command.args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$0\" pull \"$1\""]).arg(binary()).arg(NAME);
    command.env("HF_HOME", home.path()).env("HF_ENDPOINT", &hub.address).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("error: ") && text.contains("hint: free some space"), "{text}");
    assert_eq!(here(&home, NAME), None);
    pulled(&hub, &home);
}

fn tiny() -> Hub {
    Hub::serve(REPOSITORY, &fixture("wan21_t2v"))
}

fn home() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The repository's folder in the cache.
fn folder(home: &TempDir) -> PathBuf {
    home.path().join("hub").join(format!("models--{}", REPOSITORY.replace('/', "--")))
}

fn unfinished(hub: &Hub, home: &TempDir) -> PathBuf {
    folder(home).join("blobs").join(hub.hash(WEIGHTS)).with_extension("incomplete")
}

/// The `kinora` command with `home` as `HF_HOME` and nothing of this machine's own settings.
fn command(home: &TempDir, endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    let foreign = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy().to_lowercase();
        name.starts_with("hf_")
            || name.starts_with("ssl_cert_")
            || name.ends_with("_proxy")
            || name.ends_with("_offline")
    });
    foreign.for_each(|name| {
        command.env_remove(name);
    });
    command.args(arguments).current_dir(home.path()).stdin(Stdio::null());
    command.env("HF_HOME", home.path()).env("HF_ENDPOINT", endpoint);
    command
}

fn kinora(home: &TempDir, endpoint: &str, arguments: &[&str]) -> Run {
    let output = command(home, endpoint, arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

fn pull(home: &TempDir, endpoint: &str) -> Run {
    kinora(home, endpoint, &["pull", NAME])
}

fn pulled(hub: &Hub, home: &TempDir) -> PathBuf {
    let run = pull(home, &hub.address);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    PathBuf::from(run.stdout.trim())
}

fn start(home: &TempDir, endpoint: &str) -> Child {
    let mut command = command(home, endpoint, &["pull", NAME]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Where `kinora models` finds the model.
fn here(home: &TempDir, name: &str) -> Option<PathBuf> {
    let run = kinora(home, "http://127.0.0.1:9", &["models", "--json"]);
    let rows: Vec<Value> = serde_json::from_str(&run.stdout).unwrap();
    let row = rows.into_iter().find(|row| row["name"] == name).unwrap();
    row["here"].as_str().map(PathBuf::from)
}

fn wait_for(path: &Path, size: u64) {
    let start = Instant::now();
    while std::fs::metadata(path).map_or(0, |file| file.len()) < size {
        assert!(start.elapsed() < Duration::from_mins(1), "{} does not grow to {size} bytes", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

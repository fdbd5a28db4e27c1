//! Servers and workers that are killed at any moment lose no clip that was accepted, and make none twice.

use super::made::{by_command, content};
use super::served::{Served, small};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

/// Kills of each kind; `KINORA_KILLS` says another number.
fn kills() -> u64 {
    std::env::var("KINORA_KILLS").ok().and_then(|number| number.parse().ok()).unwrap_or(6)
}

/// Credits of a day, more than are used.
const CREDITS: i64 = 100_000;
const TIER: &str = "default_tier = \"local\"\n[tiers.local]\ncredits = 100000\nrunning = 1\nwaiting = 1000\nlongest_seconds = 60.0\nstorage = \"unlimited\"\n";

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn clips_survive_killed_servers_and_workers() {
    let [scratch, data] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let expected: Vec<_> = (0..3).map(|seed| by_command(scratch.path(), seed)).collect();
    let config = scratch.path().join("config.toml");
    std::fs::write(&config, TIER).expect("a file");
    let config = config.to_string_lossy().into_owned();
    let options = ["--config", config.as_str()];
    let mut random = Random(7);
    let (mut accepted, mut killed) = (Vec::new(), [0, 0]);
    let mut server = Served::start(data.path(), &options);
    for round in 0..2 * kills() {
        let seed = random.below(3);
        let answer = server.post("/api/clips", &small(seed));
        assert_eq!(answer.status, 201, "{answer:?}");
        accepted.push((answer.json()["clips"][0]["id"].as_str().expect("an id").to_string(), seed));
        std::thread::sleep(Duration::from_millis(random.below(700)));
        if round % 2 == 0 {
            server.kill();
            server = Served::start(data.path(), &options);
            killed[0] += 1;
        } else {
            let workers = server.workers();
            for worker in &workers {
                let _ = Command::new("kill").args(["-KILL", &worker.to_string()]).status();
            }
            killed[1] += workers.len();
        }
    }
    let (mut paid, mut died) = (0, 0);
    for (id, seed) in &accepted {
        let clip = server.finished(id);
        // A clip whose workers died three times is thought to be the reason; that is said, and nothing is charged.
        if clip["status"] == "failed" {
            assert_eq!(clip["error"]["code"], "worker_died", "{clip}");
            died += 1;
            continue;
        }
        assert_eq!(clip["status"], "succeeded", "{clip}");
        assert_eq!(content(&server, id, scratch.path()), expected[*seed as usize], "{id}");
        paid += clip["cost"].as_i64().expect("a price");
    }
    let listed = server.get("/api/clips?limit=200").json();
    assert_eq!(listed["clips"].as_array().map(Vec::len), Some(accepted.len()), "none is lost, none is there twice");
    let left = server.get("/api/me").json()["credits"]["left"].as_i64();
    assert_eq!(left, Some(CREDITS - paid), "what was made is paid, and nothing else");
    assert!(server.end());
    // Opening checks the accounts.
    let store = kinora_serve::Store::open(&data.path().join("kinora.db")).expect("a store whose accounts add up");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let check = store.read(|store| Ok(store.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))?));
    assert_eq!(runtime.block_on(check).expect("an answer"), "ok");
    println!(
        "{} kills of the server, {} of its processes: {} clips accepted, {} made with the command's bits, {died} failed as their \
         workers died three times, {paid} credits",
        killed[0],
        killed[1],
        accepted.len(),
        accepted.len() - died,
    );
    let state = std::fs::read_dir(data.path().join("state")).expect("a folder").count();
    assert_eq!(state, 0, "no state is left of clips that are finished");
}

#[test]
fn a_stopped_server_saves_what_is_done() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Served::start(data.path(), &[]);
    let long =
        json!({"prompt": "long", "width": 64, "height": 64, "frames": 17, "sampling": {"steps": 200}, "seed": "1"});
    let id = server.post("/api/clips", &long).json()["clips"][0]["id"].as_str().expect("an id").to_string();
    server.until(&id, |clip| clip["stage"]["stage"] == "steps" && clip["stage"]["done"].as_u64() > Some(2));
    assert!(server.end());
    let server = Served::start(data.path(), &[]);
    let steps = |clip: &Value| clip["stage"]["stage"] == "steps" && clip["stage"]["total"] == 200;
    let clip = server.until(&id, |clip| steps(clip) || clip["status"] == "succeeded");
    assert!(clip["stage"]["done"].as_u64() > Some(2) || clip["status"] == "succeeded", "it goes on: {clip}");
    assert_eq!(server.finished(&id)["status"], "succeeded");
}

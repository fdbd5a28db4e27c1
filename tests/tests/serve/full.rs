//! A disk that is full: requests are refused in the interface's shape, nothing that was accepted is lost, and work goes on when there
//! is room.

use super::served::{Served, small};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory, taken away when this is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(place: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(place).output().ok()?;
        mount.status.success().then(|| Self(place.to_path_buf()))
    }

    /// Writes until nothing fits.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).expect("a file");
        for size in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_loses_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let Some(disk) = Disk::mount(place.path(), "16m") else {
        assert!(std::env::var_os("KINORA_REQUIRE_MOUNT").is_none(), "no file system can be mounted");
        println!("SKIPPED: only root may mount the small disk of this test");
        return;
    };
    let data = place.path().join("data");
    let server = Served::start(&data, &[]);
    let mut accepted: Vec<String> = Vec::new();
    let mut make = |seed: u64, prompt: &str| {
        let mut request = small(seed);
        request["prompt"] = prompt.into();
        let answer = server.post("/api/clips", &request);
        if answer.status == 201 {
            accepted.push(answer.json()["clips"][0]["id"].as_str().expect("an id").to_string());
            return true;
        }
        assert_eq!((answer.status, answer.code().as_str()), (507, "storage_full"), "{answer:?}");
        assert_eq!(answer.headers["x-should-retry"], "false");
        false
    };
    for seed in 0..6 {
        assert!(make(seed, "a red ball rolls over a meadow"), "there is room");
    }
    let filler = disk.fill();
    // The store's file has some room of its own left.
    let long = "a ball ".repeat(500);
    assert!((0..2000).any(|seed| !make(seed, &long)), "a full disk was never said");
    let upload = server.form("/api/files", &[("file", Some("a.png"), &vec![1; 1 << 20])], &[]);
    assert_eq!((upload.status, upload.code().as_str()), (507, "storage_full"), "{upload:?}");
    assert_eq!(server.get("/api/clips").status, 200, "it can be read");
    std::thread::sleep(std::time::Duration::from_secs(3));
    std::fs::remove_file(&filler).expect("room");
    for id in &accepted {
        let clip = server.finished(id);
        assert_eq!(clip["status"], "succeeded", "{clip}");
    }
    let last = server.post("/api/clips", &json!({"prompt": "x", "width": 32, "height": 48, "frames": 5}));
    assert_eq!(last.status, 201, "{last:?}");
    assert!(server.end());
    let store = kinora_serve::Store::open(&data.join("kinora.db")).expect("a store whose accounts add up");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let check =
        store.read(|connection| Ok(connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))?));
    assert_eq!(runtime.block_on(check).expect("an answer"), "ok");
}

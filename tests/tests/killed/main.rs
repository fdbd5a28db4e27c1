//! Runs that are killed at any moment, that meet others in the same files, or whose disk fills up while they work: what is
//! under a final name is whole and right, and the repeated command ends as if nothing had happened.
#![cfg(target_os = "linux")]

mod disk;
mod together;

use candle_core::Tensor;
use kinora_tests::Run;
use kinora_tests::same_bits;
use kinora_tests::sandbox::Sandbox;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Series of kills of each command.
const SERIES: u64 = 20;

/// A command whose results are known, in a folder of its own.
struct Task {
    sandbox: Sandbox,
    arguments: Vec<&'static str>,
    /// The results, all of them tensors.
    results: &'static [&'static str],
}

/// Numbers that look random and are the same each time (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn succeeded(run: Run) -> Run {
    assert_eq!(run.status, Some(0), "{run:#?}");
    run
}

/// All tensors of a file, by name.
fn tensors(path: &Path) -> Vec<(String, Tensor)> {
    let (tensors, _) = kinora_checkpoint::load_safetensors(path).unwrap_or_else(|error| panic!("{error}"));
    tensors.into_iter().collect()
}

fn same(a: &[(String, Tensor)], b: &[(String, Tensor)]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same_bits(&a.1, &b.1))
}

/// A small model that continues from frames, and a clip that can be continued.
fn with_clip() -> Sandbox {
    let sandbox = Sandbox::given("wan21_vace");
    succeeded(sandbox.generate(&["-o", "first.safetensors", "--frames", "9"]));
    sandbox.write(
        "story.toml",
        "[[shot]]\nprompt = \"a ball\"\nseconds = 0.5\n[[shot]]\nprompt = \"a cube\"\nseconds = 0.5\njoin = \"cut\"\n",
    );
    sandbox
}

const SMALL: &[&str] = &["--width", "32", "--height", "32", "--model", "model", "--seed", "5", "--threads", "1"];

fn generate() -> Task {
    let own = ["generate", "a ball", "--frames", "9", "--steps", "60", "--resume", "run", "-o", "clip.safetensors"];
    let saved = ["--save-latents", "l.safetensors"];
    let arguments = [&own[..], &saved, SMALL].concat();
    Task { sandbox: Sandbox::new("wan21_t2v"), arguments, results: &["clip.safetensors", "l.safetensors"] }
}

fn story() -> Task {
    let own = ["story", "story.toml", "--frames", "13", "--steps", "8", "-o", "clip.safetensors"];
    Task { sandbox: with_clip(), arguments: [&own[..], SMALL].concat(), results: &["clip.safetensors"] }
}

/// Of the model that continues from latents, so that the clip has a sidecar.
fn extend() -> Task {
    let sandbox = Sandbox::new("../../models/embedded");
    let base = ["--model", "model", "--seed", "3", "--threads", "1"];
    let first = ["generate", "a red ball", "--steps", "1", "-o", "first.safetensors"];
    let saved = ["--save-latents", "first.safetensors.latents.safetensors"];
    succeeded(sandbox.kinora(&[&first[..], &saved, &base].concat()));
    let own = ["extend", "first.safetensors", "--seconds", "0.5", "--steps", "4", "-o", "clip.safetensors"];
    let results = &["clip.safetensors", "clip.safetensors.latents.safetensors"];
    Task { sandbox, arguments: [&own[..], &base].concat(), results }
}

impl Task {
    /// The results, `None` for one that is not there.
    fn found(&self) -> Vec<Option<Vec<(String, Tensor)>>> {
        let found = |name: &&str| Some(self.sandbox.path(name)).filter(|path| path.exists());
        self.results.iter().map(|name| found(name).map(|path| tensors(&path))).collect()
    }

    /// Starts the command and kills it after `wait`, or lets it end before.
    fn killed_after(&self, wait: Duration) {
        let mut command = self.sandbox.shell("exec \"$0\" \"$@\"", &self.arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        std::thread::sleep(wait);
        let _ = child.kill();
        child.wait().expect("it ends");
    }

    /// Kills the command in series, each time in a folder as it was before.
    fn survives_kills(&self, seed: u64) {
        let before = self.sandbox.files();
        let start = Instant::now();
        succeeded(self.sandbox.kinora(&self.arguments));
        let whole = start.elapsed();
        let (expected, after) = (self.found(), self.sandbox.files());
        assert!(expected.iter().all(Option::is_some), "{after:?}");
        let mut random = Random(seed);
        for series in 0..SERIES {
            for name in after.difference(&before) {
                let path = self.sandbox.path(name);
                let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            }
            for _ in 0..=random.below(3) {
                self.killed_after(whole * random.below(1000) as u32 / 1000);
                for (found, expected) in self.found().iter().zip(&expected) {
                    let (Some(found), Some(expected)) = (found, expected) else { continue };
                    assert!(same(found, expected), "series {series}: half a result has its name");
                }
            }
            succeeded(self.sandbox.kinora(&self.arguments));
            for (found, expected) in self.found().iter().zip(&expected) {
                let right =
                    found.as_ref().zip(expected.as_ref()).is_some_and(|(found, expected)| same(found, expected));
                assert!(right, "series {series}");
            }
            assert_eq!(self.sandbox.files(), after, "series {series}");
        }
    }
}

#[test]
fn a_clip_survives_kills() {
    generate().survives_kills(1);
}

#[test]
fn a_story_survives_kills() {
    story().survives_kills(2);
}

#[test]
fn an_extended_clip_survives_kills() {
    extend().survives_kills(3);
}

/// Whether commands here can have a small disk of their own.
fn has_small_disks(sandbox: &Sandbox) -> bool {
    let mut command = Command::new("unshare");
    command.args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "."]).current_dir(sandbox.path(""));
    command.output().is_ok_and(|output| output.status.success())
}

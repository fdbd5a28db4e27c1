//! Two commands at once that want the same file or the same directory: one result is whole and right, and nobody's is a
//! mixture.

use super::{Random, SMALL, succeeded, tensors, with_clip};
use candle_core::Tensor;
use kinora_tests::Run;
use kinora_tests::sandbox::Sandbox;
use std::time::Duration;

/// A command that writes one file, with the name of it and of its directory left open.
struct Kind {
    name: &'static str,
    arguments: Vec<&'static str>,
    /// The option that names its directory.
    directory: Option<&'static str>,
}

fn kinds() -> Vec<Kind> {
    let seeded = |own: &[&'static str], seed: &'static str| {
        let small: Vec<&str> = SMALL.iter().map(|word| if *word == "5" { seed } else { word }).collect();
        [own, &small].concat()
    };
    let model = ["--model", "model", "--threads", "1"];
    let generate = ["generate", "a ball", "--frames", "5", "--steps", "3"];
    let story = ["story", "story.toml", "--frames", "13", "--steps", "2"];
    let extend = ["extend", "first.safetensors", "--seconds", "0.25", "--steps", "2"];
    let kind = |name, arguments, directory| Kind { name, arguments, directory };
    vec![
        kind("generate", seeded(&generate, "1"), Some("--resume")),
        kind("generate with another seed", seeded(&generate, "2"), Some("--resume")),
        kind("story", seeded(&story, "1"), Some("--project")),
        kind("story with another seed", seeded(&story, "2"), Some("--project")),
        kind("extend", [&extend[..], &["--seed", "1"], &model].concat(), Some("--project")),
        kind("extend with another seed", [&extend[..], &["--seed", "2"], &model].concat(), Some("--project")),
        kind("encode", [&["encode", "first.safetensors"][..], &model].concat(), None),
        kind("decode", [&["decode", "first.latents"][..], &model].concat(), None),
        kind("rerun", [&["rerun", "first.safetensors"][..], &model].concat(), None),
    ]
}

/// A result: its tensors, and the recipe with which it was made.
type Result = (Vec<(String, Tensor)>, Option<String>);

fn result(sandbox: &Sandbox, name: &str) -> Result {
    let path = sandbox.path(name);
    let (_, metadata) = kinora_checkpoint::load_safetensors(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    (tensors(&path), metadata.get("recipe").cloned())
}

fn is_same(a: &Result, b: &Result) -> bool {
    super::same(&a.0, &b.0) && a.1 == b.1
}

fn prepared() -> (Sandbox, Vec<Kind>, Vec<Result>) {
    let sandbox = with_clip();
    succeeded(sandbox.kinora(&["encode", "first.safetensors", "--model", "model", "-o", "first.latents.safetensors"]));
    std::fs::rename(sandbox.path("first.latents.safetensors"), sandbox.path("first.latents")).expect("latents");
    let kinds = kinds();
    let alone = kinds.iter().map(|kind| {
        succeeded(sandbox.kinora(&[&kind.arguments[..], &["-o", "alone.safetensors"]].concat()));
        let alone = result(&sandbox, "alone.safetensors");
        std::fs::remove_file(sandbox.path("alone.safetensors")).expect("a result");
        alone
    });
    let alone = alone.collect();
    (sandbox, kinds, alone)
}

/// Starts both commands, the second one after a moment, and returns what they printed.
fn at_once(sandbox: &Sandbox, first: &[&str], second: &[&str], wait: Duration) -> [Run; 2] {
    std::thread::scope(|scope| {
        let earlier = scope.spawn(|| sandbox.kinora(first));
        std::thread::sleep(wait);
        let later = sandbox.kinora(second);
        [earlier.join().expect("a run"), later]
    })
}

/// The result is that of a command that succeeded, and one did; one that failed says why.
fn assert_right(sandbox: &Sandbox, name: &str, title: &str, runs: &[Run; 2], alone: [&Result; 2]) {
    for run in runs.iter().filter(|run| run.status != Some(0)) {
        assert!(run.status == Some(1) && !run.failure().contains("No such file"), "{title}: {run:#?}");
    }
    let found = result(sandbox, name);
    let right = runs.iter().zip(alone).any(|(run, alone)| run.status == Some(0) && is_same(&found, alone));
    assert!(right, "{title}: {runs:#?}");
}

fn clean(sandbox: &Sandbox, before: &std::collections::BTreeSet<String>) {
    for name in sandbox.files().difference(before) {
        let path = sandbox.path(name);
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
}

#[test]
fn any_two_commands_share_an_output() {
    let (sandbox, kinds, alone) = prepared();
    let before = sandbox.files();
    let mut random = Random(4);
    for (a, first) in kinds.iter().enumerate() {
        for (b, second) in kinds.iter().enumerate() {
            let arguments = |kind: &Kind| [&kind.arguments[..], &["-o", "x.safetensors"]].concat();
            let wait = Duration::from_millis(random.below(60));
            let runs = at_once(&sandbox, &arguments(first), &arguments(second), wait);
            let title = format!("{} and {}", first.name, second.name);
            assert_right(&sandbox, "x.safetensors", &title, &runs, [&alone[a], &alone[b]]);
            let left: Vec<String> = sandbox.files().difference(&before).cloned().collect();
            let both = runs.iter().all(|run| run.status == Some(0));
            assert!(left.iter().all(|name| !name.contains(".kinora-")), "{title}: {left:?}");
            assert!(!both || left == ["x.safetensors"], "{title}: {left:?}");
            clean(&sandbox, &before);
        }
    }
}

#[test]
fn two_commands_share_a_directory() {
    let (sandbox, kinds, alone) = prepared();
    let before = sandbox.files();
    let mut random = Random(5);
    for (a, first) in kinds.iter().enumerate() {
        for (b, second) in kinds.iter().enumerate() {
            let (Some(one), Some(other)) = (first.directory, second.directory) else { continue };
            let of = |kind: &Kind, option, clip| [&kind.arguments[..], &[option, "dir", "-o", clip]].concat();
            let wait = Duration::from_millis(random.below(60));
            let (left, right) = (of(first, one, "x.safetensors"), of(second, other, "y.safetensors"));
            let runs = at_once(&sandbox, &left, &right, wait);
            let title = format!("{} and {}", first.name, second.name);
            assert!(runs.iter().any(|run| run.status == Some(0)), "{title}: {runs:#?}");
            for ((run, clip), alone) in runs.iter().zip(["x.safetensors", "y.safetensors"]).zip([&alone[a], &alone[b]])
            {
                if run.status == Some(0) {
                    assert!(is_same(&result(&sandbox, clip), alone), "{title}");
                } else {
                    assert!(run.status == Some(1) && !run.failure().contains("No such file"), "{title}: {run:#?}");
                    assert!(!sandbox.path(clip).exists(), "{title}");
                }
            }
            clean(&sandbox, &before);
        }
    }
}

/// Names that nobody gave are not the same for two runs at the same time.
#[test]
fn two_runs_take_two_names() {
    let (sandbox, kinds, alone) = prepared();
    for (index, kind) in kinds.iter().enumerate().filter(|(_, kind)| kind.name != "encode") {
        let before = sandbox.files();
        let arguments: Vec<&str> = [&kind.arguments[..], &["--json"]].concat();
        let runs = at_once(&sandbox, &arguments, &arguments, Duration::ZERO).map(succeeded);
        let clips = runs.map(|run| run.stdout.parse::<serde_json::Value>().expect("JSON")["clip"].to_string());
        assert_ne!(clips[0], clips[1], "{}", kind.name);
        let made: Vec<String> = sandbox.files().difference(&before).cloned().collect();
        assert_eq!(made.len(), 2, "{}: {made:?}", kind.name);
        assert!(!alone[index].0.is_empty());
        clean(&sandbox, &before);
    }
}

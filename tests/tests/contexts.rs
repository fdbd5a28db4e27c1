//! Text contexts that are kept: a prompt that was encoded before does not load the text encoder again.

use kinora_tests::Run;
use kinora_tests::sandbox::Sandbox;
use std::fs::{self, File};
use std::time::{Duration, SystemTime};

const WEIGHTS: &str = "model/text_encoder/model.safetensors";

fn generate(sandbox: &Sandbox, more: &[&str]) -> Run {
    let mut command = sandbox.command(&Sandbox::generate_arguments(more));
    command.env("KINORA_CACHE", sandbox.path("cache"));
    Run::of(&command.output().expect("it runs"))
}

/// The bits of the clip's frames.
fn frames(sandbox: &Sandbox, more: &[&str]) -> Vec<u32> {
    let run = generate(sandbox, more);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let video = kinora_tests::video(&sandbox.path("clip.safetensors"));
    let values = video.flatten_all().and_then(|video| video.to_vec1::<f32>()).expect("frames");
    values.into_iter().map(f32::to_bits).collect()
}

fn kept(sandbox: &Sandbox) -> Vec<String> {
    sandbox.files().into_iter().filter(|name| name.ends_with(".context.safetensors")).collect()
}

/// Puts NaN into every weight of the text encoder; the file looks as before from outside.
fn poison(sandbox: &Sandbox) {
    let path = sandbox.path(WEIGHTS);
    let written = path.metadata().and_then(|facts| facts.modified()).expect("a time");
    let mut bytes = fs::read(&path).expect("weights");
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().expect("a length")) as usize;
    bytes[header..].fill(0xff);
    fs::write(&path, bytes).expect("a file");
    File::options().append(true).open(&path).and_then(|file| file.set_modified(written)).expect("a time");
}

#[test]
fn known_prompts_do_not_read_the_text_encoder() {
    let sandbox = Sandbox::new("wan21_t2v");
    let first = frames(&sandbox, &[]);
    // Of the prompt and of the negative one, by which nobody reads either.
    assert_eq!(kept(&sandbox).len(), 2);
    assert!(kept(&sandbox).iter().all(|name| !name.contains("red")));
    let guided = frames(&sandbox, &["--seed", "2"]);
    assert_ne!(first, guided);
    poison(&sandbox);
    assert_eq!(frames(&sandbox, &[]), first);
    assert_eq!(frames(&sandbox, &["--seed", "2"]), guided);
    // A new prompt, another arithmetic and an encoder of another time are read.
    for more in [&["--negative-prompt", "grey"][..], &["--dtype", "bf16"]] {
        let run = generate(&sandbox, more);
        assert!(run.status == Some(1) && run.stderr.contains("NaN"), "{more:?}: {run:#?}");
    }
    let now = SystemTime::now() + Duration::from_mins(1);
    File::options().append(true).open(sandbox.path(WEIGHTS)).and_then(|file| file.set_modified(now)).expect("a time");
    assert!(generate(&sandbox, &[]).stderr.contains("NaN"));
}

/// What is damaged is encoded again; without a folder nothing is kept.
#[test]
fn damaged_contexts_are_none() {
    let sandbox = Sandbox::new("wan21_t2v");
    let first = frames(&sandbox, &[]);
    for damage in [&b""[..], b"{}", &[0xff; 100]] {
        for name in kept(&sandbox) {
            sandbox.write(&name, damage);
        }
        assert_eq!(frames(&sandbox, &[]), first);
    }
    fs::remove_dir_all(sandbox.path("cache")).expect("a folder");
    assert_eq!(sandbox.generate(&[]).status, Some(0));
    assert!(kept(&sandbox).is_empty());
}

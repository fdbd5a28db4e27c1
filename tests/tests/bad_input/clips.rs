//! Clips, latents and recipes that cannot be read.

use kinora_tests::sandbox::Sandbox;
use kinora_tests::transcript::Transcript;
use serde_json::{Value, json};

#[test]
fn latents_to_start_from() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    sandbox.write("garbage.safetensors", "garbage");
    sandbox.write_tensor("name.safetensors", "latents", &[1, 16, 2, 4, 4], 0.0);
    sandbox.write_tensor("shape.safetensors", "noise", &[1, 16, 2, 4, 5], 0.0);
    sandbox.write_tensor("nan.safetensors", "noise", &[1, 16, 2, 4, 4], f32::NAN);
    for name in ["missing", "garbage", "name", "shape", "nan"] {
        t.generate(&sandbox, &["--init-latents", &format!("{name}.safetensors")]);
    }
    t.generate(&sandbox, &["--init-latents", "model"]);
    insta::assert_snapshot!(t.0);
}

#[test]
fn latents_to_decode() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    sandbox.write("garbage.safetensors", "garbage");
    sandbox.write_tensor("name.safetensors", "noise", &[1, 16, 1, 4, 4], 0.0);
    sandbox.write_tensor("channels.safetensors", "latents", &[1, 48, 1, 4, 4], 0.0);
    sandbox.write_tensor("rank.safetensors", "latents", &[16, 1, 4, 4], 0.0);
    sandbox.write_tensor("batch.safetensors", "latents", &[2, 16, 1, 4, 4], 0.0);
    sandbox.write_tensor("empty.safetensors", "latents", &[1, 16, 0, 4, 4], 0.0);
    sandbox.write_tensor("nan.safetensors", "latents", &[1, 16, 1, 4, 4], f32::NAN);
    sandbox.write_tensor("huge.safetensors", "latents", &[1, 16, 1, 4, 4], 1e38);
    sandbox.write_tensor("good.safetensors", "latents", &[1, 16, 1, 4, 4], 0.0);
    for name in ["missing", "garbage", "name", "channels", "rank", "batch", "empty", "nan", "huge"] {
        let file = format!("{name}.safetensors");
        t.kinora(&sandbox, &["decode", &file, "--model", "model", "-o", "clip.mp4"]);
    }
    for more in [["--fps", "0"], ["--fps", "nan"], ["--quality", "200"], ["-o", "clip.avi"]] {
        t.kinora(&sandbox, &[&["decode", "good.safetensors", "--model", "model"], &more[..]].concat());
    }
    insta::assert_snapshot!(t.0);
}

#[test]
fn clips_to_encode() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    sandbox.write("clip.avi", "RIFF");
    sandbox.write("garbage.safetensors", "garbage");
    sandbox.write_tensor("name.safetensors", "frames", &[1, 3, 32, 32], 0.0);
    sandbox.write_tensor("shape.safetensors", "video", &[3, 32, 32], 0.0);
    sandbox.write_tensor("size.safetensors", "video", &[1, 3, 30, 32], 0.0);
    sandbox.write_tensor("none.safetensors", "video", &[0, 3, 32, 32], 0.0);
    sandbox.write_tensor("flat.safetensors", "video", &[1, 3, 0, 32], 0.0);
    sandbox.write_tensor("nan.safetensors", "video", &[1, 3, 32, 32], f32::NAN);
    // What can be read, and so the text, depends on the build.
    Transcript::default().kinora(&sandbox, &["encode", "clip.avi", "--model", "model", "-o", "latents.safetensors"]);
    for name in ["missing", "garbage", "name", "shape", "size", "none", "flat", "nan"] {
        let file = format!("{name}.safetensors");
        t.kinora(&sandbox, &["encode", &file, "--model", "model", "-o", "latents.safetensors"]);
    }
    insta::assert_snapshot!(t.0);
}

#[test]
fn recipes() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    sandbox.write("garbage.mp4", "garbage");
    sandbox.write("empty.mp4", "");
    sandbox.write("cut.mp4", b"\0\0\0\x20ftypisom");
    sandbox.write_tensor("plain.safetensors", "video", &[1, 3, 32, 32], 0.0);
    let header = r#"{"__metadata__": {"recipe": "{\"seed\": 1}"}, "video": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}"#;
    sandbox.write_weights("other.safetensors", header, &[]);
    let comments = [
        ("graph", r#"{"3": {"class_type": "KSampler", "inputs": {}}}"#),
        ("workflow", r#"{"nodes": [], "version": 0.4}"#),
        ("parameters", "a ball\nNegative prompt: b\nSteps: 20, Sampler: Euler a, Seed: 1"),
        ("text", "made with love"),
    ];
    for (name, comment) in comments {
        let metadata = json!({ "recipe": comment });
        let header =
            json!({ "__metadata__": metadata, "video": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} });
        sandbox.write_weights(&format!("{name}.safetensors"), &header.to_string(), &[]);
        t.kinora(&sandbox, &["show", &format!("{name}.safetensors")]);
    }
    for clip in
        ["missing.mp4", "garbage.mp4", "empty.mp4", "cut.mp4", "plain.safetensors", "other.safetensors", "model"]
    {
        t.kinora(&sandbox, &["show", clip]);
    }
    for clip in ["missing.mp4", "garbage.mp4", "plain.safetensors", "other.safetensors"] {
        t.kinora(&sandbox, &["rerun", clip]);
    }
    insta::assert_snapshot!(t.0);
}

#[test]
fn recipes_with_impossible_settings() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    let run = sandbox.generate(&[]);
    assert_eq!(run.status, Some(0), "{run:#?}");
    let cases: &[(&str, Value)] = &[
        ("width", json!(u64::MAX)),
        ("frames", json!(0)),
        ("fps", json!(-1)),
        ("steps", json!(1_000_000_000)),
        ("sampler", json!("magic")),
        ("dtype", json!("i3")),
        ("quant", json!("i3")),
        ("guidance_scale", json!(1e300)),
        ("model", json!([])),
        ("model", json!(["gone"])),
        ("prompt", json!("")),
        ("init_latents", json!("gone.safetensors")),
    ];
    for (name, value) in cases {
        let clip = format!("{name}.safetensors");
        std::fs::copy(sandbox.path("clip.safetensors"), sandbox.path(&clip)).expect("a copy");
        sandbox.edit_weights(&clip, |header, _| {
            let mut recipe: Value = header["__metadata__"]["recipe"].as_str().expect("a recipe").parse().expect("JSON");
            recipe[name] = value.clone();
            header["__metadata__"]["recipe"] = json!(recipe.to_string());
        });
        t.run(&sandbox, &format!("rerun with {name} {value}"), &["rerun", &clip, "--threads", "1", "-o", "again.mp4"]);
    }
    insta::assert_snapshot!(t.0);
}

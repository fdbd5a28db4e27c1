//! Files that look odd but are sound: a run gives the same frames as without the oddity, and inspecting calls them usable.

use crate::{TEXT_ENCODER, TRANSFORMER, VAE};
use kinora_tests::sandbox::Sandbox;
use serde_json::{Value, json};
use std::fs;

/// The frames of a run with the model `model`.
fn frames(sandbox: &Sandbox, model: &[&str]) -> Vec<u8> {
    let run = sandbox.generate(&[&["--no-metadata", "--model"][..], model].concat());
    assert_eq!(run.status, Some(0), "{run:#?}");
    let inspected = sandbox.kinora(&[&["inspect"][..], model].concat());
    assert_eq!(inspected.status, Some(0), "{inspected:#?}");
    assert!(inspected.stdout.contains("usable   yes"), "{inspected:#?}");
    fs::read(sandbox.path("clip.safetensors")).expect("a clip")
}

fn prefix(sandbox: &Sandbox, file: &str, name: impl Fn(&str) -> String) {
    sandbox.edit_weights(file, |header, _| {
        let rename = |(old, value): (String, Value)| match old.as_str() {
            "__metadata__" => (old, value),
            old => (name(old), value),
        };
        *header = std::mem::take(header).into_iter().map(rename).collect();
    });
}

#[test]
fn odd_files_are_read_as_if_they_were_not() {
    let mark = |name: &'static str| {
        move |s: &Sandbox| {
            let text = fs::read(s.path(name)).expect("a file");
            s.write(name, [b"\xef\xbb\xbf", &text[..]].concat());
        }
    };
    let plain = frames(&Sandbox::new("wan21_t2v"), &["model"]);
    let cases: Vec<(&str, Box<dyn Fn(&Sandbox)>)> = vec![
        ("a mark in the index", Box::new(mark("model/model_index.json"))),
        ("a mark in a configuration", Box::new(mark("model/transformer/config.json"))),
        ("a mark in the tokenizer", Box::new(mark("model/tokenizer/tokenizer.json"))),
        (
            "numbers that JSON lacks",
            Box::new(|s| {
                let path = "model/scheduler/scheduler_config.json";
                let text = fs::read_to_string(s.path(path)).expect("a file");
                s.write(path, text.replacen('{', "{\"lambda_min_clipped\": -Infinity, \"x\": NaN,", 1));
            }),
        ),
        ("compiled", Box::new(|s| prefix(s, TRANSFORMER, |name| format!("module._orig_mod.{name}")))),
        (
            "compiled blocks",
            Box::new(|s| prefix(s, TRANSFORMER, |name| name.replace("blocks.1.", "blocks.1._orig_mod."))),
        ),
        (
            "prefixes of a tool",
            Box::new(|s| {
                prefix(s, TRANSFORMER, |name| format!("pipe.dit.{name}"));
                prefix(s, VAE, |name| format!("model.vae.{name}"));
                prefix(s, TEXT_ENCODER, |name| format!("student.{name}"));
            }),
        ),
        (
            "an empty table beside the good one",
            Box::new(|s| {
                s.edit_weights(TEXT_ENCODER, |header, data| {
                    let mut empty = header["shared.weight"].clone();
                    let ends = empty["data_offsets"].as_array().expect("offsets");
                    let bytes = ends[1].as_u64().expect("an end") - ends[0].as_u64().expect("a start");
                    empty["data_offsets"] = json!([data.len(), data.len() as u64 + bytes]);
                    data.extend(vec![0; bytes as usize]);
                    header.insert("encoder.embed_tokens.weight".into(), empty);
                });
            }),
        ),
        (
            "a count of batches",
            Box::new(|s| {
                s.edit_weights(VAE, |header, data| {
                    // Wide elements come first.
                    for tensor in header.values_mut().filter(|tensor| tensor["data_offsets"].is_array()) {
                        for end in tensor["data_offsets"].as_array_mut().expect("offsets") {
                            *end = json!(end.as_u64().expect("an offset") + 8);
                        }
                    }
                    header.insert(
                        "decoder.norm.num_batches_tracked".into(),
                        json!({"dtype": "I64", "shape": [], "data_offsets": [0, 8]}),
                    );
                    data.splice(0..0, 7i64.to_le_bytes());
                });
            }),
        ),
        (
            "notes of other programs",
            Box::new(|s| {
                for folder in ["", "transformer/", "vae/", "tokenizer/"] {
                    s.write(&format!("model/{folder}._diffusion_pytorch_model.safetensors"), [0, 5, 0x16, 7, 0]);
                    s.write(&format!("model/{folder}.DS_Store"), [0, 0, 0, 1]);
                }
            }),
        ),
        (
            "another variant's name",
            Box::new(|s| {
                let name = "model/transformer/diffusion_pytorch_model.fp16.safetensors";
                fs::rename(s.path(TRANSFORMER), s.path(name)).expect("a file");
                fs::rename(s.path(VAE), s.path("model/vae/vae.safetensors")).expect("a file");
            }),
        ),
    ];
    for (title, change) in cases {
        let sandbox = Sandbox::new("wan21_t2v");
        change(&sandbox);
        assert_eq!(frames(&sandbox, &["model"]), plain, "{title}");
    }
}

#[test]
fn shards_need_no_index() {
    let sandbox = Sandbox::new("wan22_a14b_t2v");
    let plain = frames(&sandbox, &["model"]);
    for expert in ["transformer", "transformer_2"] {
        let index = format!("model/{expert}/diffusion_pytorch_model.safetensors.index.json");
        fs::remove_file(sandbox.path(&index)).expect("an index");
    }
    assert_eq!(frames(&sandbox, &["model"]), plain);
}

/// A directory of the hub cache, with and without references, is its newest snapshot.
#[test]
fn a_directory_of_the_hub_cache_is_a_model() {
    let sandbox = Sandbox::new("wan21_t2v");
    let plain = frames(&sandbox, &["model"]);
    let folder = "models--Someone--Something";
    fs::create_dir_all(sandbox.path(&format!("{folder}/snapshots"))).expect("a folder");
    fs::rename(sandbox.path("model"), sandbox.path(&format!("{folder}/snapshots/0fad780"))).expect("a folder");
    assert_eq!(frames(&sandbox, &[folder]), plain);
    fs::create_dir(sandbox.path(&format!("{folder}/refs"))).expect("a folder");
    sandbox.write(&format!("{folder}/refs/main"), "another");
    assert_eq!(frames(&sandbox, &[folder]), plain);
    // The name of a repository is as good as its directory.
    for arguments in
        [vec!["inspect", "Someone/Something"], Sandbox::generate_arguments(&["--model", "Someone/Something"])]
    {
        let mut command = sandbox.command(&arguments);
        let output = command.env("HF_HUB_CACHE", sandbox.path("")).output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

//! Files that look odd but are sound: a run gives the same frames as without the oddity, and inspecting calls them usable.

use crate::{TEXT_ENCODER, TRANSFORMER, VAE};
use kinora_tests::sandbox::Sandbox;
use serde_json::{Value, json};
use std::fs;
use std::sync::OnceLock;

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

/// A model that `change` made odd gives what the plain one does.
fn same(title: &str, change: impl FnOnce(&Sandbox)) {
    static PLAIN: OnceLock<Vec<u8>> = OnceLock::new();
    let sandbox = Sandbox::new("wan21_t2v");
    let plain = PLAIN.get_or_init(|| frames(&sandbox, &["model"]));
    change(&sandbox);
    assert!(frames(&sandbox, &["model"]) == *plain, "{title}");
}

#[test]
fn marks_and_numbers_that_json_lacks() {
    for name in ["model_index.json", "transformer/config.json", "tokenizer/tokenizer.json"] {
        same(name, |s| {
            let path = format!("model/{name}");
            let text = fs::read(s.path(&path)).expect("a file");
            s.write(&path, [b"\xef\xbb\xbf", &text[..]].concat());
        });
    }
    same("numbers", |s| {
        let path = "model/scheduler/scheduler_config.json";
        let text = fs::read_to_string(s.path(path)).expect("a file");
        s.write(path, text.replacen('{', "{\"lambda_min_clipped\": -Infinity, \"x\": NaN,", 1));
    });
}

#[test]
fn segments_that_tools_add_to_names() {
    same("compiled", |s| prefix(s, TRANSFORMER, |name| format!("module._orig_mod.{name}")));
    same("compiled blocks", |s| prefix(s, TRANSFORMER, |name| name.replace("blocks.1.", "blocks.1._orig_mod.")));
    same("prefixes", |s| {
        prefix(s, TRANSFORMER, |name| format!("pipe.dit.{name}"));
        prefix(s, VAE, |name| format!("model.vae.{name}"));
        prefix(s, TEXT_ENCODER, |name| format!("student.{name}"));
    });
}

#[test]
fn tensors_that_stand_beside_the_weights() {
    same("an empty table beside the good one", |s| {
        s.edit_weights(TEXT_ENCODER, |header, data| {
            let mut empty = header["shared.weight"].clone();
            let [start, end] = [0, 1].map(|index| empty["data_offsets"][index].as_u64().expect("an offset"));
            empty["data_offsets"] = json!([data.len(), data.len() as u64 + end - start]);
            data.extend(vec![0; (end - start) as usize]);
            header.insert("encoder.embed_tokens.weight".into(), empty);
        });
    });
    same("a count of batches", |s| {
        s.edit_weights(VAE, |header, data| {
            let place = json!([data.len(), data.len() + 8]);
            let count = json!({"dtype": "I64", "shape": [], "data_offsets": place});
            header.insert("decoder.norm.num_batches_tracked".into(), count);
            data.extend(7i64.to_le_bytes());
        });
    });
}

#[test]
fn other_names_of_files_and_notes_beside_them() {
    same("notes of other programs", |s| {
        for folder in ["", "transformer/", "vae/", "tokenizer/"] {
            s.write(&format!("model/{folder}._diffusion_pytorch_model.safetensors"), [0, 5, 0x16, 7, 0]);
            s.write(&format!("model/{folder}.DS_Store"), [0, 0, 0, 1]);
        }
    });
    same("another variant's name", |s| {
        let name = "model/transformer/diffusion_pytorch_model.fp16.safetensors";
        fs::rename(s.path(TRANSFORMER), s.path(name)).expect("a file");
        fs::rename(s.path(VAE), s.path("model/vae/vae.safetensors")).expect("a file");
    });
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

//! Folders that are no models, and configurations and tokenizers that cannot be used.

use crate::VAE;
use kinora_tests::sandbox::Sandbox;
use kinora_tests::transcript::Transcript;
use serde_json::{Value, json};

#[test]
fn models_that_are_none() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    std::fs::create_dir(sandbox.path("empty")).expect("a folder");
    sandbox.write("notes.txt", "not a model");
    for model in ["no-such-model", "./nowhere", "empty", "notes.txt", "", VAE] {
        t.generate(&sandbox, &["--model", model]);
    }
    t.kinora(&sandbox, &["generate", "a ball", "--model", VAE, VAE]);
    t.kinora(&sandbox, &["inspect", "nowhere"]);
    t.kinora(&sandbox, &["inspect", "notes.txt"]);
    t.kinora(&sandbox, &["pull", "no-such-model"]);
    t.kinora(&sandbox, &["bench", "--random", "no-such-model"]);
    for size in ["832x480", "axbxc", "0x16x1", "17x16x1", "99999x16x1", "16x16x0", "16x16x99999"] {
        t.kinora(&sandbox, &["bench", "--model", "model", "--size", size]);
    }
    insta::assert_snapshot!(t.0);
}

#[test]
fn incomplete_folders() {
    let mut t = Transcript::default();
    let remove = |name: &'static str| move |s: &Sandbox| std::fs::remove_file(s.path(name)).expect("a file");
    for name in ["model/model_index.json", VAE, "model/transformer/config.json", "model/tokenizer/tokenizer.json"] {
        t.damaged(&format!("without {name}"), remove(name));
    }
    t.damaged("model_index.json is not JSON", |s| s.write("model/model_index.json", "{\"_class_name\": "));
    t.damaged("model_index.json is a list", |s| s.write("model/model_index.json", "[]"));
    t.damaged("another pipeline", |s| {
        s.edit_json("model/model_index.json", |index| {
            index.insert("_class_name".into(), json!("HunyuanVideoPipeline"));
        });
    });
    t.damaged("two experts without a boundary", |s| {
        s.edit_json("model/model_index.json", |index| {
            index.insert("transformer_2".into(), json!(["diffusers", "WanTransformer3DModel"]));
        });
        std::fs::create_dir(s.path("model/transformer_2")).expect("a folder");
        for name in ["config.json", "diffusion_pytorch_model.safetensors"] {
            let from = s.path("model/transformer").join(name);
            std::fs::copy(from, s.path("model/transformer_2").join(name)).expect("a copy");
        }
    });
    t.damaged("manifest.toml is not TOML", |s| s.write("model/manifest.toml", "name = "));
    t.damaged("manifest.toml of another family", |s| s.write("model/manifest.toml", manifest("\"mochi\"", "512")));
    t.damaged("a text context without end", |s| s.write("model/manifest.toml", manifest("\"wan\"", "999999999999")));
    insta::assert_snapshot!(t.0);
}

fn manifest(family: &str, text_len: &str) -> String {
    format!(
        "name = \"x\"\nfamily = {family}\ntitle = \"x\"\nlicence = \"MIT\"\ntext_len = {text_len}\n\
         [parameters]\ntransformer = 1\ntext_encoder = 1\nvae = 1\n\
         [defaults]\nwidth = 32\nheight = 32\nframes = 5\nfps = 16.0\nsteps = 2\nfewest_steps = 1\n\
         sampler = \"unipc\"\nshift = 3.0\nguidance_scale = 5.0\n"
    )
}

#[test]
fn configurations() {
    let mut t = Transcript::default();
    let cases: &[(&str, &str, Value)] = &[
        ("transformer", "num_attention_heads", json!(0)),
        ("transformer", "num_attention_heads", json!(-3)),
        ("transformer", "num_attention_heads", json!(4_000_000_000_u64)),
        ("transformer", "num_layers", json!(1_000_000)),
        ("transformer", "ffn_dim", json!(1_000_000)),
        ("transformer", "in_channels", json!(1_000_000)),
        ("transformer", "patch_size", json!([1, 2])),
        ("transformer", "patch_size", json!([1, 64, 64])),
        ("transformer", "eps", json!("small")),
        ("transformer", "image_dim", json!(1280)),
        ("transformer", "_class_name", json!("FluxTransformer2DModel")),
        ("text_encoder", "num_layers", json!(1_000_000_000_000_u64)),
        ("text_encoder", "d_model", json!(u64::MAX)),
        ("text_encoder", "vocab_size", json!(1_000_000_000_000_u64)),
        ("text_encoder", "num_heads", json!(0)),
        ("text_encoder", "feed_forward_proj", json!("relu")),
        ("vae", "z_dim", json!(0)),
        ("vae", "z_dim", json!(48)),
        ("vae", "base_dim", json!(65_536)),
        ("vae", "base_dim", json!(-1)),
        ("vae", "num_res_blocks", json!(1_000_000_000)),
        ("vae", "dim_mult", json!([])),
        ("vae", "dim_mult", json!([1, 1_000_000, 4, 4])),
        ("vae", "temperal_downsample", json!([true])),
        ("vae", "latents_std", json!([0])),
    ];
    for (part, field, value) in cases {
        t.damaged(&format!("{part}: {field} is {value}"), |s| {
            s.edit_json(&format!("model/{part}/config.json"), |config| {
                config.insert((*field).into(), value.clone());
            });
        });
    }
    t.damaged("config.json is not JSON", |s| s.write("model/vae/config.json", "{'base_dim': 4}"));
    t.damaged("config.json is a number", |s| s.write("model/transformer/config.json", "7"));
    t.damaged("config.json is not text", |s| s.write("model/text_encoder/config.json", [0xff, 0xfe, 0]));
    t.damaged("config.json is nested too deeply", |s| {
        s.write("model/transformer/config.json", "[".repeat(100_000));
    });
    insta::assert_snapshot!(t.0);
}

#[test]
fn hostile_tokenizers() {
    let mut t = Transcript::default();
    let path = "model/tokenizer/tokenizer.json";
    for (title, text) in [
        ("empty", ""),
        ("not JSON", "tokenizer"),
        ("a list", "[]"),
        ("a decoder that makes the library panic", r#"{"version":"1.0","decoder":{"type" 1}}"#),
        ("nested too deeply", &"{\"model\":".repeat(100_000)),
    ] {
        t.damaged(title, |s| s.write(path, text));
    }
    for (title, part, value) in hostile_parts() {
        t.damaged(title, |s| {
            s.edit_json(path, |tokenizer| {
                tokenizer.insert(part.into(), value);
            });
        });
    }
    insta::assert_snapshot!(t.0);
}

/// Titles, parts of a tokenizer, and values of them that cannot be used.
fn hostile_parts() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("no model", "model", json!(null)),
        ("an unknown model", "model", json!({"type": "Oracle"})),
        ("Unigram without pieces", "model", json!({"type": "Unigram", "unk_id": 0, "vocab": []})),
        (
            "Unigram whose unknown piece is not there",
            "model",
            json!({"type": "Unigram", "unk_id": 99, "vocab": [["a", 0.0]]}),
        ),
        ("BPE with merges of nothing", "model", json!({"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]]})),
        (
            "tokens that the encoder does not have",
            "model",
            json!({
                "type": "WordLevel", "vocab": {"<unk>": 4_000_000_000_u32, "</s>": 1}, "unk_token": "<unk>",
            }),
        ),
        (
            "a vocabulary without an unknown token",
            "model",
            json!({"type": "WordLevel", "vocab": {}, "unk_token": "<unk>"}),
        ),
        ("no end of text", "post_processor", json!(null)),
        (
            "another end of text",
            "post_processor",
            json!({
                "type": "TemplateProcessing",
                "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                "pair": [], "special_tokens": {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}},
            }),
        ),
        (
            "a template of nothing",
            "post_processor",
            json!({
                "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "gone", "type_id": 0}}], "pair": [],
                "special_tokens": {},
            }),
        ),
        (
            "a broken regular expression",
            "pre_tokenizer",
            json!({
                "type": "Split", "pattern": {"Regex": "(?<a"}, "behavior": "Isolated", "invert": false,
            }),
        ),
        ("a broken character map", "normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
    ]
}

//! Bad input of every kind: the command says what is wrong and what to do, leaves nothing behind, takes no memory that
//! a file made up, and never panics. The texts are snapshots.

use kinora_tests::Run;
use kinora_tests::sandbox::Sandbox;
use kinora_tests::transcript::Transcript;
use serde_json::{Value, json};

const TRANSFORMER: &str = "model/transformer/diffusion_pytorch_model.safetensors";
const TEXT_ENCODER: &str = "model/text_encoder/model.safetensors";
const VAE: &str = "model/vae/diffusion_pytorch_model.safetensors";

#[test]
fn prompts_and_sizes() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    for prompt in ["", " \t\n "] {
        t.kinora(&sandbox, &["generate", prompt, "--model", "model", "--steps", "2"]);
    }
    for more in [
        ["--width", "0"],
        ["--width", "-64"],
        ["--width", "100000"],
        ["--width", "18446744073709551615"],
        ["--height", "18446744073709551616"],
        ["--height", "tall"],
        ["--frames", "0"],
        ["--frames", "-5"],
        ["--frames", "20000"],
        ["--frames", "14401"],
        ["--duration", "-1"],
        ["--duration", "nan"],
        ["--duration", "1e300"],
        ["--fps", "0"],
        ["--fps", "inf"],
        ["--fps", "1e9"],
    ] {
        t.generate(&sandbox, &more);
    }
    t.generate(&sandbox, &["--width", "4096", "--height", "4096", "--frames", "4093"]);
    t.generate(&sandbox, &["--frames", "5", "--duration", "1"]);
    t.kinora(&sandbox, &["generate", "a ball", "--model", "model", "--aspect", "16:0"]);
    t.kinora(&sandbox, &["generate", "a ball", "--model", "model", "--resolution", "9000p"]);
    insta::assert_snapshot!(t.0);
}

#[test]
fn denoising_settings() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    for more in [
        ["--steps", "0"],
        ["--steps", "1000000"],
        ["--guidance-scale", "nan"],
        ["--guidance-scale", "inf"],
        ["--guidance-scale", "-3"],
        ["--guidance-scale-2", "3"],
        ["--shift", "0"],
        ["--shift", "nan"],
        ["--sampler", "unipcc"],
        ["--sampler", "42"],
        ["--sigmas", ""],
        ["--sigmas", "0"],
        ["--sigmas", "0.5,0.9"],
        ["--sigmas", "1,nan,0.5"],
        ["--sigmas", "2,1"],
        ["--sigmas", "1,x"],
        ["--seed", "-1"],
        ["--count", "0"],
        ["--threads", "0"],
        ["--threads", "99999"],
        ["--device", "tpu"],
        ["--dtype", "int8"],
        ["--quant", "int4"],
    ] {
        t.generate(&sandbox, &more);
    }
    t.generate(&sandbox, &["--quality", "99", "--encoder", "openh264", "-o", "clip.mp4"]);
    t.generate(&sandbox, &["--sigmas", "1,0.5", "--steps", "2"]);
    insta::assert_snapshot!(t.0);
}

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
    t.damaged("manifest.toml of another family", |s| s.write("model/manifest.toml", manifest("\"ltx\"", "512")));
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
fn damaged_weight_files() {
    let mut t = Transcript::default();
    let cut = |keep: usize| {
        move |s: &Sandbox| {
            let bytes = std::fs::read(s.path(TRANSFORMER)).expect("a file");
            s.write(TRANSFORMER, &bytes[..bytes.len().min(keep)]);
        }
    };
    t.damaged("an empty file", cut(0));
    t.damaged("cut in the header", cut(1000));
    t.damaged("cut in the data", cut(200_000));
    t.damaged("a header longer than any", |s| s.write(TRANSFORMER, [0xff; 64]));
    t.damaged("a header longer than the file", |s| s.write(TRANSFORMER, [0, 0, 1, 0, 0, 0, 0, 0, b'{', b'}']));
    t.damaged("a header that is not JSON", |s| s.write_weights(TRANSFORMER, "{\"a\": {", &[]));
    t.damaged("a header that is nested too deeply", |s| s.write_weights(TRANSFORMER, &"[".repeat(100_000), &[]));
    t.damaged("data that overlaps", |s| {
        s.edit_weights(TRANSFORMER, |header, _| {
            header["blocks.0.attn1.to_q.weight"]["data_offsets"] =
                header["blocks.0.attn1.to_k.weight"]["data_offsets"].clone();
        });
    });
    t.damaged("data beyond the end", |s| {
        s.edit_weights(TRANSFORMER, |header, _| {
            header["proj_out.bias"]["data_offsets"] = json!([18_446_744_073_709_551_000_u64, u64::MAX]);
        });
    });
    t.damaged("data of no tensor", |s| s.edit_weights(TRANSFORMER, |_, data| data.extend([0; 16])));
    t.damaged("one name twice", |s| {
        let tensor = r#""a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}"#;
        s.write_weights(TRANSFORMER, &format!("{{{tensor}, {tensor}}}"), &[0; 4]);
    });
    t.damaged("an unknown dtype", |s| {
        s.edit_weights(TRANSFORMER, |header, _| header["proj_out.bias"]["dtype"] = json!("F33"));
    });
    t.damaged("a shape that overflows", |s| {
        s.edit_weights(TRANSFORMER, |header, _| header["proj_out.bias"]["shape"] = json!([u64::MAX, u64::MAX]));
    });
    t.damaged("a GGUF file", |s| s.write(TRANSFORMER, b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0"));
    t.damaged("a ZIP file without tensors", |s| s.write(TRANSFORMER, b"PK\x03\x04 and nothing more"));
    insta::assert_snapshot!(t.0);
}

#[test]
fn wrong_tensors() {
    let mut t = Transcript::default();
    t.damaged("whole numbers instead of floats", |s| {
        s.edit_weights(TRANSFORMER, |header, _| header["blocks.1.norm2.weight"]["dtype"] = json!("I32"));
    });
    t.damaged("another shape", |s| {
        s.edit_weights(TRANSFORMER, |header, _| header["blocks.1.norm2.weight"]["shape"] = json!([6, 6]));
    });
    t.damaged("a name with a typing error", |s| {
        s.edit_weights(TRANSFORMER, |header, _| {
            let tensor = header.remove("blocks.1.attn2.to_q.weight").expect("a tensor");
            header.insert("blocks.1.attn2.to_qq.weight".into(), tensor);
        });
    });
    t.damaged("a block that is not there", |s| {
        s.edit_weights(TRANSFORMER, |header, _| {
            let tensor = header.remove("blocks.1.attn2.to_q.weight").expect("a tensor");
            header.insert("blocks.7.attn2.to_q.weight".into(), tensor);
        });
    });
    t.damaged("one tensor too many", |s| {
        s.edit_weights(TRANSFORMER, |header, data| {
            let tensor = json!({"dtype": "F32", "shape": [1], "data_offsets": [data.len(), data.len() + 4]});
            header.insert("blocks.2.norm2.weight".into(), tensor);
            data.extend([0; 4]);
        });
    });
    t.damaged("the last tensor is missing", |s| {
        s.edit_weights(TRANSFORMER, |header, data| {
            let end = |tensor: &Value| tensor["data_offsets"][1].as_u64() == Some(data.len() as u64);
            let last = header.iter().find(|(_, tensor)| end(tensor)).expect("a last tensor").0.clone();
            let tensor = header.remove(&last).expect("it is there");
            data.truncate(tensor["data_offsets"][0].as_u64().expect("an offset") as usize);
        });
    });
    t.damaged("NaN in the text encoder", |s| s.poison(TEXT_ENCODER, "encoder.final_layer_norm.weight", f32::NAN));
    t.damaged("NaN in the transformer", |s| s.poison(TRANSFORMER, "blocks.1.norm2.weight", f32::NAN));
    t.damaged("infinity in the transformer", |s| s.poison(TRANSFORMER, "proj_out.bias", f32::INFINITY));
    t.damaged("a VAE in the transformer's place", |s| {
        std::fs::copy(s.path(VAE), s.path(TRANSFORMER)).expect("a copy");
    });
    insta::assert_snapshot!(t.0);
}

#[test]
fn shards_that_lead_elsewhere() {
    let mut t = Transcript::default();
    for shard in ["../vae/diffusion_pytorch_model.safetensors", "/etc/passwd", "..", "missing.safetensors", ""] {
        t.damaged(&format!("shard `{shard}`"), |s| {
            let index = json!({"metadata": {}, "weight_map": {"proj_out.bias": shard}});
            s.write(&format!("{TRANSFORMER}.index.json"), index.to_string());
        });
    }
    t.damaged("an index that is not JSON", |s| s.write(&format!("{TRANSFORMER}.index.json"), "weight_map"));
    t.damaged("an index without shards", |s| s.write(&format!("{TRANSFORMER}.index.json"), r#"{"weight_map": {}}"#));
    insta::assert_snapshot!(t.0);
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
    let models: &[(&str, Value)] = &[
        ("no model", json!(null)),
        ("an unknown model", json!({"type": "Oracle"})),
        ("Unigram without pieces", json!({"type": "Unigram", "unk_id": 0, "vocab": []})),
        ("Unigram whose unknown piece is not there", json!({"type": "Unigram", "unk_id": 99, "vocab": [["a", 0.0]]})),
        ("BPE with merges of nothing", json!({"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]]})),
        (
            "tokens that the encoder does not have",
            json!({
                "type": "WordLevel", "vocab": {"<unk>": 4_000_000_000_u32, "</s>": 1}, "unk_token": "<unk>",
            }),
        ),
        ("a vocabulary without an unknown token", json!({"type": "WordLevel", "vocab": {}, "unk_token": "<unk>"})),
    ];
    for (title, model) in models {
        t.damaged(title, |s| {
            s.edit_json(path, |tokenizer| {
                tokenizer.insert("model".into(), model.clone());
            });
        });
    }
    let parts: &[(&str, &str, Value)] = &[
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
    ];
    for (title, part, value) in parts {
        t.damaged(title, |s| {
            s.edit_json(path, |tokenizer| {
                tokenizer.insert((*part).into(), value.clone());
            });
        });
    }
    insta::assert_snapshot!(t.0);
}

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
fn places_that_cannot_be_written() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    sandbox.write("file", "");
    std::fs::create_dir(sandbox.path("folder.mp4.safetensors")).expect("a folder");
    for clip in ["nowhere/clip.mp4", "file/clip.mp4", "clip.avi", "clip", "/dev/full", "nowhere/frames/%d.png", "file/"]
    {
        t.generate(&sandbox, &["-o", clip]);
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/dev/full", sandbox.path("full.mp4")).expect("a link");
        t.generate(&sandbox, &["-o", "full.mp4"]);
    }
    for latents in ["nowhere/latents.safetensors", "file/latents.safetensors", "folder.mp4.safetensors"] {
        t.generate(&sandbox, &["--save-latents", latents]);
    }
    t.generate(&sandbox, &["--resume", "file"]);
    t.generate(&sandbox, &["--resume", "file/run"]);
    sandbox.write_tensor("raw.safetensors", "video", &[1, 3, 32, 32], 0.5);
    t.kinora(&sandbox, &["encode", "raw.safetensors", "--model", "model", "-o", "nowhere/latents.safetensors"]);
    insta::assert_snapshot!(t.0);
}

/// No file may grow: that comes out before the first step.
#[cfg(unix)]
#[test]
fn files_that_may_not_grow() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    let before = sandbox.files();
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
    for more in [&["-o", "clip.mp4"][..], &["--resume", "run", "-o", "clip.safetensors"]] {
        let run = sandbox.shell(script, &Sandbox::generate_arguments(more)).output().expect("a shell");
        t.keep(&format!("generate … {}", more.join(" ")), &Run::of(&run));
        assert_eq!(sandbox.files(), before);
    }
    insta::assert_snapshot!(t.0);
}

/// The disk fills up while the clip is written. Only where a user may mount a small disk.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    std::fs::create_dir(sandbox.path("small")).expect("a folder");
    let on_small_disk = |command: &str, arguments: &[&str]| {
        let inner = format!("mount -t tmpfs -o size=100k tmpfs small && {command}");
        let script = format!("unshare -rm sh -c '{inner}' \"$0\" \"$@\"");
        Run::of(&sandbox.shell(&script, arguments).output().expect("a shell"))
    };
    if on_small_disk("true", &[]).status != Some(0) {
        return;
    }
    let more = ["-o", "small/clip.safetensors", "--frames", "17", "--save-latents", "latents.safetensors"];
    t.keep("a clip", &on_small_disk("exec \"$0\" \"$@\"", &Sandbox::generate_arguments(&more)));
    assert!(sandbox.path("latents.safetensors").is_file());
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

#[test]
fn command_lines() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    t.kinora(&sandbox, &["generat", "a ball"]);
    t.kinora(&sandbox, &["generate"]);
    t.kinora(&sandbox, &["generate", "a ball", "--stepz", "4"]);
    t.kinora(&sandbox, &["decode"]);
    t.kinora(&sandbox, &["bench", "--what", "everything"]);
    insta::assert_snapshot!(t.0);
}

/// The values of the network leave the range of f32 in the middle of the run, where the second expert takes over.
#[test]
fn infinite_values_stop_at_their_step() {
    let (sandbox, mut t) = (Sandbox::new("wan22_a14b_t2v"), Transcript::default());
    for shard in 1..=3 {
        let file = format!("model/transformer_2/diffusion_pytorch_model-0000{shard}-of-00003.safetensors");
        sandbox.edit_weights(&file, |_, data| {
            for value in data.chunks_exact_mut(4) {
                let large = f32::from_le_bytes([value[0], value[1], value[2], value[3]]) * 1e30;
                value.copy_from_slice(&large.to_le_bytes());
            }
        });
    }
    t.generate(&sandbox, &["--steps", "4"]);
    let sandbox = Sandbox::new("wan21_t2v");
    sandbox.write_tensor("noise.safetensors", "noise", &[1, 16, 2, 4, 4], 3e38);
    t.generate(&sandbox, &["--init-latents", "noise.safetensors"]);
    insta::assert_snapshot!(t.0);
}

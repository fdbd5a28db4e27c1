//! Files that are something else than their names promise, and parts that do not belong together: every command refuses
//! them alike, before any work.

use crate::{TEXT_ENCODER, TRANSFORMER, VAE};
use kinora_tests::sandbox::Sandbox;
use kinora_tests::transcript::Transcript;
use serde_json::{Value, json};

const TOKENIZER: &str = "model/tokenizer/tokenizer.json";
const CONFIG: &str = "model/transformer/config.json";

/// A model damaged by `damage` is refused by generating, planning and inspecting.
fn refused(t: &mut Transcript, title: &str, damage: impl FnOnce(&Sandbox)) {
    let sandbox = Sandbox::new("wan21_t2v");
    damage(&sandbox);
    let generated = sandbox.generate(&[]);
    t.keep(title, &generated);
    assert_eq!(sandbox.kinora(&["plan", "a ball", "--model", "model"]).failure(), generated.failure(), "{title}");
    assert!(!sandbox.path("clip.safetensors").exists(), "{title}");
    for json in [&[][..], &["--json"]] {
        let run = sandbox.kinora(&[&["inspect", "model"][..], json].concat());
        assert!(run.status == Some(1) && run.stderr.contains("\n\nhint: "), "{title}: {run:#?}");
        assert!(!run.stdout.contains("usable   yes"), "{title}: {run:#?}");
    }
}

#[test]
fn files_that_are_something_else() {
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{:064}\nsize 123456\n", 0);
    let mut t = Transcript::default();
    for (name, content) in [
        ("a pointer", pointer.as_bytes()),
        ("a page", b"<!DOCTYPE html><html><body>Sign in</body></html>"),
        ("an answer", b"Entry not found"),
        ("a pickle", b"\x80\x04\x95\x10\0\0\0"),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0"),
        ("GGUF", b"GGUF\x03\0\0\0{\0\0\0\0\0\0\0"),
        ("nothing", b""),
    ] {
        for file in [TRANSFORMER, CONFIG, TOKENIZER] {
            refused(&mut t, &format!("{name} as {file}"), |s| s.write(file, content));
        }
    }
    for (name, file) in [("weights", CONFIG), ("weights", TOKENIZER)] {
        refused(&mut t, &format!("{name} as {file}"), |s| {
            std::fs::copy(s.path(VAE), s.path(file)).expect("a copy");
        });
    }
    refused(&mut t, "JSON as weights", |s| s.write(VAE, r#"{"error": "no such file"}"#));
    insta::assert_snapshot!(t.0);
}

#[test]
fn latents_that_are_something_else() {
    let (sandbox, mut t) = (Sandbox::new("wan21_t2v"), Transcript::default());
    sandbox.write("page.safetensors", "<html><head><title>404</title></head></html>");
    sandbox.write_tensor("wide.safetensors", "latents", &[1, 48, 2, 2, 2], 1.0);
    for latents in ["page.safetensors", "wide.safetensors"] {
        t.kinora(&sandbox, &["decode", latents, "--model", "model", "-o", "clip.mp4"]);
    }
    let other = kinora_tests::fixture("wan22_ti2v_t2v").to_string_lossy().into_owned();
    let made = sandbox.generate(&["--model", &other, "--save-latents", "other.safetensors"]);
    assert_eq!(made.status, Some(0), "{made:#?}");
    let error = sandbox.kinora(&["decode", "other.safetensors", "--model", "model", "-o", "clip.mp4"]).failure();
    assert!(error.contains(&format!("they were made with the model {other}")), "{error}");
    insta::assert_snapshot!(t.0);
}

/// Renames the tensors of a file.
fn rename(sandbox: &Sandbox, file: &str, name: impl Fn(&str) -> String) {
    sandbox.edit_weights(file, |header, _| {
        let all = std::mem::take(header).into_iter().filter(|(old, _)| old != "__metadata__");
        *header = all.map(|(old, value)| (name(&old), value)).collect();
    });
}

/// Adds an f32 tensor of ones.
fn add(sandbox: &Sandbox, file: &str, name: &str, shape: &[usize]) {
    sandbox.edit_weights(file, |header, data| {
        let (start, bytes) = (data.len(), 4 * shape.iter().product::<usize>());
        data.extend(1f32.to_le_bytes().repeat(bytes / 4));
        header.insert(name.into(), json!({"dtype": "F32", "shape": shape, "data_offsets": [start, start + bytes]}));
    });
}

#[test]
fn kinds_of_models_that_are_not_read() {
    let mut t = Transcript::default();
    refused(&mut t, "a LoRA", |s| rename(s, TRANSFORMER, |name| format!("{name}.lora_A.weight")));
    refused(&mut t, "an inverse scale", |s| add(s, TRANSFORMER, "blocks.0.attn1.to_q.weight_scale_inv", &[]));
    refused(&mut t, "a scale of nothing", |s| add(s, TRANSFORMER, "blocks.7.attn1.to_q.scale_weight", &[]));
    refused(&mut t, "a scale per matrix", |s| {
        add(s, TEXT_ENCODER, "encoder.block.0.layer.0.SelfAttention.q.weight_scale", &[]);
    });
    refused(&mut t, "bitsandbytes", |s| {
        add(s, TRANSFORMER, "blocks.0.attn1.to_q.weight.quant_state.bitsandbytes__nf4", &[8]);
    });
    refused(&mut t, "a quantised configuration", |s| {
        s.edit_json(CONFIG, |config| {
            config.insert("quantization_config".into(), json!({"quant_method": "bitsandbytes"}));
        });
    });
    refused(&mut t, "all parts in one file", |s| {
        let vae = kinora_checkpoint::load_safetensors(&s.path(VAE)).expect("weights").0;
        let transformer = kinora_checkpoint::load_safetensors(&s.path(TRANSFORMER)).expect("weights").0;
        let all = transformer.into_iter().map(|(name, tensor)| (format!("model.diffusion_model.{name}"), tensor));
        let all: Vec<_> = all.chain(vae.into_iter().map(|(name, tensor)| (format!("vae.{name}"), tensor))).collect();
        kinora_checkpoint::save_safetensors(&s.path(TRANSFORMER), &all, &std::collections::BTreeMap::new())
            .expect("a file");
    });
    let sandbox = Sandbox::new("wan21_t2v");
    rename(&sandbox, TRANSFORMER, |name| format!("diffusion_model.{name}.lora_up.weight"));
    std::fs::rename(sandbox.path(TRANSFORMER), sandbox.path("style.safetensors")).expect("a file");
    t.run(&sandbox, "a LoRA among single files", &Sandbox::generate_arguments(&["--model", "style.safetensors", VAE]));
    t.run(&sandbox, "a directory and a file", &Sandbox::generate_arguments(&["--model", "model", "style.safetensors"]));
    insta::assert_snapshot!(t.0);
}

#[test]
fn parts_that_do_not_belong_together() {
    let mut t = Transcript::default();
    refused(&mut t, "an encoder of another width", |s| {
        s.edit_json("model/text_encoder/config.json", |config| {
            let double = config["d_model"].as_u64().expect("a number") * 2;
            config.insert("d_model".into(), json!(double));
        });
        widen(s);
    });
    refused(&mut t, "unknown names", |s| rename(s, VAE, |name| name.replace("encoder.", "extra.encoder.")));
    refused(&mut t, "one name without end", |s| {
        rename(s, VAE, |name| if name == "decoder.conv_in.bias" { "a".repeat(70_000) } else { name.into() });
    });
    refused(&mut t, "a page as image processor", |s| {
        std::fs::create_dir(s.path("model/image_processor")).expect("a folder");
        s.write("model/image_processor/preprocessor_config.json", "<html>");
    });
    refused(&mut t, "a SentencePiece model without an end", |s| {
        std::fs::remove_file(s.path(TOKENIZER)).expect("a file");
        let unknown = b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02";
        std::fs::write(s.path("model/tokenizer/spiece.model"), unknown).expect("a file");
    });
    #[cfg(unix)]
    for file in [VAE, TOKENIZER, CONFIG] {
        refused(&mut t, &format!("{file} is a link to nothing"), |s| {
            std::fs::remove_file(s.path(file)).expect("a file");
            std::os::unix::fs::symlink("../../blobs/0fad78", s.path(file)).expect("a link");
        });
    }
    refused(&mut t, "another format in the folder", |s| {
        std::fs::rename(s.path(TRANSFORMER), s.path("model/transformer/model.onnx")).expect("a file");
    });
    insta::assert_snapshot!(t.0);
}

/// Doubles every dimension of the text encoder's width.
fn widen(sandbox: &Sandbox) {
    let config = std::fs::read(sandbox.path("model/text_encoder/config.json")).expect("a file");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    let width = config["d_model"].as_u64().expect("a number") / 2;
    sandbox.edit_weights(TEXT_ENCODER, |header, data| {
        data.clear();
        for (_, tensor) in header.iter_mut().filter(|(name, _)| *name != "__metadata__") {
            for size in tensor["shape"].as_array_mut().expect("a shape") {
                // Heads times their width is as much as the width.
                if size.as_u64() == Some(width) {
                    *size = json!(2 * width);
                }
            }
            let elements: u64 = tensor["shape"].as_array().expect("a shape").iter().filter_map(Value::as_u64).product();
            tensor["data_offsets"] = json!([data.len(), data.len() as u64 + 4 * elements]);
            tensor["dtype"] = json!("F32");
            data.extend(0.5f32.to_le_bytes().repeat(elements as usize));
        }
    });
}

/// Tables and matrices that hold nothing, which only a run sees.
#[test]
fn matrices_without_values() {
    let mut t = Transcript::default();
    let clear = |file: &'static str, tensor: &'static str| {
        move |s: &Sandbox| {
            s.edit_weights(file, |header, data| {
                let ends = header[tensor]["data_offsets"].as_array().expect("offsets").clone();
                let [start, end] = [0, 1].map(|index| ends[index].as_u64().expect("an offset") as usize);
                data[start..end].fill(0);
            });
        }
    };
    t.damaged("the only table of words", clear(TEXT_ENCODER, "shared.weight"));
    t.damaged("a query", clear(TRANSFORMER, "blocks.1.attn1.to_q.weight"));
    t.damaged("the head", clear(TRANSFORMER, "proj_out.weight"));
    t.damaged("two tables that differ", |s| {
        let tensors = kinora_checkpoint::load_safetensors(&s.path(TEXT_ENCODER)).expect("weights").0;
        let shape = tensors["shared.weight"].dims().to_vec();
        add(s, TEXT_ENCODER, "encoder.embed_tokens.weight", &shape);
    });
    insta::assert_snapshot!(t.0);
}

/// The files of a stage are cut when the stage before it is under way: one sentence, and nothing is lost.
#[test]
fn files_that_are_cut_under_a_run() {
    use kinora::{Event, Output, Request, Sampling, Size};
    let sandbox = Sandbox::new("wan22_a14b_t2v");
    let request = Request::new("a red ball")
        .size(Size::Pixels { width: Some(32), height: Some(32) })
        .frames(5)
        .sampling(Sampling::default().steps(4))
        .seed(1)
        .output(Output::new(sandbox.path("clip.safetensors")));
    let pipeline = sandbox.pipeline();
    for (file, kept) in [
        ("model/vae/diffusion_pytorch_model.safetensors", true),
        ("model/transformer_2/diffusion_pytorch_model-00002-of-00003.safetensors", false),
    ] {
        let path = sandbox.path(file);
        let whole = std::fs::read(&path).expect("weights");
        let cut = |event: Event| {
            if matches!(event, Event::Step { done: 1, .. }) {
                let opened = std::fs::OpenOptions::new().write(true).open(&path).expect("a file");
                opened.set_len(whole.len() as u64 / 2).expect("it is cut");
            }
            std::ops::ControlFlow::Continue(())
        };
        let error = pipeline.generate(&request, cut).expect_err(file);
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        let hint = error.hint().expect("a hint");
        assert_eq!(hint.contains("nothing is lost"), kept, "{hint}");
        std::fs::write(&path, &whole).expect("weights");
    }
}

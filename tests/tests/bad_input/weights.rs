//! Weight files that are damaged, do not fit or have values that no network computes with.

use crate::{TEXT_ENCODER, TRANSFORMER, VAE};
use kinora_tests::sandbox::Sandbox;
use kinora_tests::transcript::Transcript;
use serde_json::{Value, json};

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

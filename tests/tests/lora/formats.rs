//! Larger cases, one for each naming, in the folder that `KINORA_FORMATS` names: `cases.json`, `refuse.json` and
//! `golden.safetensors`; without it nothing is tested.

use super::{WHOLE_RUN, formats, options};
use candle_core::Tensor;
use kinora::{Lora, Output, Request, SamplerKind, Sampling, Size};
use kinora_tests::{generate, max_error, tensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

/// The case's model directory: its base, where `scratch` gets a copy with the transformer that replaces the base's own.
fn model(folder: &Path, case: &Value, scratch: &Path) -> PathBuf {
    let base = folder.join(case["base"].as_str().expect("a base"));
    let Some(transformer) = case["replace"]["transformer"].as_str() else { return base };
    let copy = scratch.join("model");
    for entry in ["", "scheduler", "text_encoder", "tokenizer", "transformer", "vae"] {
        std::fs::create_dir_all(copy.join(entry)).expect("a folder");
        for file in std::fs::read_dir(base.join(entry)).expect("a folder").map(|file| file.expect("an entry").path()) {
            let own = |name: &std::ffi::OsStr| copy.join(entry).join(name);
            if file.is_file() && !(entry == "transformer" && file.extension().is_some_and(|e| e == "safetensors")) {
                std::fs::copy(&file, own(file.file_name().expect("a name"))).expect("a copy");
            }
        }
    }
    let source = folder.join(transformer);
    let ending = source.extension().expect("an extension").to_string_lossy().into_owned();
    let name = format!("transformer/diffusion_pytorch_model.{ending}");
    std::fs::copy(&source, copy.join(name)).expect("a copy");
    copy
}

fn request(common: &Value, case: &Value, noise: &Tensor, scratch: &Path) -> Request {
    let file = scratch.join("noise.safetensors");
    let noise = [("noise".to_string(), noise.clone())];
    kinora_checkpoint::save_safetensors(&file, &noise, &BTreeMap::new()).expect("noise is written");
    let number = |name: &str| common[name].as_u64().expect("a number") as usize;
    let guidance = common["guidance_scale"].as_f64();
    let mut sampling = Sampling::default()
        .steps(number("steps"))
        .guidance_scale(guidance)
        .guidance_scale_2(guidance.filter(|_| case["base"] == "p"));
    if let Some(sigmas) = case["schedule"]["sigmas"].as_array() {
        let sigmas: Vec<f64> = sigmas.iter().filter_map(Value::as_f64).collect();
        let one = case["schedule"]["guidance_scale"].as_f64();
        sampling = Sampling::default()
            .sigmas(sigmas[..sigmas.len() - 1].to_vec())
            .sampler(SamplerKind::Euler)
            .guidance_scale(one)
            .guidance_scale_2(one);
    }
    let mut request = Request::new(common["prompt"].as_str().expect("a prompt"))
        .size(Size::Pixels { width: Some(number("width")), height: Some(number("height")) })
        .frames(number("num_frames"))
        .sampling(sampling)
        .init_latents(file)
        .output(Output::new(scratch.join("clip.safetensors")));
    request.negative_prompt = common["negative_prompt"].as_str().map(str::to_string);
    request
}

fn lora(folder: &Path, words: &Value) -> Lora {
    let expert = words["expert"].as_str().map_or(String::new(), |expert| format!("{expert}="));
    let strength = words["strength"].as_f64().expect("a number");
    let mut lora: Lora = format!("{expert}x:{strength}").parse().expect("words of --lora");
    lora.file = folder.join(words["file"].as_str().expect("a file"));
    lora
}

/// The largest error of the final latents.
fn error_of(
    folder: &Path,
    common: &Value,
    name: &str,
    case: &Value,
    golden: &BTreeMap<String, Tensor>,
) -> Result<f64, String> {
    let scratch = tempfile::tempdir().expect("a directory");
    let noise = &golden[&format!("latents_init.{}", case["base"].as_str().expect("a base"))];
    let loras = case["loras"].as_array().expect("LoRAs").iter().map(|words| lora(folder, words)).collect();
    let options = options(&model(folder, case, scratch.path()), loras);
    let pipeline = kinora::Pipeline::load(&options).map_err(|error| error.to_string())?;
    let request = request(common, case, noise, scratch.path());
    let (report, steps) = generate(&pipeline, &request).map_err(|error| error.to_string())?;
    report.notices.iter().for_each(|notice| println!("    {notice}"));
    Ok(max_error(steps.last().expect("a step"), &golden[&format!("{name}.latents")]))
}

#[test]
fn cases_of_another_generator() {
    let Some(folder) = formats() else { return };
    let all = json(&folder.join("cases.json"));
    let golden = tensors(&folder.join("golden.safetensors"));
    let mut failed = Vec::new();
    for (name, case) in all["cases"].as_object().expect("cases") {
        if case["loras"].is_null() {
            continue;
        }
        let error = error_of(&folder, &all["common"], name, case, &golden);
        println!("{name}: {}", error.as_ref().map_or_else(ToString::to_string, |error| format!("{error:.1e}")));
        if error.is_ok_and(|error| error <= WHOLE_RUN) {
            continue;
        }
        failed.push(name);
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn refusals_of_another_generator() {
    let Some(folder) = formats() else { return };
    for (name, case) in json(&folder.join("refuse.json")).as_object().expect("cases") {
        if !name.starts_with("lora_") {
            continue;
        }
        let words = serde_json::json!({ "file": case["file"], "strength": 1.0 });
        let error = kinora::Pipeline::load(&options(&folder.join("b"), vec![lora(&folder, &words)])).err();
        let text = error.unwrap_or_else(|| panic!("{name} is not refused")).to_string();
        println!("{name}: {text}");
        for word in case["names"].as_array().expect("names").iter().filter_map(Value::as_str) {
            assert!(text.contains(word), "{name}: `{word}` is not in: {text}");
        }
    }
}

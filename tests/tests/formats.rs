//! Files in the formats that people have, against the libraries that define them: those of `scripts/fixtures/stored.py`, and
//! every case of a folder that `KINORA_FORMATS` names.
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing")]

use candle_core::DType;
use kinora::{LoadOptions, Output, Pipeline, Request, Sampling, Size};
use kinora_tests::{Golden, fixture, generate, max_error, relative_l2};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Largest difference of the final latents, relative to the tensor's scale, f32.
const EXACT: f64 = 1e-4;

/// Runs of a model whose transformer is stored in another way.
#[test]
fn stored_weights_match_diffusers() {
    let (expected, _) =
        kinora_checkpoint::load_safetensors(&fixture("formats").join("golden.safetensors")).expect("golden numbers");
    for (file, expected) in expected {
        let scratch = tempfile::tempdir().expect("a directory");
        let paths = [fixture("wan21_t2v"), fixture("formats").join(&file)];
        let options = LoadOptions::default()
            .model(paths.map(|path| path.to_string_lossy().into_owned()).to_vec())
            .dtype(Some(DType::F32))
            .device("cpu")
            .exact(true);
        let pipeline = Pipeline::load(&options).unwrap_or_else(|error| panic!("{file}: {error}"));
        let request = Golden::read("wan21_t2v", "golden_b.safetensors").request(scratch.path());
        let (_, steps) = generate(&pipeline, &request).unwrap_or_else(|error| panic!("{file}: {error}"));
        let error = max_error(steps.last().expect("steps"), &expected);
        println!("{file}: {error:.1e}");
        assert!(error <= EXACT, "{file}: {error:.2e}");
    }
}

#[test]
fn every_case_of_a_folder_has_its_numbers() {
    let Some(folder) = std::env::var_os("KINORA_FORMATS").map(PathBuf::from) else { return };
    let only = std::env::var("KINORA_FORMATS_ONLY").unwrap_or_default();
    let text = std::fs::read_to_string(folder.join("cases.json")).expect("cases");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let (golden, _) = kinora_checkpoint::load_safetensors(&folder.join("golden.safetensors")).expect("golden numbers");
    let mut failed = Vec::new();
    let bases = ["a", "b", "p"].map(|base| (format!("base_{base}"), serde_json::json!({"base": base, "replace": {}})));
    let cases = all["cases"].as_object().expect("cases").iter().map(|(name, case)| (name.clone(), case.clone()));
    for (name, case) in cases.chain(bases).filter(|(name, _)| name.contains(&only)) {
        if case.get("loras").is_some() {
            continue;
        }
        let case = &case;
        let scratch = tempfile::tempdir().expect("a directory");
        let model = model_of(&folder, case, scratch.path());
        let run = |exact: bool| {
            let options = LoadOptions::default()
                .model(vec![model.to_string_lossy().into_owned()])
                .dtype(Some(DType::F32))
                .device("cpu")
                .exact(exact);
            let pipeline = Pipeline::load(&options).map_err(|error| error.to_string())?;
            let noise = &golden[&format!("latents_init.{}", case["base"].as_str().expect("a base"))];
            let (_, steps) = generate(&pipeline, &request(&all["common"], noise, scratch.path()))
                .map_err(|error| error.to_string())?;
            Ok::<_, String>(steps.last().expect("steps").clone())
        };
        let expected = &golden[&format!("{name}.latents")];
        match (run(true), run(false)) {
            (Ok(exact), Ok(usual)) => {
                let error = max_error(&exact, expected);
                println!("{name:24} exact {error:.1e}, usual {:.1e}", relative_l2(&usual, expected));
                if error > EXACT {
                    failed.push(name.clone());
                }
            }
            (Err(error), _) | (_, Err(error)) => {
                println!("{name:24} {error}");
                failed.push(name.clone());
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// The base's directory, with the case's files in the places of its parts.
fn model_of(folder: &Path, case: &Value, scratch: &Path) -> PathBuf {
    let (base, model) = (folder.join(case["base"].as_str().expect("a base")), scratch.join("model"));
    copy(&base, &model);
    for (part, file) in case["replace"].as_object().expect("files") {
        let own = std::fs::read_dir(model.join(part)).expect("a part").filter_map(|entry| Some(entry.ok()?.path()));
        let mut own = own.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
        let source = folder.join(file.as_str().expect("a file"));
        std::fs::copy(source, own.next().expect("weights")).expect("a copy");
    }
    model
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("a copy");
        }
    }
}

fn request(common: &Value, noise: &candle_core::Tensor, scratch: &Path) -> Request {
    let path = scratch.join("noise.safetensors");
    let tensors = [("noise".to_string(), noise.clone())];
    kinora_checkpoint::save_safetensors(&path, &tensors, &BTreeMap::new()).expect("noise is written");
    let number = |name: &str| common[name].as_f64().expect("a number");
    let text = |name: &str| common[name].as_str().expect("a text").to_string();
    Request::new(text("prompt"))
        .negative_prompt(text("negative_prompt"))
        .size(Size::Pixels { width: Some(number("width") as usize), height: Some(number("height") as usize) })
        .frames(number("num_frames") as usize)
        .sampling(Sampling::default().steps(number("steps") as usize).guidance_scale(number("guidance_scale")))
        .init_latents(path)
        .output(Output::new(scratch.join("clip.safetensors")))
}

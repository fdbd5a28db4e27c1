//! What a path is taken for.

use crate::fixture;
use kinora_checkpoint::{Layout, save_safetensors};
use std::collections::BTreeMap;
use std::path::Path;

fn weights(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    save_safetensors(path, &[], &BTreeMap::new()).unwrap();
}

fn text(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn diffusers_folders() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let index = r#"{"_class_name": "WanPipeline", "boundary_ratio": 0.875, "image_encoder": [null, null],
        "scheduler": ["diffusers", "UniPCMultistepScheduler"], "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"], "text_encoder": ["transformers", "UMT5EncoderModel"]}"#;
    text(&root.join("model_index.json"), index);
    text(&root.join("scheduler/scheduler_config.json"), "{}");
    text(&root.join("transformer/config.json"), "{}");
    text(&root.join("transformer/diffusion_pytorch_model.safetensors.index.json"), r#"{"weight_map": {}}"#);
    weights(&root.join("transformer/diffusion_pytorch_model-00001-of-00001.safetensors"));
    text(&root.join("vae/config.json"), "{}");
    weights(&root.join("vae/odd name.safetensors"));
    for path in [root.to_path_buf(), root.join("model_index.json")] {
        let Layout::Diffusers(found) = Layout::detect(&path).unwrap() else { panic!("a diffusers folder") };
        assert_eq!(
            (found.class_name.as_str(), found.settings["boundary_ratio"].as_f64()),
            ("WanPipeline", Some(0.875))
        );
        assert_eq!(found.components.keys().collect::<Vec<_>>(), ["scheduler", "text_encoder", "transformer", "vae"]);
        let transformer = &found.components["transformer"];
        assert_eq!(transformer.class_name.as_deref(), Some("WanTransformer3DModel"));
        assert_eq!(transformer.config.as_deref(), Some(root.join("transformer/config.json").as_path()));
        let shards = root.join("transformer/diffusion_pytorch_model.safetensors.index.json");
        assert_eq!(transformer.weights, [shards]);
        assert_eq!(found.components["vae"].weights, [root.join("vae/odd name.safetensors")]);
        assert_eq!(found.components["scheduler"].config, Some(root.join("scheduler/scheduler_config.json")));
        let missing = &found.components["text_encoder"];
        assert!(missing.config.is_none() && missing.weights.is_empty());
    }
    let Layout::Component(vae) = Layout::detect(&root.join("vae")).unwrap() else { panic!("a component") };
    assert_eq!(vae.weights, [root.join("vae/odd name.safetensors")]);
}

#[test]
fn hostile_and_broken_indices() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |index: &str| {
        text(&folder.path().join("model_index.json"), index);
        Layout::detect(folder.path()).unwrap_err().to_string().split_once("model_index.json: ").unwrap().1.to_string()
    };
    assert_eq!(
        refusal(r#"{"../vae": ["diffusers", "AutoencoderKLWan"]}"#),
        "component name `../vae` leads out of the model's folder"
    );
    assert!(refusal("[1]").starts_with("not valid JSON"));
    assert!(refusal("{").starts_with("not valid JSON"));
}

#[test]
fn folders_of_original_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for expert in ["high_noise_model", "low_noise_model"] {
        text(&root.join(expert).join("config.json"), r#"{"_class_name": "WanModel"}"#);
        weights(&root.join(expert).join("diffusion_pytorch_model.safetensors"));
    }
    std::fs::copy(fixture("plain.pth"), root.join("Wan2.1_VAE.pth")).unwrap();
    text(&root.join("assets/readme.txt"), "");
    let Layout::Folder(found) = Layout::detect(root).unwrap() else { panic!("a folder") };
    assert_eq!(found.files, [root.join("Wan2.1_VAE.pth")]);
    assert_eq!(found.components.keys().collect::<Vec<_>>(), ["high_noise_model", "low_noise_model"]);
    assert_eq!(found.components["low_noise_model"].class_name.as_deref(), Some("WanModel"));
    text(&root.join("config.json"), r#"{"architectures": ["UMT5EncoderModel"]}"#);
    weights(&root.join("model.safetensors"));
    let Layout::Folder(found) = Layout::detect(root).unwrap() else { panic!("a folder") };
    assert_eq!(found.components[""].class_name.as_deref(), Some("UMT5EncoderModel"));
    assert_eq!(found.files, [root.join("Wan2.1_VAE.pth")]);
}

#[test]
fn single_files() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Layout::detect(&fixture("plain.pth")).unwrap(), Layout::Pth(fixture("plain.pth")));
    let single = fixture("plain.safetensors");
    assert_eq!(Layout::detect(&single).unwrap(), Layout::Safetensors(single));
    text(&folder.path().join("model.gguf"), "GGUF....");
    let message = |path: &Path| Layout::detect(path).unwrap_err().to_string();
    assert!(message(&folder.path().join("model.gguf")).ends_with("model.gguf: GGUF files cannot be read"));
    text(&folder.path().join("notes.txt"), "just a text that is no model");
    assert!(message(&folder.path().join("notes.txt")).contains("not a safetensors file"));
    assert!(message(&folder.path().join("nothing")).contains("No such file"));
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let error = Layout::detect(&empty).unwrap_err();
    assert!(error.to_string().ends_with("no model_index.json, no config.json with weights and no weight files"));
    assert!(error.hint().is_some());
}

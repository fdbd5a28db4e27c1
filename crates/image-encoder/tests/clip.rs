//! CLIP's vision tower against transformers and Wan's original release: hidden states, names, and refusals.
//! `scripts/fixtures/clip_vision.py` made the numbers.

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{KeyMap, Weights};
use kinora_image_encoder::{Activation, ClipPreprocess, ClipVision, ClipVisionConfig, Error};
use kinora_image_encoder::{ImageEncoder, ImageStage, key_maps};
use kinora_test_support::{fixture, relative_l2, tensors_and_metadata};
use std::collections::BTreeMap;

/// Relative L2 of a forward in f32; two correct f32 implementations differ by less than 1e-6.
const F32: f64 = 1e-5;

fn config() -> ClipVisionConfig {
    ClipVisionConfig::from_json(&std::fs::read(fixture("clip/config.json")).unwrap()).unwrap()
}

/// The tower that transformers made, with either activation.
fn tower(hidden_act: Activation, dtype: DType) -> ClipVision {
    let weights = open("clip/model.safetensors", dtype);
    ClipVision::new(&ClipVisionConfig { hidden_act, ..config() }, &weights).unwrap()
}

fn open(name: &str, dtype: DType) -> Weights {
    let maps = key_maps();
    Weights::open(&[fixture(name)], &maps.iter().collect::<Vec<_>>(), &Device::Cpu, dtype).unwrap()
}

/// The pixels of both pictures, `[2, 3, s, s]`.
fn pixels() -> Tensor {
    let (cases, _) = tensors_and_metadata(&fixture("clip/preprocess.safetensors"));
    Tensor::cat(&[&cases["wide.pixels"], &cases["tall.pixels"]], 0).unwrap()
}

const ACTIVATIONS: [(Activation, &str); 2] = [(Activation::Gelu, "gelu"), (Activation::QuickGelu, "quick_gelu")];

#[test]
fn hidden_states_are_those_of_transformers() {
    let (golden, _) = tensors_and_metadata(&fixture("clip/golden.safetensors"));
    for (activation, name) in ACTIVATIONS {
        let hidden = tower(activation, DType::F32).penultimate(&pixels()).unwrap();
        assert_eq!((hidden.dims(), hidden.dtype()), (&[2, 17, 32][..], DType::F32));
        let error = relative_l2(&hidden, &golden[name]);
        assert!(error <= F32, "{name}: relative L2 {error:.2e}");
    }
}

#[test]
fn is_at_least_as_exact_as_transformers_in_bf16() {
    let (golden, metadata) = tensors_and_metadata(&fixture("clip/golden.safetensors"));
    for (activation, name) in ACTIVATIONS {
        let hidden = tower(activation, DType::BF16).penultimate(&pixels()).unwrap();
        assert_eq!(hidden.dtype(), DType::BF16);
        let allowed: f64 = metadata[&format!("{name}.bf16")].parse().unwrap();
        let error = relative_l2(&hidden, &golden[name]);
        assert!(error <= allowed, "{name}: relative L2 {error:.2e}, transformers has {allowed:.2e}");
    }
}

#[test]
fn the_stage_goes_from_a_picture_to_hidden_states() {
    let (cases, metadata) = tensors_and_metadata(&fixture("clip/preprocess.safetensors"));
    let (golden, _) = tensors_and_metadata(&fixture("clip/golden.safetensors"));
    for (index, case) in ["wide", "tall"].into_iter().enumerate() {
        let preprocess = ClipPreprocess::from_json(metadata[case].as_bytes()).unwrap();
        let stage = ImageStage::new(tower(Activation::Gelu, DType::F32), preprocess);
        let picture = &cases[&format!("{case}.resized")];
        let (height, width, _) = picture.dims3().unwrap();
        let rgb: Vec<u8> = picture.flatten_all().unwrap().to_vec1().unwrap();
        let hidden = stage.encode(&rgb, width, height, &Device::Cpu).unwrap();
        assert_eq!(hidden.dims(), [1, 17, 32]);
        let error = relative_l2(&hidden, &golden["gelu"].narrow(0, index, 1).unwrap());
        assert!(error <= F32, "{case}: relative L2 {error:.2e}");
    }
}

#[test]
fn the_original_release_computes_the_same() {
    let (golden, _) = tensors_and_metadata(&fixture("clip/original_golden.safetensors"));
    let config = original_config();
    let tower = ClipVision::new(&config, &open("clip/original.safetensors", DType::F32)).unwrap();
    let error = relative_l2(&tower.penultimate(&golden["pixels"]).unwrap(), &golden["hidden"]);
    assert!(error <= F32, "relative L2 {error:.2e}");
}

fn original_config() -> ClipVisionConfig {
    ClipVisionConfig {
        hidden_size: 18,
        intermediate_size: 36,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        image_size: 16,
        patch_size: 8,
        hidden_act: Activation::Gelu,
        layer_norm_eps: 1e-5,
    }
}

#[test]
fn a_whole_checkpoint_passes_the_strict_check_and_its_last_layer_is_not_loaded() {
    for (name, config) in [("clip/model.safetensors", config()), ("clip/original.safetensors", original_config())] {
        let weights = open(name, DType::F32);
        ClipVision::check(&config, &weights).unwrap();
        weights.finish().unwrap();
        let weights = open(name, DType::F32);
        ClipVision::new(&config, &weights).unwrap();
        let last = format!("vision_model.encoder.layers.{}.", config.num_hidden_layers - 1);
        assert!(weights.asked().keys().all(|name| !name.starts_with(&last)));
        let deeper = ClipVisionConfig { num_hidden_layers: config.num_hidden_layers + 1, ..config };
        assert!(matches!(ClipVision::check(&deeper, &weights), Err(Error::Checkpoint(_))));
    }
}

/// The released tower's names and shapes in `layout`; line by line, `{0..32}` stands for each of the layers.
fn released(layout: &str) -> BTreeMap<String, Vec<usize>> {
    let listing = std::fs::read_to_string(fixture("keys/clip_vit_h14_vision.txt")).unwrap();
    let mut shapes = BTreeMap::new();
    for line in listing.lines().filter_map(|line| line.strip_prefix(layout)?.strip_prefix('\t')) {
        let (name, shape) = line.split_once('\t').unwrap();
        for layer in 0..if name.contains("{0..32}") { 32 } else { 1 } {
            let name = name.replace("{0..32}", &layer.to_string());
            shapes.insert(name, serde_json::from_str(shape).unwrap());
        }
    }
    shapes
}

fn canonical(map: &KeyMap, shapes: &BTreeMap<String, Vec<usize>>) -> BTreeMap<String, Vec<usize>> {
    let names = map.canonical_names(shapes.keys().map(String::as_str)).unwrap();
    names.into_iter().map(|(canonical, source)| (canonical, shapes[&source].clone())).collect()
}

#[test]
fn the_default_asks_for_exactly_the_released_tensors() {
    let released = released("transformers");
    assert_eq!(released.len(), 520);
    let weights = Weights::recorder();
    ClipVision::check(&ClipVisionConfig::default(), &weights).unwrap();
    assert_eq!(weights.asked(), canonical(&key_maps()[0], &released));

    let json = std::fs::read_to_string(fixture("keys/clip_vit_h14_vision.txt")).unwrap();
    let json = json.lines().next().unwrap().trim_start_matches("# ");
    assert_eq!(ClipVisionConfig::from_json(json.as_bytes()).unwrap(), ClipVisionConfig::default());
    assert_eq!(ClipVisionConfig::default().tokens(), 257);
}

#[test]
fn names_without_the_prefix_and_those_of_a_whole_model_lead_to_the_same() {
    let transformers = released("transformers");
    let expected = canonical(&key_maps()[0], &transformers);
    let bare = |name: &String| name.strip_prefix("vision_model.").unwrap_or(name).to_string();
    let without = transformers.iter().map(|(name, shape)| (bare(name), shape.clone())).collect();
    assert_eq!(canonical(&key_maps()[0], &without), expected);

    let mut whole = transformers;
    for name in ["text_model.encoder.layers.0.mlp.fc1.weight", "logit_scale", "vision_model.embeddings.position_ids"] {
        whole.insert(name.to_string(), Vec::new());
    }
    assert_eq!(canonical(&key_maps()[0], &whole), expected);
}

#[test]
fn the_original_release_has_the_same_parameters_under_other_names() {
    let original = canonical(&key_maps()[1], &released("original"));
    let mut merged = canonical(&key_maps()[0], &released("transformers"));
    let embeddings = "vision_model.embeddings.";
    let class = merged.remove(&format!("{embeddings}class_embedding")).unwrap();
    merged.insert(format!("{embeddings}cls_embedding"), [&[1, 1], &class[..]].concat());
    let positions = merged.remove(&format!("{embeddings}position_embedding.weight")).unwrap();
    merged.insert(format!("{embeddings}pos_embedding"), [&[1], &positions[..]].concat());
    for layer in 0..32 {
        let attention = format!("vision_model.encoder.layers.{layer}.self_attn.");
        for (p, shape) in [("weight", vec![3840, 1280]), ("bias", vec![3840])] {
            for part in ["q_proj", "k_proj", "v_proj"] {
                merged.remove(&format!("{attention}{part}.{p}")).unwrap();
            }
            merged.insert(format!("{attention}to_qkv.{p}"), shape);
        }
    }
    assert_eq!(original, merged);
}

#[test]
fn absent_fields_have_the_defaults_of_transformers() {
    let small = ClipVisionConfig::from_json(b"{}").unwrap();
    assert_eq!((small.hidden_size, small.num_hidden_layers, small.patch_size), (768, 12, 32));
    assert_eq!(small.hidden_act, Activation::QuickGelu);
    let nested =
        br#"{"model_type": "clip", "hidden_size": 7, "vision_config": {"patch_size": 16, "hidden_act": "gelu"}}"#;
    let expected = ClipVisionConfig { patch_size: 16, hidden_act: Activation::Gelu, ..small };
    assert_eq!(ClipVisionConfig::from_json(nested).unwrap(), expected);
}

#[test]
fn impossible_configurations_are_refused() {
    let message = |json: &str| ClipVisionConfig::from_json(json.as_bytes()).unwrap_err().to_string();
    let cases = [
        (r#"{"hidden_act": "relu"}"#, "`hidden_act` is `relu`"),
        (r#"{"num_attention_heads": 7}"#, "`num_attention_heads` is 7, no divisor of `hidden_size` 768"),
        (r#"{"num_attention_heads": 0}"#, "`num_attention_heads` is 0, must be 1 to 768"),
        (r#"{"patch_size": 30}"#, "`patch_size` is 30, no divisor of `image_size` 224"),
        (r#"{"patch_size": 0}"#, "`patch_size` is 0"),
        (r#"{"num_hidden_layers": 0}"#, "`num_hidden_layers` is 0"),
        (r#"{"hidden_size": 18446744073709551615}"#, "`hidden_size` is 18446744073709551615"),
        (r#"{"num_channels": 4}"#, "`num_channels` is 4, must be 3"),
        (r#"{"layer_norm_eps": -1e-5}"#, "`layer_norm_eps` is -0.00001"),
        (r#"{"image_size": [224, 224]}"#, "cannot be read"),
        ("[", "cannot be read"),
    ];
    for (json, expected) in cases {
        assert!(message(json).contains(expected), "{json}: {}", message(json));
    }
}

#[test]
fn pixels_of_another_shape_are_refused() {
    let tower = tower(Activation::Gelu, DType::F32);
    for shape in [&[1, 3, 32, 31][..], &[1, 4, 32, 32], &[0, 3, 32, 32], &[3, 32, 32], &[1, 3, 40, 40]] {
        let error = tower.penultimate(&Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()).unwrap_err();
        assert!(matches!(&error, Error::Shape { found, .. } if found == shape), "{error}");
    }
}

#[test]
fn memory_follows_the_shapes() {
    let config = ClipVisionConfig::default();
    let one = config.working_bytes(1, DType::F32);
    // A feed-forward layer's hidden states, before and after the activation, are most of it.
    assert!(one > 2 * 257 * 5120 * 4 && one < 3 * 257 * 5120 * 4, "{one}");
    assert_eq!(config.working_bytes(2, DType::F32), 2 * one);
}

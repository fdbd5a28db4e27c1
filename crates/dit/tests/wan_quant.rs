//! A transformer whose matrices are quantised predicts nearly what it predicts otherwise, also when some channels are far
//! louder than the others, as in trained models.
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing")]

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{Quant, Weights};
use kinora_dit::wan::{WanConfig, WanModel};
use kinora_dit::{Conditioning, Control, VideoDit};
use kinora_test_support::cosine;
use std::collections::HashMap;

/// Cosine between the predictions.
const NEAR: f64 = 0.999;
/// One channel in so many is loud, and this many times as loud as the others.
const LOUD_CHANNELS: usize = 200;
const LOUDNESS: f32 = 30.0;

/// A model that follows a text alone, and one that follows everything else but a camera.
fn configs() -> [WanConfig; 2] {
    let json = r#"{"num_attention_heads": 6, "attention_head_dim": 64, "in_channels": 16, "out_channels": 16,
        "text_dim": 96, "freq_dim": 64, "ffn_dim": 1536, "num_layers": 8}"#;
    let plain = WanConfig::from_diffusers_config(json.as_bytes()).unwrap();
    let conditioned = WanConfig {
        in_channels: 20,
        image_dim: Some(80),
        vace_layers: vec![0, 4],
        vace_in_channels: Some(32),
        ..plain.clone()
    };
    [plain, conditioned]
}

/// Random weights; with `loud`, a few of the results of every layer that another linear layer reads are scaled: those of
/// the embedding, values, attention outputs and both halves of the feed-forward. Not queries and keys: scaled, they make
/// the softmax choose a single token, and which one hangs on the last bit.
fn weights(config: &WanConfig, loud: bool) -> Weights {
    let (recorder, random) = (Weights::recorder(), Weights::random(7, &Device::Cpu, DType::F32));
    WanModel::new(config, &recorder).unwrap();
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let values = random.get(&name, shape.clone()).unwrap();
        let read = ["patch_embedding.", "_attn.v.", "_attn.v_img.", "_attn.o.", ".ffn."]
            .iter()
            .any(|part| name.contains(part));
        if !loud || !read {
            return (name, values);
        }
        let factors: Vec<f32> = (0..shape[0]).map(|i| if i % LOUD_CHANNELS == 7 { LOUDNESS } else { 1.0 }).collect();
        let mut broadcast = vec![1; shape.len()];
        broadcast[0] = shape[0];
        let factors = Tensor::from_vec(factors, broadcast, &Device::Cpu).unwrap();
        (name, values.broadcast_mul(&factors).unwrap())
    };
    let tensors: HashMap<String, Tensor> = recorder.asked().into_iter().map(tensor).collect();
    Weights::from_tensors(tensors, &Device::Cpu, DType::F32)
}

fn predict(config: &WanConfig, weights: &Weights) -> Tensor {
    let input = Weights::random(8, &Device::Cpu, DType::F32);
    // Variance 1: the generator divides by the root of the other axes' size.
    let normal = |name: &str, shape: &[usize]| {
        let fan_in: usize = shape.iter().skip(1).product();
        (input.get(name, shape).unwrap() * (fan_in as f64).sqrt()).unwrap()
    };
    let model = WanModel::new(config, weights).unwrap();
    let conditioning = Conditioning {
        image: config.image_dim.map(|width| normal("image", &[1, 12, width])),
        latents: (config.in_channels > 16).then(|| normal("appended", &[1, config.in_channels - 16, 3, 16, 16])),
        control: config
            .vace_in_channels
            .map(|channels| Control { latents: normal("control", &[1, channels, 3, 16, 16]), scale: 0.8 }),
        ..Conditioning::new(normal("context", &[1, 24, 96]))
    };
    let prepared = model.prepare(&conditioning, usize::MAX).unwrap();
    let timestep = Tensor::new(&[500f32], &Device::Cpu).unwrap();
    model.forward(&normal("latents", &[1, 16, 3, 16, 16]), &timestep, &prepared).unwrap()
}

#[test]
fn rounded_models_predict_nearly_the_same() {
    for (config, loud) in configs().iter().flat_map(|config| [(config, false), (config, true)]) {
        let conditioned = config.image_dim.is_some();
        let weights = weights(config, loud);
        let exact = predict(config, &weights);
        let rounded = predict(config, &weights.with_quant(Some(Quant::Int8)));
        let cosine = cosine(&rounded, &exact);
        println!("conditioned {conditioned}, loud channels {loud}: {cosine:.6}");
        assert!(cosine >= NEAR, "conditioned {conditioned}, loud channels {loud}: cosine {cosine}");
        assert!(cosine < 1.0 - 1e-9, "nothing was rounded");
    }
}

/// The matrices of all blocks take a byte per weight, those of pictures and control blocks too.
#[test]
fn matrices_of_all_blocks_are_rounded() {
    let [_, config] = configs();
    let bytes = |quant| {
        let recorder = Weights::recorder();
        WanModel::new(&config, &recorder.with_quant(quant)).unwrap();
        (recorder.bytes(), recorder.asked())
    };
    let (exact, asked) = bytes(None);
    let is_rounded =
        |name: &str, shape: &[usize]| name.contains("blocks.") && shape.len() == 2 && name.ends_with("weight");
    let rounded = asked.iter().filter(|(name, shape)| is_rounded(name, shape));
    // Of each weight three bytes of four are saved, and eight per output are added.
    let saved: usize = rounded.map(|(_, shape)| shape[0] * (3 * shape[1] - 8)).sum();
    assert_eq!(bytes(Some(Quant::Int8)).0, exact - saved);
}

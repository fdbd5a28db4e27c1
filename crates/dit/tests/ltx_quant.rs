//! An LTX-2.x transformer whose matrices are quantised predicts nearly what it predicts otherwise, also when some channels are far
//! louder than the others, as in trained models; and one changed by a LoRA what the changed weights predict.
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing")]

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{LoraFile, LoraTarget, Quant, Weights, save_safetensors};
use kinora_dit::ltx::{Contexts, Geometry, LtxConfig, LtxModel, StreamInput, key_maps};
use kinora_test_support::{cosine, random, relative_l2};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Cosine between the predictions.
const NEAR: f64 = 0.999;
/// One channel in so many is loud, and this many times as loud as the others.
const LOUD_CHANNELS: usize = 200;
const LOUDNESS: f32 = 30.0;
const TEXT_DIM: usize = 96;

/// A model like 2.0, and one like 2.5.
fn configs() -> [LtxConfig; 2] {
    let json = |new: bool| {
        format!(
            r#"{{"num_attention_heads": 6, "attention_head_dim": 64, "cross_attention_dim": 384, "in_channels": 16, "out_channels": 16,
            "audio_num_attention_heads": 6, "audio_attention_head_dim": 32, "audio_cross_attention_dim": 192, "audio_in_channels": 16,
            "audio_out_channels": 16, "num_layers": 8, "caption_channels": {TEXT_DIM}, "rope_type": "split", "gated_attn": {new},
            "audio_gated_attn": {new}, "cross_attn_mod": {new}, "audio_cross_attn_mod": {new}, "use_prompt_embeddings": {old},
            "ff_bias": {old}}}"#,
            old = !new
        )
    };
    [false, true].map(|new| LtxConfig::from_diffusers_config(json(new).as_bytes()).unwrap())
}

/// Random weights; with `loud`, a few of the results of every layer that another linear layer reads are scaled, not those of
/// queries and keys: scaled, they make the softmax choose a single token, and which one hangs on the last bit.
fn weights(config: &LtxConfig, loud: bool) -> HashMap<String, Tensor> {
    let (recorder, random) = (Weights::recorder(), Weights::random(7, &Device::Cpu, DType::F32));
    LtxModel::new(config, &recorder).unwrap();
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let values = random.get(&name, shape.clone()).unwrap();
        let read = ["patchify_proj.", ".to_v.", ".to_out.", "ff.net."].iter().any(|part| name.contains(part));
        if !loud || !read {
            return (name, values);
        }
        let factors: Vec<f32> = (0..shape[0]).map(|i| if i % LOUD_CHANNELS == 7 { LOUDNESS } else { 1.0 }).collect();
        let mut broadcast = vec![1; shape.len()];
        broadcast[0] = shape[0];
        let factors = Tensor::from_vec(factors, broadcast, &Device::Cpu).unwrap();
        (name, values.broadcast_mul(&factors).unwrap())
    };
    recorder.asked().into_iter().map(tensor).collect()
}

fn predict(config: &LtxConfig, weights: &Weights) -> [Tensor; 2] {
    let model = LtxModel::new(config, weights).unwrap();
    let [video, audio] = [&config.video, &config.audio].map(|stream| config.text_dim.unwrap_or(stream.dim()));
    let contexts = Contexts { video: random((1, 24, video), 1), audio: random((1, 24, audio), 2) };
    let geometry = Geometry { video: [3, 8, 8], audio: 40, frame_rate: 24.0 };
    let prepared = model.prepare(&contexts, &geometry, usize::MAX).unwrap();
    let (video, audio) = (random((1, 16, 3, 8, 8), 3), random((1, 4, 40, 4), 4));
    let timestep = Tensor::new(&[500f32], &Device::Cpu).unwrap();
    let [video, audio] =
        [&video, &audio].map(|latents| StreamInput { latents, timestep: &timestep, token_timesteps: None });
    model.forward(video, audio, &prepared).unwrap()
}

#[test]
fn rounded_models_predict_nearly_the_same() {
    for (config, loud) in configs().iter().flat_map(|config| [(config, false), (config, true)]) {
        let gated = config.gated_attention;
        let weights = Weights::from_tensors(weights(config, loud), &Device::Cpu, DType::F32);
        let exact = predict(config, &weights);
        let rounded = predict(config, &weights.with_quant(Some(Quant::Int8)));
        for ((rounded, exact), stream) in rounded.iter().zip(&exact).zip(["video", "sound"]) {
            let cosine = cosine(rounded, exact);
            println!("gated {gated}, loud channels {loud}, {stream}: {cosine:.6}");
            assert!(cosine >= NEAR, "gated {gated}, loud channels {loud}, {stream}: cosine {cosine}");
            assert!(cosine < 1.0 - 1e-9, "nothing was rounded");
        }
    }
}

/// The matrices of all blocks take a byte per weight.
#[test]
fn matrices_of_all_blocks_are_rounded() {
    for config in configs() {
        let bytes = |quant| {
            let recorder = Weights::recorder();
            LtxModel::new(&config, &recorder.with_quant(quant)).unwrap();
            (recorder.bytes(), recorder.asked())
        };
        let (exact, asked) = bytes(None);
        let is_rounded = |name: &str| name.starts_with("transformer_blocks.") && name.ends_with(".weight");
        let rounded = asked.iter().filter(|(name, shape)| is_rounded(name) && shape.len() == 2);
        // Of each weight three bytes of four are saved, and eight per output are added.
        let saved: usize = rounded.map(|(_, shape)| shape[0] * (3 * shape[1] - 8)).sum();
        assert_eq!(bytes(Some(Quant::Int8)).0, exact - saved);
    }
}

/// A LoRA that names modules as diffusers does changes what it should, beside quantised weights and in them.
#[test]
fn a_lora_changes_the_modules_that_it_names() {
    let [_, config] = configs();
    let tensors = weights(&config, false);
    let modules = [
        ("transformer_blocks.0.attn1.to_q", "transformer_blocks.0.attn1.to_q"),
        ("transformer_blocks.3.audio_to_video_attn.to_out.0", "transformer_blocks.3.audio_to_video_attn.to_out.0"),
        ("transformer_blocks.7.audio_ff.net.2", "transformer_blocks.7.audio_ff.net.2"),
        ("proj_in", "patchify_proj"),
    ];
    let (mut lora, mut changed) = (Vec::new(), tensors.clone());
    for (seed, (theirs, ours)) in (10..).zip(modules) {
        let name = format!("{ours}.weight");
        let (outputs, inputs) = tensors[&name].dims2().unwrap();
        let (down, up) = (random((4, inputs), seed), random((outputs, 4), seed + 50));
        let scaled = |x: Tensor| (x * 0.05).unwrap();
        let (down, up) = (scaled(down), scaled(up));
        changed.insert(name.clone(), (&tensors[&name] + up.matmul(&down).unwrap()).unwrap());
        lora.push((format!("transformer.{theirs}.lora_A.weight"), down));
        lora.push((format!("transformer.{theirs}.lora_B.weight"), up));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lora.safetensors");
    save_safetensors(&path, &lora, &BTreeMap::new()).unwrap();
    let shapes = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec()));
    let target = LoraTarget::new(shapes, &key_maps());
    let changes = Arc::new(LoraFile::open(&path).unwrap().changes(&target, 1.0).unwrap());
    let plain = Weights::from_tensors(tensors, &Device::Cpu, DType::F32);
    let expected = predict(&config, &Weights::from_tensors(changed, &Device::Cpu, DType::F32));
    let found = predict(&config, &plain.with_changes(changes));
    let without = predict(&config, &plain);
    for ((found, expected), without) in found.iter().zip(&expected).zip(&without) {
        assert!(relative_l2(found, expected) <= 1e-5, "{:e}", relative_l2(found, expected));
        assert!(relative_l2(without, expected) > 1e-3);
    }
}

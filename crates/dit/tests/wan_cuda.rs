//! The Wan transformer on a GPU predicts what it does on the CPU, with resident or streamed weights, dense ones or as files store
//! them, and nearly so with quantised ones.
//!
//! Without a GPU there is nothing to compare, and the tests say so; with `KINORA_REQUIRE_CUDA` set they fail instead.
#![cfg(feature = "cuda")]
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing")]

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{LoraFile, LoraTarget, Quant, StoredMatrix, Weights, save_safetensors};
use kinora_dit::wan::{WanConfig, WanModel};
use kinora_dit::{ComputeAll, Conditioning, Reuse, VideoDit};
use kinora_formats::Blocks;
use kinora_test_support::gguf::Gguf;
use kinora_test_support::{cosine, values};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

fn gpu() -> Option<Device> {
    match kinora_kernels::open_cuda(0) {
        Ok(device) => Some(device),
        Err(error) => {
            assert!(std::env::var_os("KINORA_REQUIRE_CUDA").is_none(), "{error}");
            println!("no GPU, nothing is compared: {error}");
            None
        }
    }
}

/// Heads of 128 and more tokens than the smallest tile, as in the released models.
fn config() -> WanConfig {
    let json = r#"{"num_attention_heads": 4, "attention_head_dim": 128, "in_channels": 16, "out_channels": 16,
        "text_dim": 96, "freq_dim": 64, "ffn_dim": 1024, "num_layers": 3}"#;
    WanConfig::from_diffusers_config(json.as_bytes()).unwrap()
}

/// Two predictions in succession, f32 on the CPU.
fn predict(model: &WanModel, device: &Device, dtype: DType) -> [Tensor; 2] {
    let [first, second, _] = predict_with(model, device, dtype, &mut ComputeAll).0;
    [first, second]
}

/// A step cache that is called and takes over nothing.
struct Looks;

impl Reuse for Looks {
    fn before_blocks(&mut self, _: &Tensor, _: &Tensor) -> kinora_dit::Result<Option<Tensor>> {
        Ok(None)
    }

    fn after_first_block(&mut self, _: &Tensor, _: &Tensor) -> kinora_dit::Result<Option<Tensor>> {
        Ok(None)
    }

    fn after_last_block(&mut self, _: &Tensor) -> kinora_dit::Result<()> {
        Ok(())
    }
}

/// Three predictions in succession, f32 on the CPU, whether they were replayed, and the seconds that the last took.
fn predict_with(model: &WanModel, device: &Device, dtype: DType, reuse: &mut dyn Reuse) -> ([Tensor; 3], bool, f64) {
    let input = Weights::random(8, &Device::Cpu, DType::F32);
    let normal = |name: &str, shape: &[usize]| {
        let fan_in: usize = shape.iter().skip(1).product();
        let values = (input.get(name, shape.to_vec()).unwrap() * (fan_in as f64).sqrt()).unwrap();
        values.to_dtype(dtype).unwrap().to_device(device).unwrap()
    };
    let prepared = model.prepare(&Conditioning::new(normal("context", &[1, 300, 96])), usize::MAX).unwrap();
    let latents = normal("latents", &[1, 16, 3, 12, 18]);
    let mut seconds = 0.0;
    let predictions = [900f32, 100.0, 500.0].map(|time| {
        let time = Tensor::new(&[time], device).unwrap();
        device.synchronize().unwrap();
        let start = Instant::now();
        let out = model.forward_with(&latents, &time, &prepared, None, reuse).unwrap();
        device.synchronize().unwrap();
        seconds = start.elapsed().as_secs_f64();
        out.to_device(&Device::Cpu).unwrap().to_dtype(DType::F32).unwrap()
    });
    (predictions, prepared.is_recorded(), seconds)
}

#[test]
fn on_a_gpu_it_predicts_what_it_does_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let config = config();
    let exact = WanModel::new(&config, &Weights::random(7, &Device::Cpu, DType::F32)).unwrap();
    let expected = predict(&exact, &Device::Cpu, DType::F32);
    for (dtype, quant, least) in [
        (DType::F32, None, 1.0 - 1e-9),
        (DType::BF16, None, 0.9999),
        (DType::F16, None, 0.9999),
        (DType::BF16, Some(Quant::Int8), 0.999),
        (DType::BF16, Some(Quant::Fp8), 0.999),
    ] {
        let model = WanModel::new(&config, &Weights::random(7, &gpu, dtype).with_quant(quant)).unwrap();
        for (found, expected) in predict(&model, &gpu, dtype).iter().zip(&expected) {
            let cosine = cosine(found, expected);
            println!("{dtype:?} {quant:?}: 1 - cosine {:.1e}", 1.0 - cosine);
            assert!(cosine >= least, "{dtype:?} {quant:?}: cosine {cosine}");
        }
    }
}

#[test]
fn replayed_passes_have_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    let config = config();
    for (dtype, quant) in [
        (DType::F32, None),
        (DType::BF16, None),
        (DType::F16, None),
        (DType::BF16, Some(Quant::Int8)),
        (DType::BF16, Some(Quant::Fp8)),
    ] {
        let model = WanModel::new(&config, &Weights::random(7, &gpu, dtype).with_quant(quant)).unwrap();
        let (apart, recorded, each) = predict_with(&model, &gpu, dtype, &mut Looks);
        assert!(!recorded);
        let (replayed, recorded, at_once) = predict_with(&model, &gpu, dtype, &mut ComputeAll);
        println!("{dtype:?} {quant:?}: {:.2} ms kernel by kernel, {:.2} ms at once", 1e3 * each, 1e3 * at_once);
        assert_eq!(recorded, dtype != DType::F32, "{dtype:?} {quant:?}");
        for (index, (replayed, apart)) in replayed.iter().zip(&apart).enumerate() {
            let [replayed, apart] = [replayed, apart].map(|x| values(x).into_iter().map(f32::to_bits));
            assert!(replayed.eq(apart), "{dtype:?} {quant:?}, prediction {index}");
        }
    }
}

#[test]
fn streamed_weights_give_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    let config = config();
    for (dtype, quant) in
        [(DType::F32, None), (DType::BF16, None), (DType::BF16, Some(Quant::Int8)), (DType::BF16, Some(Quant::Fp8))]
    {
        let weights = Weights::random(7, &gpu, dtype).with_quant(quant);
        let resident = WanModel::new(&config, &weights).unwrap();
        let streamed = WanModel::streamed(&config, &weights).unwrap();
        let bits = |model: &WanModel| {
            predict(model, &gpu, dtype).map(|x| values(&x).into_iter().map(f32::to_bits).collect::<Vec<_>>())
        };
        let expected = bits(&resident);
        for round in 0..3 {
            assert!(bits(&streamed) == expected, "{dtype:?} {quant:?}, round {round}");
        }
    }
}

/// The names and shapes of the model's tensors, and whether each is a matrix of its blocks.
fn tensors(config: &WanConfig) -> Vec<(String, Vec<usize>, bool)> {
    let recorder = Weights::recorder();
    WanModel::new(config, &recorder).unwrap();
    let is_matrix =
        |name: &str, shape: &[usize]| name.starts_with("blocks.") && name.ends_with(".weight") && shape.len() == 2;
    let with_kind = |(name, shape): (String, Vec<usize>)| (name.clone(), shape.clone(), is_matrix(&name, &shape));
    recorder.asked().into_iter().map(with_kind).collect()
}

/// Writes a model whose matrices are in blocks, in every third transformer block in others.
fn in_blocks(config: &WanConfig, folder: &Path) -> PathBuf {
    let usual = (12, Weights::random_in_blocks(7, &Device::Cpu, DType::F32, Some(Blocks::Q4K)));
    let others = (14, Weights::random_in_blocks(7, &Device::Cpu, DType::F32, Some(Blocks::Q6K)));
    let mut file = Gguf::default();
    for (name, shape, is_matrix) in tensors(config) {
        let (kind, random) = if name.starts_with("blocks.2.") { &others } else { &usual };
        if is_matrix {
            let stored = random.matrix(&name, [shape[0], shape[1]]).unwrap();
            let Some(StoredMatrix::Matrix(matrix)) = stored else { panic!("{name} is not in blocks") };
            file = file.tensor(&name, &shape, *kind, matrix.bytes());
        } else {
            let dense = values(&random.get(&name, shape.clone()).unwrap());
            let bytes: Vec<u8> = dense.into_iter().flat_map(f32::to_le_bytes).collect();
            file = file.tensor(&name, &shape, 0, &bytes);
        }
    }
    let path = folder.join("blocks.gguf");
    std::fs::write(&path, file.bytes()).unwrap();
    path
}

/// Writes a model whose matrices are e4m3 with a scale each.
fn in_fp8(config: &WanConfig, folder: &Path) -> PathBuf {
    let random = Weights::random(7, &Device::Cpu, DType::F32);
    let mut file = HashMap::new();
    for (index, (name, shape, is_matrix)) in tensors(config).into_iter().enumerate() {
        let dense = random.get(&name, shape).unwrap();
        if !is_matrix {
            file.insert(name, dense);
            continue;
        }
        let scale = 0.001 * (1 + index % 5) as f64;
        let stem = name.trim_end_matches("weight").to_string();
        file.insert(name, (dense / scale).unwrap().to_dtype(DType::F8E4M3).unwrap());
        file.insert(format!("{stem}scale_weight"), Tensor::new(scale as f32, &Device::Cpu).unwrap());
    }
    let path = folder.join("fp8.safetensors");
    candle_core::safetensors::save(&file, &path).unwrap();
    path
}

/// Writes a LoRA of every block.
fn lora(config: &WanConfig, folder: &Path) -> PathBuf {
    let random = Weights::random(9, &Device::Cpu, DType::F32);
    let mut file = Vec::new();
    for (name, shape, is_matrix) in tensors(config) {
        if is_matrix && (name.contains("self_attn.q.") || name.contains(".ffn.")) {
            let stem = name.trim_end_matches(".weight");
            for (part, shape) in [("lora_down", [16, shape[1]]), ("lora_up", [shape[0], 16])] {
                let name = format!("{stem}.{part}.weight");
                file.push((name.clone(), random.get(&name, shape.to_vec()).unwrap()));
            }
        }
    }
    let path = folder.join("lora.safetensors");
    save_safetensors(&path, &file, &BTreeMap::new()).unwrap();
    path
}

/// On CPUs they are widened to f32, and so hold.
#[test]
fn stored_values_that_f16_does_not_hold_are_refused() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.safetensors");
    let ones = Tensor::ones((16, 16), DType::F8E4M3, &Device::Cpu).unwrap();
    let scale = Tensor::new(70_000f32, &Device::Cpu).unwrap();
    candle_core::safetensors::save(&HashMap::from([("a.weight", ones), ("a.scale_weight", scale)]), &path).unwrap();
    for (device, dtype, holds) in
        [(&gpu, DType::F16, false), (&gpu, DType::BF16, true), (&Device::Cpu, DType::F16, true)]
    {
        let weights = Weights::open(std::slice::from_ref(&path), &[], device, dtype).unwrap();
        match weights.matrix("a.weight", [16, 16]) {
            Ok(matrix) => assert!(holds && matrix.is_some(), "{dtype:?}"),
            Err(error) => assert!(!holds && error.to_string().contains("70000"), "{dtype:?}: {error}"),
        }
    }
}

/// The same values, dense.
fn dense(config: &WanConfig, file: &Path, device: &Device, dtype: DType) -> Weights {
    let stored = Weights::open(&[file.to_path_buf()], &[], &Device::Cpu, DType::F32).unwrap();
    let tensors = tensors(config).into_iter().map(|(name, shape, _)| (name.clone(), stored.get(&name, shape).unwrap()));
    Weights::from_tensors(tensors.collect(), device, dtype)
}

fn same_bits(found: &[Tensor; 2], expected: &[Tensor; 2]) -> bool {
    found.iter().zip(expected).all(|(found, expected)| kinora_test_support::same_bits(found, expected))
}

#[test]
fn stored_weights_predict_what_they_do_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let config = WanConfig { num_layers: 4, ..config() };
    let folder = tempfile::tempdir().unwrap();
    let target = LoraTarget::new(tensors(&config).into_iter().map(|(name, shape, _)| (name, shape)), &[]);
    let changes = LoraFile::open(&lora(&config, folder.path())).unwrap().changes(&target, 1.0).unwrap();
    let changes = Arc::new(changes);
    for file in [in_blocks(&config, folder.path()), in_fp8(&config, folder.path())] {
        for changed in [false, true] {
            let open = |device: &Device, dtype, exact| {
                let weights = Weights::open(std::slice::from_ref(&file), &[], device, dtype).unwrap().with_exact(exact);
                if changed { weights.with_changes(changes.clone()) } else { weights }
            };
            let exact = WanModel::new(&config, &open(&Device::Cpu, DType::F32, true)).unwrap();
            let expected = predict(&exact, &Device::Cpu, DType::F32);
            for (dtype, exact, least) in [
                (DType::F32, true, 1.0 - 1e-9),
                (DType::BF16, true, 0.9998),
                (DType::F16, true, 0.9999),
                (DType::BF16, false, 0.999),
            ]
            .into_iter()
            .filter(|(dtype, exact, _)| !changed || *exact == (*dtype == DType::F32))
            {
                let weights = open(&gpu, dtype, exact);
                let resident = WanModel::new(&config, &weights).unwrap();
                let name = format!("{}, {dtype:?}, exact: {exact}, LoRA: {changed}", file.display());
                let found = predict(&resident, &gpu, dtype);
                for (found, expected) in found.iter().zip(&expected) {
                    let cosine = cosine(found, expected);
                    println!("{name}: 1 - cosine {:.1e}, {} bytes", 1.0 - cosine, weights.bytes());
                    assert!(cosine >= least, "{name}: cosine {cosine}");
                }
                let streamed = WanModel::streamed(&config, &weights).unwrap();
                assert!(same_bits(&predict(&streamed, &gpu, dtype), &found), "{name}, streamed");
                if exact && !changed {
                    let dense = WanModel::new(&config, &dense(&config, &file, &gpu, dtype)).unwrap();
                    assert!(same_bits(&predict(&dense, &gpu, dtype), &found), "{name}, dense");
                }
            }
        }
    }
}

//! The Wan transformer on a GPU predicts what it does on the CPU, with resident or streamed weights, and nearly so with
//! quantised ones.
//!
//! Without a GPU there is nothing to compare, and the tests say so; with `KINORA_REQUIRE_CUDA` set they fail instead.
#![cfg(feature = "cuda")]
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing")]

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{Quant, Weights};
use kinora_dit::wan::{WanConfig, WanModel};
use kinora_dit::{ComputeAll, Conditioning, Reuse, VideoDit};
use kinora_test_support::{cosine, values};
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

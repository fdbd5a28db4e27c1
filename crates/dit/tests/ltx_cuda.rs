//! The LTX-2.x transformer on a GPU predicts what it does on the CPU, with resident or streamed weights, and nearly so with
//! quantised ones.
//!
//! Without a GPU there is nothing to compare, and the tests say so; with `KINORA_REQUIRE_CUDA` set they fail instead.
#![cfg(feature = "cuda")]
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing")]

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{Quant, Weights};
use kinora_dit::ltx::{Contexts, Geometry, LtxConfig, LtxModel, Skips, StreamInput};
use kinora_dit::{ComputeAll, Reuse};
use kinora_test_support::{cosine, random, same_bits};

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

/// Heads as wide as in the released models, with and without what 2.3 added.
fn configs() -> [LtxConfig; 2] {
    [false, true].map(|new| {
        let json = format!(
            r#"{{"num_attention_heads": 4, "attention_head_dim": 128, "cross_attention_dim": 512, "in_channels": 16, "out_channels": 16,
            "audio_num_attention_heads": 4, "audio_attention_head_dim": 64, "audio_cross_attention_dim": 256, "audio_in_channels": 16,
            "audio_out_channels": 16, "num_layers": 3, "caption_channels": 96, "rope_type": "split", "gated_attn": {new},
            "audio_gated_attn": {new}, "cross_attn_mod": {new}, "audio_cross_attn_mod": {new}, "use_prompt_embeddings": {}}}"#,
            !new
        );
        LtxConfig::from_diffusers_config(json.as_bytes()).unwrap()
    })
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

/// Predictions of three steps, of which each has a pass of every kind, on the CPU; and whether passes were replayed.
fn predict(model: &LtxModel, device: &Device, dtype: DType, reuse: &mut dyn Reuse) -> (Vec<Tensor>, bool) {
    let config = model.config();
    let there = |x: Tensor| x.to_dtype(dtype).unwrap().to_device(device).unwrap();
    let [video, audio] = [&config.video, &config.audio].map(|stream| config.text_dim.unwrap_or(stream.dim()));
    let contexts = Contexts { video: there(random((1, 300, video), 1)), audio: there(random((1, 300, audio), 2)) };
    let geometry = Geometry { video: [3, 7, 9], audio: 45, frame_rate: 24.0 };
    let prepared = model.prepare(&contexts, &geometry, usize::MAX).unwrap();
    let (video, audio) = (there(random((1, 16, 3, 7, 9), 3)), there(random((1, 4, 45, 4), 4)));
    let mut found = Vec::new();
    for time in [900f32, 100.0, 500.0] {
        let timestep = Tensor::new(&[time], &Device::Cpu).unwrap();
        let inputs =
            [&video, &audio].map(|latents| StreamInput { latents, timestep: &timestep, token_timesteps: None });
        for (blocks, between_streams) in [(&[][..], false), (&[1][..], false), (&[][..], true)] {
            let skips = Skips { self_attention: blocks, between_streams };
            let out = model.forward_with(inputs, &prepared, skips, None, reuse).unwrap();
            found.extend(out.map(|x| x.to_device(&Device::Cpu).unwrap()));
        }
    }
    (found, prepared.is_recorded())
}

const KINDS: [(DType, Option<Quant>, f64); 5] = [
    (DType::F32, None, 1.0 - 1e-9),
    (DType::BF16, None, 0.9999),
    (DType::F16, None, 0.9999),
    (DType::BF16, Some(Quant::Int8), 0.999),
    (DType::BF16, Some(Quant::Fp8), 0.999),
];

#[test]
fn on_a_gpu_it_predicts_what_it_does_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for config in configs() {
        let exact = LtxModel::new(&config, &Weights::random(7, &Device::Cpu, DType::F32)).unwrap();
        let (expected, _) = predict(&exact, &Device::Cpu, DType::F32, &mut ComputeAll);
        for (dtype, quant, least) in KINDS {
            let model = LtxModel::new(&config, &Weights::random(7, &gpu, dtype).with_quant(quant)).unwrap();
            let (found, _) = predict(&model, &gpu, dtype, &mut ComputeAll);
            let worst =
                found.iter().zip(&expected).map(|(found, expected)| cosine(found, expected)).fold(1.0, f64::min);
            println!("{dtype:?} {quant:?}: 1 - cosine {:.1e}", 1.0 - worst);
            assert!(worst >= least, "{dtype:?} {quant:?}: cosine {worst}");
        }
    }
}

#[test]
fn replayed_and_streamed_passes_have_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    for config in configs() {
        for (dtype, quant, _) in KINDS {
            let weights = Weights::random(7, &gpu, dtype).with_quant(quant);
            let resident = LtxModel::new(&config, &weights).unwrap();
            let (apart, recorded) = predict(&resident, &gpu, dtype, &mut Looks);
            assert!(!recorded);
            let (replayed, recorded) = predict(&resident, &gpu, dtype, &mut ComputeAll);
            assert_eq!(recorded, dtype != DType::F32, "{dtype:?} {quant:?}");
            let streamed = LtxModel::streamed(&config, &weights).unwrap();
            let (streamed, _) = predict(&streamed, &gpu, dtype, &mut ComputeAll);
            for (index, expected) in apart.iter().enumerate() {
                assert!(same_bits(&replayed[index], expected), "{dtype:?} {quant:?}, replayed {index}");
                assert!(same_bits(&streamed[index], expected), "{dtype:?} {quant:?}, streamed {index}");
            }
        }
    }
}

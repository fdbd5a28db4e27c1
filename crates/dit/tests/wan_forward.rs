//! The Wan transformer against diffusers: every network call of the tiny checkpoints.

mod support;

use candle_core::{DType, Device, Tensor};
use kinora_dit::wan::WanModel;
use kinora_dit::{Conditioning, VideoDit};
use kinora_test_support::{fixture, relative_l2, tensors};
use support::model;

const KEEP_ALL: usize = usize::MAX;
const F32_TOLERANCE: f64 = 1e-5;
const BF16_TOLERANCE: f64 = 2e-2;

/// Largest error over all recorded calls of one golden file.
fn worst_call(case: &str, golden: &str, dtype: DType) -> f64 {
    let golden = tensors(&fixture(case).join(golden));
    let mut worst = 0.0f64;
    for net in ["transformer", "transformer_2"] {
        let calls: Vec<&str> =
            golden.keys().filter(|k| k.contains(&format!(".{net}."))).filter_map(|k| k.strip_suffix(".out")).collect();
        if calls.is_empty() {
            continue;
        }
        let model = model(case, net, dtype);
        for call in calls {
            let context = call.rsplit('.').next().unwrap();
            let conditioning = Conditioning::new(golden[&format!("context.{context}")].clone());
            let prepared = model.prepare(&conditioning, KEEP_ALL).unwrap();
            let (latents, timestep) = (&golden[&format!("{call}.in")], &golden[&format!("{call}.timestep")]);
            let out = model.forward(latents, timestep, &prepared).unwrap();
            assert_eq!(out.dtype(), dtype);
            let error = relative_l2(&out, &golden[&format!("{call}.out")]);
            worst = worst.max(error);
        }
    }
    worst
}

fn check_calls(case: &str, goldens: &[&str]) {
    for golden in goldens {
        for (dtype, tolerance) in [(DType::F32, F32_TOLERANCE), (DType::BF16, BF16_TOLERANCE)] {
            let error = worst_call(case, golden, dtype);
            assert!(error > 0.0 && error <= tolerance, "{case} {golden} {dtype:?}: {error}");
        }
    }
}

#[test]
fn wan21_calls() {
    check_calls("wan21_t2v", &["golden.safetensors", "golden_b.safetensors", "golden_euler.safetensors"]);
}

#[test]
fn wan22_a14b_calls_of_both_experts() {
    check_calls("wan22_a14b_t2v", &["golden.safetensors", "golden_b.safetensors"]);
}

#[test]
fn wan22_ti2v_calls() {
    check_calls("wan22_ti2v_t2v", &["golden.safetensors", "golden_b.safetensors", "golden_euler.safetensors"]);
}

#[test]
fn two_clips_with_their_own_contexts_and_timesteps() {
    for (case, net) in [
        ("wan21_t2v", "transformer"),
        ("wan22_a14b_t2v", "transformer"),
        ("wan22_a14b_t2v", "transformer_2"),
        ("wan22_ti2v_t2v", "transformer"),
    ] {
        let golden = tensors(&fixture(case).join("golden_forward.safetensors"));
        let model = model(case, net, DType::F32);
        let prepared = model.prepare(&Conditioning::new(golden["context"].clone()), KEEP_ALL).unwrap();
        let out = model.forward(&golden["in"], &golden["timestep"], &prepared).unwrap();
        let error = relative_l2(&out, &golden[&format!("{net}.out")]);
        assert!(error <= F32_TOLERANCE, "{case} {net}: {error}");
    }
}

#[test]
fn the_cache_changes_no_number() {
    let golden = tensors(&fixture("wan21_t2v").join("golden_forward.safetensors"));
    let model = model("wan21_t2v", "transformer", DType::F32);
    let forward = |cache_bytes| {
        let prepared = model.prepare(&Conditioning::new(golden["context"].clone()), cache_bytes).unwrap();
        let out = model.forward(&golden["in"], &golden["timestep"], &prepared).unwrap();
        out.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    // 2 blocks, keys and values, 2 clips of 7 rows, 36 channels, f32.
    let all = 2 * 2 * 2 * 7 * 36 * 4;
    assert_eq!(forward(0), forward(all));
    assert_eq!(forward(all - 1), forward(all));
}

/// Padding that differs in bits that do not matter is attended to row by row.
#[test]
fn padding_counts_as_often_as_it_is_there() {
    let golden = tensors(&fixture("wan21_t2v").join("golden_forward.safetensors"));
    let model = model("wan21_t2v", "transformer", DType::F32);
    let text = golden["context"].narrow(1, 0, 3).unwrap();
    let padded = |nearly_zero: f32| {
        let first = Tensor::full(nearly_zero, (2, 8, 20), &Device::Cpu).unwrap();
        let rest = Tensor::zeros((2, 12, 20), DType::F32, &Device::Cpu).unwrap();
        Tensor::cat(&[&text, &first, &rest, &first, &(&first * 0.5).unwrap()], 1).unwrap()
    };
    let forward = |context: Tensor, cache_bytes| {
        let prepared = model.prepare(&Conditioning::new(context), cache_bytes).unwrap();
        model.forward(&golden["in"], &golden["timestep"], &prepared).unwrap()
    };
    let expected = forward(padded(1e-30), 0);
    for cache_bytes in [0, KEEP_ALL] {
        let error = relative_l2(&forward(padded(0.0), cache_bytes), &expected);
        assert!(error <= F32_TOLERANCE, "{error}");
    }
    // The text alone is another thing.
    assert!(relative_l2(&forward(text, 0), &expected) > 1e-3);
}

#[test]
fn one_timestep_for_all_tokens_is_one_per_clip() {
    let golden = tensors(&fixture("wan22_ti2v_t2v").join("golden.safetensors"));
    let model = model("wan22_ti2v_t2v", "transformer", DType::F32);
    let prepared = model.prepare(&Conditioning::new(golden["context.prompt"].clone()), KEEP_ALL).unwrap();
    let per_token = &golden["call02.transformer.prompt.timestep"];
    let per_clip = per_token.narrow(1, 0, 1).unwrap().squeeze(1).unwrap();
    let out = |timestep: &Tensor| {
        let out = model.forward(&golden["call02.transformer.prompt.in"], timestep, &prepared).unwrap();
        out.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(out(per_token), out(&per_clip));
}

#[test]
fn a_clip_in_a_batch_is_the_clip_alone() {
    let golden = tensors(&fixture("wan22_ti2v_t2v").join("golden_forward.safetensors"));
    let model = model("wan22_ti2v_t2v", "transformer", DType::F32);
    for clip in 0..2 {
        let one = |name: &str| golden[name].narrow(0, clip, 1).unwrap();
        let prepared = model.prepare(&Conditioning::new(one("context")), KEEP_ALL).unwrap();
        let out = model.forward(&one("in"), &one("timestep"), &prepared).unwrap();
        let error = relative_l2(&out, &one("transformer.out"));
        assert!(error <= F32_TOLERANCE, "clip {clip}: {error}");
    }
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

fn wan21() -> WanModel {
    model("wan21_t2v", "transformer", DType::F32)
}

#[test]
fn wrong_shapes_are_errors_that_say_so() {
    let model = wan21();
    let prepared = model.prepare(&Conditioning::new(zeros(&[1, 3, 20])), KEEP_ALL).unwrap();
    let error = |latents: &[usize], timestep: &[usize]| {
        model.forward(&zeros(latents), &zeros(timestep), &prepared).unwrap_err().to_string()
    };
    let sizes = "expected [B, 16, F, H, W] with F, H, W multiples of 1, 2, 2 and at most 1024 tokens along each";
    for latents in
        [[1, 16, 1, 3, 4], [1, 16, 1, 4, 5], [1, 15, 1, 4, 4], [1, 16, 0, 4, 4], [1, 16, 1025, 2, 2], [0, 16, 1, 4, 4]]
    {
        assert_eq!(error(&latents, &[1]), format!("latents: shape {latents:?}, {sizes}"));
    }
    assert_eq!(error(&[16, 1, 4, 4], &[1]), "latents: shape [16, 1, 4, 4], expected [B, C, F, H, W]");
    for timestep in [&[2][..], &[1, 3], &[1, 4, 1], &[], &[2, 4]] {
        let expected = format!("timestep: shape {timestep:?}, expected [1] or [1, 4]");
        assert_eq!(error(&[1, 16, 1, 4, 4], timestep), expected);
    }
    let message = error(&[2, 16, 1, 4, 4], &[2]);
    assert_eq!(message, "prepared context: shape [1, 1, 36], expected [2, S, 36]");
}

#[test]
fn wrong_contexts_are_errors_that_say_so() {
    let model = wan21();
    for context in [&[1, 3, 21][..], &[3, 20], &[1, 0, 20], &[0, 3, 20], &[1, 1, 3, 20]] {
        let error = model.prepare(&Conditioning::new(zeros(context)), KEEP_ALL).unwrap_err().to_string();
        assert_eq!(error, format!("context: shape {context:?}, expected [B, S, 20]"));
    }
}

#[test]
fn a_context_prepared_by_another_model_is_an_error() {
    let prepared = model("wan22_ti2v_t2v", "transformer", DType::F32)
        .prepare(&Conditioning::new(zeros(&[1, 3, 20])), KEEP_ALL)
        .unwrap();
    let error = wan21().forward(&zeros(&[1, 16, 1, 4, 4]), &zeros(&[1]), &prepared).unwrap_err().to_string();
    assert_eq!(error, "prepared context: shape [1, 1, 28], expected [1, S, 36]");
}

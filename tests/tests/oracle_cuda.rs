//! The whole pipeline on a GPU against diffusers' numbers, and against its own on the CPU.
//!
//! Without a GPU there is nothing to compare, and the tests say so; with `KINORA_REQUIRE_CUDA` set they fail instead.
#![cfg(feature = "cuda")]
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing")]

use candle_core::{DType, Tensor};
use kinora::{LoadOptions, Output, Pipeline, Quant, Request};
use kinora_tests::oracle::{RUNS, run};
use kinora_tests::{Golden, cosine, fixture, generate, load_on, max_error, video};

/// Largest difference of a step's latents or of the video, relative to the tensor's scale, f32: sums in another order,
/// step after step.
const F32_RUN: f64 = 1e-3;
/// Least cosine between the final latents of a 16-bit run and the golden ones.
const NARROW_RUN: f64 = 0.999;

fn has_gpu() -> bool {
    let options = LoadOptions::default().device("cuda");
    let Err(error) = Pipeline::load(&options) else { return true };
    assert!(std::env::var_os("KINORA_REQUIRE_CUDA").is_none(), "{error}");
    println!("no GPU, nothing is compared: {error}");
    false
}

#[test]
fn every_step_and_the_video_match_diffusers_on_a_gpu() {
    if !has_gpu() {
        return;
    }
    for (case, file) in RUNS {
        let (golden, steps, video) = run(case, file, DType::F32, "cuda", 2);
        let expected = golden.steps();
        assert_eq!(steps.len(), expected.len(), "{case} {file}");
        for (index, (step, expected)) in steps.iter().zip(expected).enumerate() {
            let error = max_error(&on_cpu(step), expected);
            println!("{case} {file} step {index}: {error:.1e}");
            assert!(error <= F32_RUN, "{case} {file} step {index}: {error:.2e}");
        }
        if let Some(expected) = golden.tensors.get("video") {
            let error = max_error(&video, &expected.squeeze(0).expect("[1, F, 3, H, W]"));
            println!("{case} {file} video: {error:.1e}");
            assert!(error <= F32_RUN, "{case} {file} video: {error:.2e}");
        }
        for dtype in [DType::BF16, DType::F16] {
            let (golden, steps, _) = run(case, file, dtype, "cuda", 2);
            let last = golden.steps().last().copied().expect("steps");
            let cosine = cosine(&on_cpu(steps.last().expect("steps")), last);
            println!("{case} {file} {dtype:?}: cosine {cosine:.6}");
            assert!(cosine >= NARROW_RUN, "{case} {file} {dtype:?}: cosine {cosine}");
        }
    }
}

/// A seed gives the same noise on every device, and the clip that it becomes is the same up to rounding.
#[test]
fn the_embedded_model_draws_the_same_clip_as_on_the_cpu() {
    if !has_gpu() {
        return;
    }
    let scratch = tempfile::tempdir().expect("a directory");
    let clip = |device: &str, dtype, quant: Option<Quant>| {
        let pipeline = load_on(device, "embedded", dtype, quant, 2);
        let request = Request::new("a red ball bounces on a striped blue background")
            .seed(7)
            .output(Output::new(scratch.path().join("clip.safetensors")));
        let (report, steps) = generate(&pipeline, &request).unwrap_or_else(|error| panic!("{device}: {error}"));
        let video = video(&report.clip);
        (steps.last().map(on_cpu).expect("steps"), video)
    };
    let (latents, video) = clip("cpu", DType::F32, None);
    let (latents_there, video_there) = clip("cuda", DType::F32, None);
    let error = max_error(&latents_there, &latents);
    println!("embedded, f32: latents {error:.1e}, video {:.1e}", max_error(&video_there, &video));
    assert!(error <= F32_RUN, "latents {error:.2e}");
    for (dtype, quant) in
        [(DType::BF16, None), (DType::F16, None), (DType::BF16, Some(Quant::Fp8)), (DType::BF16, Some(Quant::Int8))]
    {
        let (latents_there, video_there) = clip("cuda", dtype, quant);
        let (latents, video) = (cosine(&latents_there, &latents), cosine(&video_there, &video));
        println!("embedded, {dtype:?} {quant:?}: cosine of latents {latents:.5}, of the video {video:.5}");
        assert!(video >= 0.99, "{dtype:?} {quant:?}: cosine {video}");
    }
}

/// Runs of a model whose transformer is stored in another way.
#[test]
fn stored_weights_match_diffusers_on_a_gpu() {
    if !has_gpu() {
        return;
    }
    let (expected, _) =
        kinora_checkpoint::load_safetensors(&fixture("formats").join("golden.safetensors")).expect("golden numbers");
    for (file, expected) in expected {
        let scratch = tempfile::tempdir().expect("a directory");
        let latents = |dtype: DType, exact: bool| {
            let paths = [fixture("wan21_t2v"), fixture("formats").join(&file)];
            let options = LoadOptions::default()
                .model(paths.map(|path| path.to_string_lossy().into_owned()).to_vec())
                .dtype(Some(dtype))
                .device("cuda")
                .exact(exact);
            let pipeline = Pipeline::load(&options).unwrap_or_else(|error| panic!("{file}: {error}"));
            let request = Golden::read("wan21_t2v", "golden_b.safetensors").request(scratch.path());
            let (_, steps) = generate(&pipeline, &request).unwrap_or_else(|error| panic!("{file}: {error}"));
            on_cpu(steps.last().expect("steps"))
        };
        let error = max_error(&latents(DType::F32, true), &expected);
        println!("{file}: {error:.1e}");
        assert!(error <= F32_RUN, "{file}: {error:.2e}");
        for (dtype, exact) in [(DType::BF16, true), (DType::BF16, false), (DType::F16, false)] {
            let cosine = cosine(&latents(dtype, exact), &expected);
            println!("{file} {dtype:?}, exact: {exact}: cosine {cosine:.6}");
            assert!(cosine >= NARROW_RUN, "{file} {dtype:?}, exact: {exact}: cosine {cosine}");
        }
    }
}

fn on_cpu(x: &Tensor) -> Tensor {
    x.to_device(&candle_core::Device::Cpu).expect("a copy")
}

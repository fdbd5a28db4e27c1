//! Pictures and clips that are given, against diffusers: every step's latents and the video of tiny checkpoints, whose
//! golden numbers `scripts/fixtures/conditioned.py` makes.
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing")]

use candle_core::{DType, Tensor};
use kinora::{Fit, Inputs, Request};
use kinora_tests::sandbox::Sandbox;
use kinora_tests::{Golden, generate, load, max_error, relative_l2, same_bits, video};

/// Largest difference of a step's latents or of the video, relative to the tensor's scale, f32.
const WHOLE_RUN: f64 = 1e-4;
/// Relative L2 of the final latents of a bf16 run.
const BF16_RUN: f64 = 3e-2;

const CASES: &[&str] = &[
    "wan21_i2v",
    "wan21_flf2v",
    "wan22_a14b_i2v",
    "wan22_a14b_flf2v",
    "wan22_ti2v_i2v",
    "wan21_vace",
    "wan21_vace_control",
    "wan21_v2v",
];

fn request(case: &str, golden: &Golden, sandbox: &Sandbox) -> Request {
    let there =
        |name: &str| Some(sandbox.path("given").join(name)).filter(|path| path.exists()).map(kinora::Source::from);
    let number = |name: &str| golden.metadata.get(name).map(|text| text.parse::<f64>().expect("a number"));
    let video = there("video");
    let changed = case.contains("v2v");
    let mut request = golden.request(&sandbox.path("given"));
    request.sampling.guidance_scale_2 = number("guidance_scale_2");
    let inputs = Inputs::default().fit(Fit::Stretch); // as diffusers does it
    let mut inputs = inputs.strength(number("strength")).control_scale(number("conditioning_scale"));
    inputs.references = there("reference.png").into_iter().collect();
    (inputs.image, inputs.last_image, inputs.mask) = (there("image.png"), there("last.png"), there("mask"));
    (inputs.video, inputs.control) = (video.clone().filter(|_| changed), video.filter(|_| !changed));
    request.inputs(inputs)
}

fn run(case: &str, dtype: DType, threads: usize) -> (Golden, Vec<Tensor>, Tensor) {
    let golden = Golden::read(&format!("given/{case}"), "golden.safetensors");
    let sandbox = Sandbox::given(case);
    let pipeline = load(&sandbox.path("model").to_string_lossy(), dtype, threads);
    let request = request(case, &golden, &sandbox);
    let (report, steps) = generate(&pipeline, &request).unwrap_or_else(|error| panic!("{case}: {error}"));
    let video = video(&report.clip);
    (golden, steps, video)
}

#[test]
fn every_step_and_the_video_match_diffusers() {
    for case in CASES {
        let (golden, steps, video) = run(case, DType::F32, 2);
        let expected = golden.steps();
        assert_eq!(steps.len(), expected.len(), "{case}");
        for (index, (step, expected)) in steps.iter().zip(expected).enumerate() {
            let error = max_error(step, expected);
            println!("{case} step {index}: {error:.1e}");
            assert!(error <= WHOLE_RUN, "{case} step {index}: {error:.2e}");
        }
        let error = max_error(&video, &golden.get("video").squeeze(0).expect("[1, F, 3, H, W]"));
        println!("{case} video: {error:.1e}");
        assert!(error <= WHOLE_RUN, "{case} video: {error:.2e}");
    }
}

#[test]
fn bf16_stays_near_the_f32_numbers() {
    for case in CASES {
        let (golden, steps, _) = run(case, DType::BF16, 2);
        let error = relative_l2(steps.last().expect("steps"), golden.steps().last().expect("steps"));
        println!("{case} bf16: {error:.1e}");
        assert!(error <= BF16_RUN, "{case}: {error:.2e}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for case in ["wan21_i2v", "wan21_vace"] {
        let (_, one, video_one) = run(case, DType::F32, 1);
        let (_, two, video_two) = run(case, DType::F32, 2);
        assert!(one.iter().zip(&two).all(|(a, b)| same_bits(a, b)), "{case}: latents");
        assert!(same_bits(&video_one, &video_two), "{case}: video");
    }
}

#[test]
fn a_model_with_control_changes_clips_too() {
    let golden = Golden::read("given/wan21_vace_control", "golden.safetensors");
    let sandbox = Sandbox::given("wan21_vace_control");
    let pipeline = load(&sandbox.path("model").to_string_lossy(), DType::F32, 1);
    let mut request = request("wan21_vace_control", &golden, &sandbox);
    (request.inputs.video, request.inputs.control) = (request.inputs.control.take(), None);
    (request.inputs.control_scale, request.inputs.strength) = (None, Some(0.5));
    let (_, steps) = generate(&pipeline, &request).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(steps.len(), 2);
}

#[test]
fn a_stopped_run_goes_on_with_the_same_bits() {
    let case = "wan22_ti2v_i2v";
    let golden = Golden::read(&format!("given/{case}"), "golden.safetensors");
    let sandbox = Sandbox::given(case);
    let pipeline = load(&sandbox.path("model").to_string_lossy(), DType::F32, 1);
    let mut request = request(case, &golden, &sandbox);
    request.output.resume = Some(sandbox.path("run"));
    let stop = |event: kinora::Event| match event {
        kinora::Event::Step { done: 2, .. } => std::ops::ControlFlow::Break(()),
        _ => std::ops::ControlFlow::Continue(()),
    };
    let stopped = pipeline.generate(&request, stop).expect_err("it is stopped");
    assert!(stopped.is_stop(), "{stopped}");
    // What was made of the picture is kept: the picture itself is not needed any more to denoise.
    assert!(sandbox.path("run").join("conditions.safetensors").exists());
    let (report, steps) = generate(&pipeline, &request).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(steps.len(), 2);
    let video = video(&report.clip);
    let (_, _, whole) = run(case, DType::F32, 1);
    assert!(same_bits(&video, &whole));
    // Another picture of the same name is another run.
    let image = request.inputs.image.as_ref().and_then(kinora::Source::path).expect("a file").to_path_buf();
    let mut bytes = std::fs::read(&image).expect("a picture");
    bytes.push(0);
    std::fs::write(&image, bytes).expect("a longer file");
    let error = pipeline.generate(&request, |_| std::ops::ControlFlow::Continue(())).expect_err("it has changed");
    assert!(error.to_string().contains("image.png` has changed since"), "{error}");
}

//! The whole pipeline against diffusers: every step's latents and the video of tiny checkpoints, whose golden numbers
//! `scripts/fixtures/make_tiny.py` makes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the measured numbers are worth seeing")]

use candle_core::DType;
use kinora_kernels::{LEVEL_VARIABLE, Level};
use kinora_tests::oracle::{RUNS, run};
use kinora_tests::{max_error, relative_l2, same_bits};
use std::process::Command;

/// Largest difference of a step's latents or of the video, relative to the tensor's scale, f32.
const WHOLE_RUN: f64 = 1e-4;
/// Relative L2 of the final latents of a bf16 run.
const BF16_RUN: f64 = 3e-2;

#[test]
fn every_step_and_the_video_match_diffusers() {
    for (case, file) in RUNS {
        let (golden, steps, video) = run(case, file, DType::F32, "cpu", 2);
        let expected = golden.steps();
        assert_eq!(steps.len(), expected.len(), "{case} {file}");
        for (index, (step, expected)) in steps.iter().zip(expected).enumerate() {
            let error = max_error(step, expected);
            println!("{case} {file} step {index}: {error:.1e}");
            assert!(error <= WHOLE_RUN, "{case} {file} step {index}: {error:.2e}");
        }
        if let Some(expected) = golden.tensors.get("video") {
            let error = max_error(&video, &expected.squeeze(0).expect("[1, F, 3, H, W]"));
            println!("{case} {file} video: {error:.1e}");
            assert!(error <= WHOLE_RUN, "{case} {file} video: {error:.2e}");
        }
    }
}

/// The same at every level of CPU instructions below this machine's own.
#[test]
fn lower_levels_match_diffusers_too() {
    for level in Level::lower() {
        let mut tests = Command::new(std::env::current_exe().expect("a test has a path"));
        let tests = tests.env(LEVEL_VARIABLE, level.name());
        let run = tests.args(["--exact", "every_step_and_the_video_match_diffusers"]).output().expect("it starts");
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && text.contains("1 passed"), "{level:?}: {text}");
    }
}

#[test]
fn bf16_stays_near_the_f32_numbers() {
    for (case, file) in RUNS {
        let (golden, steps, _) = run(case, file, DType::BF16, "cpu", 2);
        let error = relative_l2(steps.last().expect("steps"), golden.steps().last().expect("steps"));
        println!("{case} {file} bf16: {error:.1e}");
        assert!(error <= BF16_RUN, "{case} {file}: {error:.2e}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for case in ["wan21_t2v", "wan22_ti2v_t2v"] {
        let (_, one, video_one) = run(case, "golden.safetensors", DType::F32, "cpu", 1);
        let (_, two, video_two) = run(case, "golden.safetensors", DType::F32, "cpu", 2);
        assert!(one.iter().zip(&two).all(|(a, b)| same_bits(a, b)), "{case}: latents");
        assert!(same_bits(&video_one, &video_two), "{case}: video");
    }
}

//! Sparse attention in whole runs: near dense attention, the same bits over stops, in recipes, and refused where it makes no sense.
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing")]

use candle_core::{DType, Tensor};
use kinora::{AttentionChoice, Event, Output, Pipeline, Quant, Request, Sampling, Size};
use kinora_tests::{Run, generate, kinora, latents, load, load_quantised, relative_l2, same_bits, video};
use std::ops::ControlFlow::{Break, Continue};
use std::path::Path;

/// 21×8×14 tokens: 19 blocks, of which two at the start and one or two at the end are always kept.
const SIZE: Size = Size::Pixels { width: Some(224), height: Some(128) };
const FRAMES: usize = 81;

fn request(folder: &Path, name: &str, attention: &str) -> Request {
    let output = Output::new(folder.join(format!("{name}.safetensors")))
        .latents(folder.join(format!("{name}.latents.safetensors")));
    Request::new("a red ball bounces on a striped blue background")
        .size(SIZE)
        .frames(FRAMES)
        .seed(3)
        .sampling(Sampling::default().attention(attention.parse::<AttentionChoice>().expect("an attention")))
        .output(output)
}

fn made(pipeline: &Pipeline, request: &Request) -> [Tensor; 2] {
    generate(pipeline, request).unwrap_or_else(|error| panic!("{error}"));
    [latents(request.output.latents.as_ref().expect("a place")), video(&request.output.clip)]
}

fn psnr(a: &Tensor, b: &Tensor) -> f64 {
    let square = (a - b).and_then(|d| d.sqr()).and_then(|d| d.mean_all()).and_then(|d| d.to_scalar::<f32>());
    -10.0 * f64::from(square.expect("f32 frames of one size")).log10()
}

/// Attention, quantisation, relative L2 error of the latents and PSNR (dB) of the frames, to those of dense attention, that
/// were seen (docs/attention.md); a run may have a third more and 3 dB less.
const SEEN: [(&str, Option<Quant>, f64, f64); 3] =
    [("sparse", None, 0.0314, 47.6), ("sparse:0.5", None, 0.520, 25.1), ("sparse", Some(Quant::Int8), 0.0567, 45.8)];

#[test]
fn clips_stay_near_those_of_dense_attention() {
    let scratch = tempfile::tempdir().expect("a directory");
    for quant in [None, Some(Quant::Int8)] {
        let pipeline = load_quantised("embedded", DType::F32, quant, 2);
        let dense = made(&pipeline, &request(scratch.path(), "dense", "dense"));
        for (attention, _, seen_error, seen_psnr) in SEEN.into_iter().filter(|seen| seen.1 == quant) {
            let sparse = made(&pipeline, &request(scratch.path(), "sparse", attention));
            let (error, psnr) = (relative_l2(&sparse[0], &dense[0]), psnr(&sparse[1], &dense[1]));
            println!("{attention} {quant:?}: latents {error:.4}, frames {psnr:.1} dB");
            assert!(error > 0.0 && error <= seen_error * 4.0 / 3.0, "{attention} {quant:?}: {error}");
            assert!(psnr >= seen_psnr - 3.0, "{attention} {quant:?}: {psnr} dB");
        }
    }
}

/// With a step cache, whose tensors have the tokens in another order than those of a dense run, and guidance.
#[test]
fn a_stopped_run_goes_on_to_the_same_bits() {
    let scratch = tempfile::tempdir().expect("a directory");
    let pipeline = load("embedded", DType::F32, 2);
    let mut whole = request(scratch.path(), "whole", "sparse:0.4");
    whole.sampling.steps = Some(6);
    whole.sampling.cache = Some("first-block:0.2".parse().expect("a cache"));
    let expected = made(&pipeline, &whole);
    let mut parts = whole.clone().output(request(scratch.path(), "parts", "dense").output);
    parts.output.resume = Some(scratch.path().join("run"));
    for stop_at in [1, 3] {
        let stop = |event: Event| match event {
            Event::Step { done, .. } if done == stop_at => Break(()),
            _ => Continue(()),
        };
        assert!(pipeline.generate(&parts, stop).is_err_and(|error| error.is_stop()));
    }
    let other = parts.clone().sampling(parts.sampling.clone().attention(AttentionChoice::Dense));
    let error = pipeline.generate(&other, |_| Continue(())).expect_err("the run is another").to_string();
    assert!(error.contains(r#"attention is "sparse:0.4", here it is "dense""#), "{error}");
    let found = made(&pipeline, &parts);
    assert!(expected.iter().zip(&found).all(|(a, b)| same_bits(a, b)));
}

fn succeeded(run: Run) -> String {
    assert_eq!(run.status, Some(0), "{run:#?}");
    run.stdout + &run.stderr
}

#[test]
fn recipes_know_the_attention() {
    let scratch = tempfile::tempdir().expect("a directory");
    let run = |arguments: &str| kinora(&arguments.split(' ').collect::<Vec<_>>(), scratch.path());
    let small = "--width 160 --height 96 --frames 41 --seed 1 --steps 3";
    succeeded(run(&format!("generate ball {small} --attention sparse:0.3 -o sparse.safetensors")));
    assert!(succeeded(run("show sparse.safetensors")).contains("attention        sparse:0.3"));
    succeeded(run("rerun sparse.safetensors -o again.safetensors"));
    succeeded(run("rerun sparse.safetensors --attention dense -o dense.safetensors"));
    succeeded(run(&format!("generate ball {small} -o plain.safetensors")));
    let video = |name: &str| video(&scratch.path().join(format!("{name}.safetensors")));
    assert!(same_bits(&video("sparse"), &video("again")));
    assert!(same_bits(&video("dense"), &video("plain")));
    assert!(!same_bits(&video("sparse"), &video("dense")));
}

#[test]
fn clips_too_small_for_it_are_dense_and_say_so() {
    let scratch = tempfile::tempdir().expect("a directory");
    let run = |arguments: &str| kinora(&arguments.split(' ').collect::<Vec<_>>(), scratch.path());
    let said = succeeded(run("generate ball --seed 1 --steps 1 --attention sparse -o sparse.safetensors"));
    assert!(
        said.contains("attention is dense: in a clip of 140 tokens, sparse attention leaves nothing out"),
        "{said}"
    );
    assert!(!succeeded(run("show sparse.safetensors")).contains("attention"));
    succeeded(run("generate ball --seed 1 --steps 1 -o dense.safetensors"));
    let video = |name: &str| video(&scratch.path().join(name));
    assert!(same_bits(&video("sparse.safetensors"), &video("dense.safetensors")));
}

#[test]
fn shares_that_make_no_sense_are_refused() {
    let scratch = tempfile::tempdir().expect("a directory");
    for (attention, part) in [
        ("sparse:0", "`0` is not a share above 0 and up to 1"),
        ("sparse:1.5", "`1.5` is not a share above 0 and up to 1"),
        ("local", "there is no attention `local`, only dense and sparse[:KEEP]"),
    ] {
        let run = kinora(&["generate", "ball", "--attention", attention], scratch.path());
        assert!(run.status == Some(2) && run.stderr.contains(part), "{run:#?}");
    }
}

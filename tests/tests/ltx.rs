//! Whole runs of a tiny LTX-2.3 against diffusers, which `scripts/fixtures/ltx_runs.py` keeps: text, every step of both streams, frames and sound.

use candle_core::{DType, Tensor};
use kinora::{Output, Pipeline, Request, SamplerKind, Sampling, Size, Source};
use kinora_tests::sandbox::Sandbox;
use kinora_tests::{Golden, generate, load, relative_l2, tensors, values};
use serde_json::Value;
use std::collections::BTreeMap;

/// Relative L2 errors of latents after each step, and of frames and sound, f32: sums in another order, layer after layer.
const LATENTS: f64 = 1e-4;
const DECODED: f64 = 1e-3;

/// A folder with the model in `model`, whose contexts are as short as those of the golden runs.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new("ltx23");
    let manifest = include_str!("../../models/ltx-2.3-22b.toml").replace("text_len = 1024", "text_len = 64");
    sandbox.write("model/manifest.toml", manifest);
    sandbox
}

fn pipeline(sandbox: &Sandbox, threads: usize) -> Pipeline {
    load(&sandbox.path("model").to_string_lossy(), DType::F32, threads)
}

/// The request of a golden run, with its noise.
fn request(sandbox: &Sandbox, golden: &Golden) -> Request {
    let noise = sandbox.path("noise.safetensors");
    let tensors = ["noise", "noise_audio"].map(|name| (name.to_string(), golden.get(name).clone()));
    kinora_checkpoint::save_safetensors(&noise, &tensors, &BTreeMap::new()).expect("noise is written");
    let call: Value = serde_json::from_str(&golden.metadata["call"]).expect("JSON");
    let number = |name: &str| call[name].as_f64().unwrap_or_else(|| panic!("{name}"));
    let size = Size::Pixels { width: Some(number("width") as usize), height: Some(number("height") as usize) };
    let sampling = Sampling::default()
        .steps(number("num_inference_steps") as usize)
        .sampler(SamplerKind::Euler)
        .guidance_scale(number("guidance_scale"))
        .stg_scale(number("stg_scale"))
        .modality_scale(number("modality_scale"))
        .guidance_rescale(number("guidance_rescale"))
        .audio_guidance_scale(number("audio_guidance_scale"))
        .audio_stg_scale(number("audio_stg_scale"))
        .audio_modality_scale(number("audio_modality_scale"))
        .audio_guidance_rescale(number("audio_guidance_rescale"));
    Request::new(&*golden.metadata["prompt"])
        .negative_prompt(golden.metadata["negative_prompt"].clone())
        .size(size)
        .frames(number("num_frames") as usize)
        .fps(number("frame_rate"))
        .sampling(sampling)
        .init_latents(noise)
        .output(Output::new(sandbox.path("clip.safetensors")))
}

/// The tokens `[1, L, C]` of latents `[1, C, F, H, W]`.
fn tokens(latents: &Tensor) -> Tensor {
    latents.flatten_from(2).and_then(|x| x.transpose(1, 2)?.contiguous()).expect("tokens")
}

/// Runs `request` and compares every step, the frames and the sound.
fn compare(sandbox: &Sandbox, request: &Request, golden: &Golden) {
    let (_, steps) = generate(&pipeline(sandbox, 1), request).unwrap_or_else(|error| panic!("{error}"));
    let expected = golden.steps();
    assert_eq!(steps.len(), expected.len());
    for (index, (found, expected)) in steps.iter().zip(expected).enumerate() {
        let error = relative_l2(&tokens(found), expected);
        assert!(error <= LATENTS, "step {index}: relative L2 error {error:.2e}");
    }
    let clip = tensors(&sandbox.path("clip.safetensors"));
    for name in ["video", "audio"] {
        let (found, expected) = (&clip[name], golden.get(name));
        // The sound of a file is as long as its frames: diffusers' ends earlier, and silence follows.
        let (found, rest) = match (name, found.dim(1).expect("samples"), expected.dim(1).expect("samples")) {
            ("audio", have, want) if have > want => {
                (found.narrow(1, 0, want).expect("samples"), Some(found.narrow(1, want, have - want).expect("samples")))
            }
            _ => (found.clone(), None),
        };
        let error = relative_l2(&found, expected);
        assert!(error <= DECODED, "{name}: relative L2 error {error:.2e}");
        assert!(rest.is_none_or(|rest| values(&rest).iter().all(|sample| *sample == 0.0)), "silence");
    }
}

#[test]
fn text_to_video_with_sound_is_diffusers() {
    let (sandbox, golden) = (sandbox(), Golden::read("ltx23", "t2av.safetensors"));
    compare(&sandbox, &request(&sandbox, &golden), &golden);
}

#[test]
fn a_picture_to_video_with_sound_is_diffusers() {
    let (sandbox, golden) = (sandbox(), Golden::read("ltx23", "i2av.safetensors"));
    let mut request = request(&sandbox, &golden);
    request.inputs.image = Some(Source::from(sandbox.path("model/image.png")));
    compare(&sandbox, &request, &golden);
}

#[test]
fn a_clip_has_a_sound_track_as_long_as_its_frames() {
    let sandbox = sandbox();
    let arguments = ["generate", "a red ball", "--model", "model", "--width", "64", "--height", "64", "--frames", "17"];
    let more = ["--steps", "2", "--seed", "3", "--dtype", "f32", "--threads", "1", "-o", "clip.mp4"];
    let run = sandbox.kinora(&[&arguments[..], &more, &["--audio-out", "clip.wav"]].concat());
    assert_eq!(run.status, Some(0), "{run:#?}");
    let clip = std::fs::read(sandbox.path("clip.mp4")).expect("a clip");
    assert!(clip.windows(4).any(|bytes| bytes == b"Opus"), "it has a track of Opus");
    let sound = kinora::Sound::read_wav(sandbox.path("clip.wav")).expect("a WAV file");
    let seconds = sound.samples() as f64 / 6000.0;
    assert!((seconds - 17.0 / 24.0).abs() < 1e-3, "{seconds} s");
}

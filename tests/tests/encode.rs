//! `kinora encode`: clips to latents, and back by `kinora decode`.

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{Weights, load_safetensors, save_safetensors};
use kinora_media::{ClipSpec, Fps, Frame, WriteOptions};
use kinora_tests::sandbox::Sandbox;
use kinora_tests::{Run, relative_l2};
use kinora_vae::wan::{Config, WanVae, canonical_from_diffusers};
use kinora_vae::{Parts, VideoVae};
use std::collections::BTreeMap;
use std::path::Path;

/// Relative L2 of latents against the library's VAE, which its own tests hold to diffusers' numbers.
const F32: f64 = 1e-5;

/// A sandbox with smooth moving colours as raw frames in `clip.safetensors`, and the frames `[F, 3, H, W]`.
fn with_clip(frames: usize, height: usize, width: usize, fps: &str) -> (Sandbox, Tensor) {
    let sandbox = Sandbox::new("wan21_t2v");
    let values: Vec<f32> = (0..frames * 3 * height * width)
        .map(|at| {
            let (x, y) = (at % width, at / width % height);
            let (c, f) = (at / (width * height) % 3, at / (3 * width * height));
            0.5 + 0.4 * (0.1 * x as f32 + 0.07 * y as f32 + c as f32 + 0.3 * f as f32).sin()
        })
        .collect();
    let video = Tensor::from_vec(values, (frames, 3, height, width), &Device::Cpu).expect("frames");
    let metadata = BTreeMap::from([("fps".to_string(), fps.to_string())]);
    let tensors = [("video".to_string(), video.clone())];
    save_safetensors(&sandbox.path("clip.safetensors"), &tensors, &metadata).expect("a clip");
    (sandbox, video)
}

fn encode(sandbox: &Sandbox, clip: &str, latents: &str) -> Run {
    sandbox.kinora(&["encode", clip, "--model", "model", "--threads", "2", "-o", latents])
}

fn latents(sandbox: &Sandbox, file: &str) -> Tensor {
    load_safetensors(&sandbox.path(file)).expect("a file").0["latents"].clone()
}

/// Frames `[F, 3, H, W]` as an MP4 at 25 a second.
fn write_mp4(sandbox: &Sandbox, name: &str, video: &Tensor) {
    let (frames, _, height, width) = video.dims4().expect("frames");
    let spec = ClipSpec { width, height, fps: Fps::new(25, 1).expect("a speed") };
    let mut writer = kinora_media::create(sandbox.path(name), &spec, &WriteOptions::default()).expect("a writer");
    for index in 0..frames {
        let data = video.get(index).and_then(|frame| frame.flatten_all()?.to_vec1()).expect("values");
        writer.push(&Frame::new(width, height, data).expect("a frame")).expect("it is written");
    }
    writer.finish().expect("it is complete");
}

/// What the VAE of the fixture makes of frames `[F, 3, H, W]` in 0..1.
fn expected(sandbox: &Sandbox, video: &Tensor) -> Tensor {
    encoded(&sandbox.path("model/vae"), video, DType::F32)
}

/// What the VAE in `folder` makes of them in `dtype`.
fn encoded(folder: &Path, video: &Tensor, dtype: DType) -> Tensor {
    let config = std::fs::read_to_string(folder.join("config.json")).expect("a configuration");
    let config = Config::from_json(&config).expect("a configuration of a VAE");
    let files = [folder.join("diffusion_pytorch_model.safetensors")];
    let keys = canonical_from_diffusers(&config);
    let weights = Weights::open(&files, &[&keys], &Device::Cpu, dtype).expect("weights");
    let pixels = video.permute((1, 0, 2, 3)).and_then(|video| video.unsqueeze(0)); // [1, 3, F, H, W]
    let pixels = pixels.and_then(|pixels| (pixels * 2.0)? - 1.0).expect("pixels");
    WanVae::new(&config, &weights, Parts::Encoder).expect("a VAE").encode(&pixels).expect("latents")
}

#[test]
fn raw_frames_become_the_latents_of_the_library() {
    let (sandbox, video) = with_clip(9, 48, 32, "24000/1001");
    let run = encode(&sandbox, "clip.safetensors", "latents.safetensors");
    assert_eq!((run.status, run.stdout.trim()), (Some(0), "latents.safetensors  latents [1, 16, 3, 6, 4]"), "{run:#?}");
    let error = relative_l2(&latents(&sandbox, "latents.safetensors"), &expected(&sandbox, &video));
    assert!(error <= F32, "{error:.2e}");

    let decode = ["decode", "latents.safetensors", "--model", "model", "-o", "back.safetensors"];
    let run = sandbox.kinora(&decode);
    assert_eq!(run.status, Some(0), "{run:#?}");
    let (tensors, metadata) = load_safetensors(&sandbox.path("back.safetensors")).expect("a clip");
    assert_eq!(tensors["video"].dims(), [9, 3, 48, 32]);
    assert_eq!(metadata["fps"], "24000/1001");
}

/// On a GPU it works in f16, whose largest number is 65504.
#[test]
fn the_embedded_models_encoder_fits_f16() {
    let (_, video) = with_clip(17, 64, 112, "8");
    let video = ((video - 0.5).expect("numbers") * 1.2).and_then(|video| video + 0.5).expect("numbers");
    let folder = kinora_tests::root().join("models/embedded/vae");
    let [narrow, wide] = [DType::F16, DType::F32].map(|dtype| encoded(&folder, &video, dtype));
    let error = relative_l2(&narrow, &wide);
    // Some 50 times a number is rounded to 11 bits, which is off by 2.8e-4 (root mean square); together seven times that.
    assert!(error <= 2e-3, "{error:.2e}");
}

#[test]
fn frames_past_the_last_whole_group_are_left_out_and_said() {
    let (sandbox, video) = with_clip(7, 32, 32, "8");
    let run = encode(&sandbox, "clip.safetensors", "latents.safetensors");
    assert_eq!(run.status, Some(0), "{run:#?}");
    assert!(run.stderr.contains("the last 2 frames are left out"), "{run:#?}");
    let whole = video.narrow(0, 0, 5).expect("five frames");
    let error = relative_l2(&latents(&sandbox, "latents.safetensors"), &expected(&sandbox, &whole));
    assert!(error <= F32, "{error:.2e}");
}

#[test]
fn sizes_that_the_vae_cannot_halve_are_refused() {
    let (sandbox, _) = with_clip(1, 32, 36, "8");
    let failure = encode(&sandbox, "clip.safetensors", "latents.safetensors").failure();
    assert!(failure.contains("a clip of 36×32 cannot be encoded") && failure.contains("multiples of 8"), "{failure}");
    assert!(!sandbox.path("latents.safetensors").exists());
}

#[test]
fn an_mp4_becomes_the_latents_of_its_frames() {
    let (sandbox, video) = with_clip(5, 32, 48, "25");
    write_mp4(&sandbox, "clip.mp4", &video);
    let run = encode(&sandbox, "clip.mp4", "latents.safetensors");
    assert_eq!((run.status, run.stdout.trim()), (Some(0), "latents.safetensors  latents [1, 16, 2, 4, 6]"), "{run:#?}");
    let mut clip = kinora_media::open(sandbox.path("clip.mp4")).expect("a clip");
    let mut frames = Vec::new();
    while let Some(frame) = clip.next_frame().expect("a frame") {
        frames.push(Tensor::from_vec(frame.data, (3, 32, 48), &Device::Cpu).expect("a tensor"));
    }
    let read = Tensor::stack(&frames, 0).expect("frames");
    let error = relative_l2(&latents(&sandbox, "latents.safetensors"), &expected(&sandbox, &read));
    assert!(error <= F32, "{error:.2e}");
    // H.264 loses little of smooth colours.
    let error = relative_l2(&read, &video);
    assert!(error <= 0.02, "{error:.3}");
    let (_, metadata) = load_safetensors(&sandbox.path("latents.safetensors")).expect("a file");
    assert!(metadata.values().any(|value| value == "25"), "{metadata:?}");
}

#[test]
fn a_damaged_mp4_leaves_no_latents() {
    let (sandbox, video) = with_clip(5, 32, 48, "25");
    write_mp4(&sandbox, "clip.mp4", &video);
    let bytes = std::fs::read(sandbox.path("clip.mp4")).expect("a clip");
    std::fs::write(sandbox.path("cut.mp4"), &bytes[..bytes.len() / 2]).expect("half a clip");
    let failure = encode(&sandbox, "cut.mp4", "latents.safetensors").failure();
    assert!(failure.contains("cut.mp4"), "{failure}");
    assert!(!sandbox.path("latents.safetensors").exists());
}

/// A video of another kind is read by the program `ffmpeg`, if one is on PATH and it is not turned off.
#[cfg(unix)]
#[test]
fn other_videos_are_read_by_ffmpeg_where_it_may() {
    let (sandbox, video) = with_clip(5, 32, 48, "25");
    write_mp4(&sandbox, "clip.mp4", &video);
    let mut copy = std::process::Command::new("ffmpeg");
    copy.args(["-v", "error", "-i", "clip.mp4", "-c", "copy", "file:-it's.mkv"]).current_dir(sandbox.path("."));
    if !copy.status().is_ok_and(|status| status.success()) {
        let required = std::env::var("KINORA_REQUIRE_FFPROBE").is_ok_and(|value| value == "1");
        assert!(!required, "ffmpeg is required and not on PATH");
        return;
    }
    let arguments = |more: &'static str| {
        let model = ["encode", "--model", "model", "--threads", "2", "-o", "latents.safetensors"];
        model.into_iter().chain((!more.is_empty()).then_some(more)).chain(["--", "-it's.mkv"]).collect::<Vec<_>>()
    };
    let run = encode(&sandbox, "clip.mp4", "latents.safetensors");
    assert!(run.status == Some(0) && !run.stderr.contains("read by"), "{run:#?}");
    let expected = latents(&sandbox, "latents.safetensors");
    std::fs::remove_file(sandbox.path("latents.safetensors")).expect("latents");
    let run = sandbox.kinora(&arguments(""));
    assert_eq!(run.status, Some(0), "{run:#?}");
    assert_eq!(run.stderr.matches("`-it's.mkv`: read by ").count(), 1, "{run:#?}");
    assert!(relative_l2(&latents(&sandbox, "latents.safetensors"), &expected) <= 0.0);
    if run.stderr.contains("libraries") {
        return; // of this build
    }
    // Programs in the current folder are passed over.
    for name in ["ffmpeg", "ffprobe"] {
        std::fs::copy(kinora_tests::root().join("tests/fixtures/media/stub").join(name), sandbox.path(name))
            .expect("a copy");
    }
    let turned_off = sandbox.kinora(&arguments("--no-ffmpeg"));
    let mut nowhere = std::process::Command::new(kinora_tests::binary());
    nowhere.args(arguments("")).current_dir(sandbox.path(".")).env("PATH", ".::/nowhere").env("KINORA_CUDA_BINARY", "");
    let nowhere = Run::of(&nowhere.output().expect("it runs"));
    for run in [turned_off, nowhere] {
        let failure = run.failure();
        assert!(failure.contains("it is Matroska (MKV or WebM), not MP4"), "{failure}");
        assert!(failure.contains(r"ffmpeg -i './-it'\''s.mkv' -vf"), "{failure}");
    }
}

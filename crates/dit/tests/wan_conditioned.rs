//! The conditioned Wan transformers against diffusers: one call of each kind, for two clips.
#![allow(clippy::print_stdout, reason = "the measured numbers are worth seeing")]

mod support;

use candle_core::{DType, Device, Tensor};
use kinora_dit::wan::{WanConfig, WanModel};
use kinora_dit::{ComputeAll, Conditioning, Control, Reuse, VideoDit};
use kinora_test_support::{fixture, relative_l2, tensors};
use std::collections::BTreeMap;
use support::model;

const KEEP_ALL: usize = usize::MAX;
const F32_TOLERANCE: f64 = 1e-5;
const BF16_TOLERANCE: f64 = 2e-2;
/// Rows that diffusers pads its contexts to.
const TEXT_ROWS: usize = 512;

type Golden = BTreeMap<String, Tensor>;

fn golden(case: &str) -> Golden {
    tensors(&fixture("conditioned").join(case).join("golden.safetensors"))
}

/// The conditioning inputs of a golden file, except a camera; the scale of control is 1.
fn conditioning(golden: &Golden) -> Conditioning {
    let text = &golden["context"];
    let context = text.pad_with_zeros(1, 0, TEXT_ROWS - text.dim(1).unwrap()).unwrap();
    Conditioning {
        image: golden.get("image").cloned(),
        latents: golden.get("latents").cloned(),
        control: golden.get("control").map(|latents| Control { latents: latents.clone(), scale: 1.0 }),
        ..Conditioning::new(context)
    }
}

fn predict(model: &WanModel, golden: &Golden, conditioning: &Conditioning, cache_bytes: usize) -> Tensor {
    let prepared = model.prepare(conditioning, cache_bytes).unwrap();
    model.forward(&golden["in"], &golden["timestep"], &prepared).unwrap()
}

/// Against `expected` in both dtypes, and with and without keys and values that are kept.
fn check(case: &str, golden: &Golden, conditioning: &Conditioning, expected: &str) {
    for (dtype, tolerance) in [(DType::F32, F32_TOLERANCE), (DType::BF16, BF16_TOLERANCE)] {
        let model = model("conditioned", case, dtype);
        assert_eq!(model.config().out_channels, model.out_channels());
        for cache_bytes in [0, KEEP_ALL] {
            let out = predict(&model, golden, conditioning, cache_bytes);
            assert_eq!(out.dtype(), dtype);
            let error = relative_l2(&out, &golden[expected]);
            println!("{case} {expected} {dtype:?}: {error:.2e}");
            assert!(error > 0.0 && error <= tolerance, "{case} {expected} {dtype:?}: {error}");
        }
    }
}

#[test]
fn pictures_and_appended_latents() {
    for case in ["i2v", "flf2v", "a14b_i2v"] {
        let golden = golden(case);
        check(case, &golden, &conditioning(&golden), "out");
    }
}

#[test]
fn control_blocks() {
    let golden = golden("vace");
    let mut conditioning = conditioning(&golden);
    for scale in [1.0, 0.6] {
        conditioning.control.as_mut().unwrap().scale = scale;
        check("vace", &golden, &conditioning, &format!("out.{scale:?}"));
    }
}

/// The numbers of `scripts/fixtures/wan_conditioned.py`.
fn rays([b, c, f, h, w]: [usize; 5]) -> Tensor {
    let mut values = Vec::with_capacity(b * c * f * h * w);
    for index in 0..b * c * f * h * w {
        let (x, y) = (index % w, index / w % h);
        let (f, c, b) = (index / (w * h) % f, index / (w * h * f) % c, index / (w * h * f * c));
        values.push((((11 * b + 31 * c + 17 * f + 13 * y + 29 * x + 3 * x * y) % 65) as f32 - 32.0) / 32.0);
    }
    Tensor::from_vec(values, vec![b, c, f, h, w], &Device::Cpu).unwrap()
}

fn following_a_camera(golden: &Golden) -> Conditioning {
    let (b, _, f, h, w) = golden["in"].dims5().unwrap();
    Conditioning { camera: Some(rays([b, 24, f, 8 * h, 8 * w])), ..conditioning(golden) }
}

#[test]
fn a_camera_with_and_without_a_picture() {
    let golden = golden("camera");
    let with_picture = following_a_camera(&golden);
    check("camera", &golden, &with_picture, "out");
    check("camera", &golden, &Conditioning { image: None, ..with_picture }, "out.no_image");
}

#[test]
fn a_clip_in_a_batch_is_the_clip_alone() {
    for case in ["i2v", "flf2v", "a14b_i2v", "vace", "camera"] {
        let golden = golden(case);
        let both = if case == "camera" { following_a_camera(&golden) } else { conditioning(&golden) };
        let expected = if case == "vace" { "out.1.0" } else { "out" };
        let model = model("conditioned", case, DType::F32);
        for clip in 0..2 {
            let one = |tensor: &Tensor| tensor.narrow(0, clip, 1).unwrap();
            let conditioning = Conditioning {
                context: one(&both.context),
                image: both.image.as_ref().map(one),
                latents: both.latents.as_ref().map(one),
                control: both.control.as_ref().map(|control| Control { latents: one(&control.latents), ..*control }),
                camera: both.camera.as_ref().map(one),
            };
            let prepared = model.prepare(&conditioning, KEEP_ALL).unwrap();
            let out = model.forward(&one(&golden["in"]), &one(&golden["timestep"]), &prepared).unwrap();
            let error = relative_l2(&out, &one(&golden[expected]));
            assert!(error <= F32_TOLERANCE, "{case} clip {clip}: {error}");
        }
    }
}

#[test]
fn the_kv_cache_holds_keys_and_values_of_all_blocks_or_none() {
    let bytes = |rows: usize, blocks: usize, dim: usize| 2 * blocks * 2 * rows * dim * 4; // keys and values, 2 clips, f32
    // 5 rows of text and one of padding; 5 of a picture in 2 blocks; 3 main blocks and 2 that control.
    for (case, all) in [("i2v", bytes(6 + 5, 2, 28)), ("vace", bytes(6, 3 + 2, 20))] {
        let golden = golden(case);
        let model = model("conditioned", case, DType::F32);
        let held = |cache_bytes| model.prepare(&conditioning(&golden), cache_bytes).unwrap().cached_blocks();
        assert_eq!((held(all - 1), held(all)), (0, if case == "vace" { 5 } else { 2 }), "{case}");
    }
}

#[test]
fn memory_counts_the_conditioning_inputs() {
    let config = |case| model("conditioned", case, DType::F32).config().clone();
    // 6 rows of text, 10 of pictures; 2 blocks. 20 appended channels, of 4 values per token.
    let rows = (6 + 10) * 28 * 4;
    let flf2v = config("flf2v");
    assert_eq!(flf2v.prepared_bytes(6, DType::F32, KEEP_ALL), rows + 2 * 2 * rows);
    assert_eq!(flf2v.prepared_bytes(6, DType::F32, 2 * 2 * rows - 1), 3 * rows);
    assert_eq!(flf2v.conditioning_bytes(18, DType::F32), 18 * 20 * 4 * 4);
    let (vace, camera) = (config("vace"), config("camera"));
    assert_eq!(vace.prepared_bytes(6, DType::BF16, KEEP_ALL), (1 + 2 * 5) * 6 * 20 * 2);
    assert_eq!(vace.conditioning_bytes(18, DType::BF16), 18 * 20 * 2);
    assert_eq!(camera.conditioning_bytes(18, DType::F32), 18 * (16 * 4 + 8) * 4);
    let plain = WanConfig { vace_layers: Vec::new(), vace_in_channels: None, ..vace.clone() };
    assert_eq!(vace.working_bytes(18, DType::F32), plain.working_bytes(18, DType::F32) + 18 * 2 * 20 * 4);
}

/// A step cache that takes the tokens after the first block for those after the last.
struct StopEarly;

impl Reuse for StopEarly {
    fn before_blocks(&mut self, _: &Tensor, _: &Tensor) -> kinora_dit::Result<Option<Tensor>> {
        Ok(None)
    }

    fn after_first_block(&mut self, before: &Tensor, after: &Tensor) -> kinora_dit::Result<Option<Tensor>> {
        assert_ne!(before.flatten_all()?.to_vec1::<f32>()?, after.flatten_all()?.to_vec1::<f32>()?);
        Ok(Some(after.clone()))
    }

    fn after_last_block(&mut self, _: &Tensor) -> kinora_dit::Result<()> {
        unreachable!("the pass has ended before")
    }
}

/// The first block's result includes the first hint, so that a step cache compares and keeps it, too.
#[test]
fn step_caches_see_hints() {
    let golden = golden("vace");
    let model = model("conditioned", "vace", DType::F32);
    let out = |scale, reuse: &mut dyn Reuse| {
        let mut conditioning = conditioning(&golden);
        conditioning.control.as_mut().unwrap().scale = scale;
        let prepared = model.prepare(&conditioning, KEEP_ALL).unwrap();
        model.forward_with(&golden["in"], &golden["timestep"], &prepared, None, reuse).unwrap()
    };
    assert!(relative_l2(&out(1.0, &mut StopEarly), &out(0.0, &mut StopEarly)) > 1e-2);
    assert!(relative_l2(&out(1.0, &mut StopEarly), &out(1.0, &mut ComputeAll)) > 1e-2);
}

#[test]
fn missing_and_useless_inputs_are_named() {
    let error = |case: &str, conditioning: Conditioning| {
        model("conditioned", case, DType::F32).prepare(&conditioning, 0).unwrap_err().to_string()
    };
    let (i2v, vace, camera) = (golden("i2v"), golden("vace"), golden("camera"));
    let (all, controlled, filmed) = (conditioning(&i2v), conditioning(&vace), following_a_camera(&camera));
    for (case, conditioning, what) in [
        ("i2v", Conditioning { image: None, ..all.clone() }, "image hidden states"),
        ("i2v", Conditioning { latents: None, ..all.clone() }, "conditioning latents"),
        ("vace", Conditioning { control: None, ..controlled.clone() }, "control latents"),
        ("camera", Conditioning { camera: None, ..filmed.clone() }, "camera rays"),
    ] {
        assert_eq!(error(case, conditioning), format!("the transformer needs {what}, but there are none"));
    }
    for (case, conditioning, what) in [
        ("a14b_i2v", all.clone(), "image hidden states"),
        ("i2v", Conditioning { control: controlled.control.clone(), ..all.clone() }, "control latents"),
        ("i2v", Conditioning { camera: filmed.camera.clone(), ..all.clone() }, "camera rays"),
        ("vace", Conditioning { latents: all.latents.clone(), ..controlled.clone() }, "conditioning latents"),
    ] {
        assert_eq!(error(case, conditioning), format!("the transformer takes no {what}"));
    }
}

#[test]
fn wrong_shapes_are_errors_that_say_so() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let error = |case: &str, conditioning: Conditioning| {
        model("conditioned", case, DType::F32).prepare(&conditioning, 0).unwrap_err().to_string()
    };
    let (i2v, flf2v, camera) = (conditioning(&golden("i2v")), conditioning(&golden("flf2v")), golden("camera"));
    let sizes = "F, H, W multiples of 1, 2, 2 and at most 1024 tokens along each";
    for shape in [&[2, 5, 15][..], &[1, 5, 14], &[2, 0, 14], &[2, 14]] {
        let message = error("i2v", Conditioning { image: Some(zeros(shape)), ..i2v.clone() });
        assert_eq!(message, format!("image hidden states: shape {shape:?}, expected [2, T, 14]"));
    }
    let message = error("flf2v", Conditioning { image: Some(zeros(&[2, 5, 14])), ..flf2v });
    assert_eq!(message, "image hidden states: shape [2, 5, 14], expected [2, 10, 14]");
    for shape in [[2, 16, 3, 4, 6], [1, 20, 3, 4, 6], [2, 20, 3, 4, 5], [2, 20, 0, 4, 6]] {
        let message = error("i2v", Conditioning { latents: Some(zeros(&shape)), ..i2v.clone() });
        let expected = format!("[2, 20, F, H, W] with {sizes}");
        assert_eq!(message, format!("conditioning latents: shape {shape:?}, expected {expected}"));
    }
    for shape in [[2, 24, 3, 4, 6], [2, 24, 2, 32, 48], [2, 24, 3, 32, 44]] {
        let message = error("camera", Conditioning { camera: Some(zeros(&shape)), ..conditioning(&camera) });
        let expected = "[2, 24, 3, 32, 48] like the other conditioning inputs";
        assert_eq!(message, format!("camera rays: shape {shape:?}, expected {expected}"));
    }
    let model = model("conditioned", "i2v", DType::F32);
    let prepared = model.prepare(&i2v, 0).unwrap();
    for (latents, expected) in [
        ([2, 36, 3, 4, 6], format!("[B, 16, F, H, W] with {sizes}")),
        ([2, 16, 3, 6, 4], "[2, 16, 3, 4, 6] like the conditioning inputs".to_string()),
    ] {
        let message = model.forward(&zeros(&latents), &zeros(&[2]), &prepared).unwrap_err().to_string();
        assert_eq!(message, format!("latents: shape {latents:?}, expected {expected}"));
    }
}

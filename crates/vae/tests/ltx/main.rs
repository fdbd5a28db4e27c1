//! The LTX-2.x autoencoders and latent upsamplers against diffusers. `scripts/fixtures/ltx_vae.py` made the numbers.

mod layouts;

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_test_support::{fixture, relative_l2, same_bits, tensors};
use kinora_vae::ltx::{
    Config, LatentUpsampler, LtxVae, UpsamplerConfig, Upsampling, canonical_from_combined, canonical_from_diffusers,
    original, upsampler_names,
};
use kinora_vae::{Error, Parts, Tile, VideoVae};
use std::collections::BTreeMap;

const KINDS: [&str; 2] = ["2.0", "2.3"];
const UPSAMPLERS: [&str; 3] = ["spatial", "rational", "temporal"];

/// Relative L2 of a forward in f32; two correct f32 implementations differ by about 1e-6.
const F32: f64 = 1e-5;

#[test]
fn decodes_like_diffusers() {
    for kind in KINDS {
        let (vae, golden) = (vae(kind, DType::F32), golden(kind));
        for case in ["decode", "decode_frame"] {
            let video = vae.decode(&golden[&format!("{case}.latents")]).unwrap();
            assert_close(&sampled(&video), &golden[&format!("{case}.sampled")], F32, &format!("{kind} {case}"));
        }
    }
}

#[test]
fn encodes_like_diffusers() {
    for kind in KINDS {
        let (vae, golden) = (vae(kind, DType::F32), golden(kind));
        for case in ["encode", "encode_frame"] {
            let latents = vae.encode(&video(&golden, case)).unwrap();
            assert_close(&latents, &golden[&format!("{case}.latents")], F32, &format!("{kind} {case}"));
        }
    }
}

#[test]
fn is_about_as_exact_as_diffusers_in_bf16() {
    for kind in KINDS {
        let (vae, golden) = (vae(kind, DType::BF16), golden(kind));
        // Both round as often, each its own sums, so that neither is always the closer one to f32.
        let bf16_error = |case: &str| 2.0 * f64::from(golden[&format!("{case}.bf16")].to_scalar::<f32>().unwrap());
        let decoded = vae.decode(&golden["decode.latents"]).unwrap();
        assert_eq!(decoded.dtype(), DType::F32);
        assert_close(&sampled(&decoded), &golden["decode.sampled"], bf16_error("decode"), kind);
        let encoded = vae.encode(&video(&golden, "encode")).unwrap();
        assert_close(&encoded, &golden["encode.latents"], bf16_error("encode"), kind);
    }
}

#[test]
fn clips_of_every_length_have_all_their_frames() {
    for kind in KINDS {
        let vae = vae(kind, DType::F32);
        for frames in 1..=4 {
            let latents = Tensor::randn(0f32, 1f32, (1, 4, frames, 2, 2), &Device::Cpu).unwrap();
            assert_eq!(vae.decode(&latents).unwrap().dims(), [1, 3, 8 * (frames - 1) + 1, 64, 64], "{kind}");
        }
    }
}

#[test]
fn a_long_clip_comes_a_few_frames_at_a_time_and_streams_do_not_disturb_each_other() {
    for kind in KINDS {
        let vae = vae(kind, DType::F32);
        let count = 24;
        let latents = Tensor::randn(0f32, 1f32, (1, 4, count, 2, 2), &Device::Cpu).unwrap();
        let (mut one, mut other) = (vae.decoder().unwrap(), vae.decoder().unwrap());
        let (mut pixels, mut pushed) = (Vec::new(), Vec::new());
        for frame in 0..count {
            let latent = latents.narrow(2, frame, 1).unwrap();
            other.push(&latent.neg().unwrap()).unwrap();
            let some = one.push(&latent).unwrap();
            pushed.push(some.as_ref().map_or(0, |pixels| pixels.dim(2).unwrap()));
            pixels.extend(some);
        }
        // Nothing for some time, then as many frames for each latent frame.
        let first = pushed.iter().position(|&frames| frames > 0).expect("pixels before the end");
        assert!(first > 5, "{kind}: {pushed:?}");
        assert!(pushed[first + 1..].iter().all(|&frames| frames == 8), "{kind}: {pushed:?}");
        let mut drained = Vec::new();
        while let Some(some) = one.drain().unwrap() {
            drained.push(some.dim(2).unwrap());
            pixels.push(some);
        }
        assert!(drained.iter().all(|&frames| frames <= 8), "{kind}: {drained:?}");
        assert!(one.drain().unwrap().is_none());
        let pixels = Tensor::cat(&pixels, 2).unwrap();
        assert_eq!(pixels.dim(2).unwrap(), 8 * (count - 1) + 1);
        assert!(same_bits(&pixels, &vae.decode(&latents).unwrap()), "{kind}");
    }
}

#[test]
fn finish_returns_what_drain_does() {
    for kind in KINDS {
        let (vae, golden) = (vae(kind, DType::F32), golden(kind));
        let latents = &golden["decode.latents"];
        let mut decoder = vae.decoder().unwrap();
        for frame in 0..latents.dim(2).unwrap() {
            assert!(decoder.push(&latents.narrow(2, frame, 1).unwrap()).unwrap().is_none(), "{kind}");
        }
        let rest = decoder.finish().unwrap().unwrap();
        assert!(same_bits(&rest, &vae.decode(latents).unwrap()), "{kind}");
        assert!(vae.decoder().unwrap().finish().unwrap().is_none());
    }
}

#[test]
fn far_frames_do_not_matter() {
    // A decoder that looked further than its layers do would see the difference.
    for kind in KINDS {
        let vae = vae(kind, DType::F32);
        let latents = Tensor::randn(0f32, 1f32, (1, 4, 24, 2, 2), &Device::Cpu).unwrap();
        let other = Tensor::cat(&[latents.narrow(2, 0, 23).unwrap(), latents.narrow(2, 0, 1).unwrap()], 2).unwrap();
        let first = |latents: &Tensor| vae.decode(latents).unwrap().narrow(2, 0, 8).unwrap();
        assert!(same_bits(&first(&latents), &first(&other)), "{kind}");
    }
}

#[test]
fn a_prefix_of_a_clip_is_encoded_like_the_clip() {
    for kind in KINDS {
        let (vae, golden) = (vae(kind, DType::F32), golden(kind));
        for frames in [1, 9] {
            let expected = golden["encode.latents"].narrow(2, 0, vae.latent_format().latent_frames(frames)).unwrap();
            let found = vae.encode(&video(&golden, "encode").narrow(2, 0, frames).unwrap()).unwrap();
            assert_close(&found, &expected, F32, kind);
        }
    }
}

#[test]
fn tiles_are_what_the_whole_frame_has_there() {
    for kind in KINDS {
        let vae = vae(kind, DType::F32);
        // Odd sizes, tiles that do not divide them, and some with no edge of the frame in their halo.
        for (batch, frames, h, w, side) in [(1, 2, 9, 11, 4), (2, 2, 5, 7, 3), (1, 1, 2, 40, 3), (1, 1, 40, 2, 7)] {
            let latents = Tensor::randn(0f32, 1f32, (batch, 4, frames, h, w), &Device::Cpu).unwrap();
            let whole = vae.decode(&latents).unwrap();
            let psnr = psnr(&in_tiles(&vae, &latents, side), &whole);
            assert!(psnr >= 110.0, "{kind} {h}×{w} in tiles of {side}: {psnr:.1} dB");
        }
    }
}

#[test]
fn a_tile_outside_of_the_frame_is_an_error() {
    let vae = vae("2.3", DType::F32);
    let latents = Tensor::zeros((1, 4, 1, 3, 4), DType::F32, &Device::Cpu).unwrap();
    for (tile, fits) in [([0..3, 0..4], true), ([0..4, 0..4], false), ([1..1, 0..4], false), ([0..3, 3..5], false)] {
        let [rows, columns] = tile;
        let pushed = vae.tile_decoder(&Tile { rows, columns }).unwrap().push(&latents);
        assert_eq!(pushed.is_ok(), fits, "{:?}", pushed.err());
    }
}

#[test]
fn wrong_inputs_are_errors_with_the_values() {
    let vae = vae("2.0", DType::F32);
    let zeros = |shape: [usize; 5]| Tensor::zeros(&shape, DType::F32, &Device::Cpu).unwrap();
    let message = |result: Result<Tensor, Error>| result.unwrap_err().to_string();
    assert_eq!(
        message(vae.decode(&zeros([1, 16, 2, 3, 3]))),
        "the latents have shape [1, 16, 1, 3, 3], the VAE needs [B, 4, 1, h, w] with h and w of 2 or more"
    );
    assert_eq!(
        message(vae.decode(&zeros([1, 4, 2, 1, 3]))),
        "the latents have shape [1, 4, 1, 1, 3], the VAE needs [B, 4, 1, h, w] with h and w of 2 or more"
    );
    assert_eq!(
        message(vae.encode(&zeros([1, 3, 4, 32, 32]))),
        "the frames have shape [1, 3, 4, 32, 32], the VAE needs a multiple of 8 frames, plus one"
    );
    assert_eq!(
        message(vae.encode(&zeros([1, 3, 1, 32, 40]))),
        "the frames have shape [1, 3, 1, 32, 40], the VAE needs [B, 3, 1, a multiple of 32, a multiple of 32]"
    );
    for empty in [[1, 4, 0, 3, 3], [0, 4, 1, 3, 3], [1, 4, 1, 0, 3]] {
        vae.decode(&zeros(empty)).unwrap_err();
    }
    for empty in [[1, 3, 0, 32, 32], [0, 3, 1, 32, 32], [1, 3, 1, 0, 32]] {
        vae.encode(&zeros(empty)).unwrap_err();
    }
    let mut decoder = vae.decoder().unwrap();
    decoder.push(&zeros([1, 4, 1, 2, 2])).unwrap();
    let error = decoder.push(&zeros([1, 4, 1, 2, 3])).unwrap_err().to_string();
    assert_eq!(error, "the latents have shape [1, 4, 1, 2, 3], the VAE needs [1, 4, 1, 2, 2], as before");
    let upsampler = LatentUpsampler::new(&upsampler_config("spatial"), &upsampler_weights("spatial")).unwrap();
    assert_eq!(
        message(upsampler.forward(&zeros([1, 5, 1, 2, 2]))),
        "the latents have shape [1, 5, 1, 2, 2], the VAE needs [B, 4, F, h, w]"
    );
}

#[test]
fn upsamplers_enlarge_like_diffusers() {
    for name in UPSAMPLERS {
        let weights = upsampler_weights(name);
        let upsampler = LatentUpsampler::new(&upsampler_config(name), &weights).unwrap();
        weights.finish().unwrap();
        let golden = tensors(&fixture("ltx_vae").join(name).join("golden.safetensors"));
        let upsampled = upsampler.forward(&golden["latents"]).unwrap();
        assert_close(&upsampled, &golden["upsampled"], F32, name);
        // The same for latents as a diffusion model sees them.
        let vae = vae("2.3", DType::F32);
        let format = vae.latent_format();
        let normalised = upsampler.upsample(format, &format.normalise(&golden["latents"]).unwrap()).unwrap();
        assert_close(&format.denormalise(&normalised).unwrap(), &golden["upsampled"], F32, name);
    }
}

#[test]
fn a_temporal_upsampler_keeps_the_first_frame_single() {
    let config = upsampler_config("temporal");
    assert_eq!(config.upsampling, Upsampling::Temporal);
    let upsampler = LatentUpsampler::new(&config, &upsampler_weights("temporal")).unwrap();
    for frames in 1..4 {
        let latents = Tensor::randn(0f32, 1f32, (2, 4, frames, 3, 2), &Device::Cpu).unwrap();
        assert_eq!(upsampler.forward(&latents).unwrap().dims(), [2, 4, 2 * frames - 1, 3, 2]);
    }
}

/// Decodes tile after tile, each over all frames.
fn in_tiles(vae: &LtxVae, latents: &Tensor, side: usize) -> Tensor {
    let (_, _, frames, h, w) = latents.dims5().unwrap();
    let decoded = Tile::grid(h, w, side).into_iter().map(|tile| {
        let mut decoder = vae.tile_decoder(&tile).unwrap();
        let mut pushed = Vec::new();
        for at in 0..frames {
            pushed.extend(decoder.push(&latents.narrow(2, at, 1).unwrap()).unwrap());
        }
        pushed.extend(decoder.finish().unwrap());
        Tensor::cat(&pushed, 2).unwrap()
    });
    let decoded: Vec<_> = decoded.collect();
    let rows = decoded.chunks(w.div_ceil(side)).map(|row| Tensor::cat(row, 4).unwrap());
    Tensor::cat(&rows.collect::<Vec<_>>(), 3).unwrap()
}

/// Returns the PSNR of pixels in -1..1, in dB; infinite if all are equal.
fn psnr(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let error = (found - expected).unwrap().sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
    10.0 * (4.0 / f64::from(error)).log10()
}

/// Every fifth row and column.
fn sampled(video: &Tensor) -> Tensor {
    let every_fifth = |x: &Tensor, axis: usize| {
        let places: Vec<u32> = (0..x.dim(axis).unwrap() as u32).step_by(5).collect();
        x.index_select(&Tensor::new(places, &Device::Cpu).unwrap(), axis).unwrap()
    };
    every_fifth(&every_fifth(video, 3), 4)
}

/// The pixels of a case, -1..1.
fn video(golden: &BTreeMap<String, Tensor>, case: &str) -> Tensor {
    golden[&format!("{case}.video")].affine(1.0 / 128.0, -1.0).unwrap()
}

fn config(kind: &str) -> Config {
    let text = std::fs::read_to_string(fixture("ltx_vae").join(kind).join("config.json")).unwrap();
    Config::from_json(&text).unwrap()
}

fn weights(kind: &str, config: &Config, dtype: DType) -> Weights {
    let files = [fixture("ltx_vae").join(kind).join("diffusion_pytorch_model.safetensors")];
    let maps = [canonical_from_diffusers(config), canonical_from_combined(), original()];
    Weights::open(&files, &maps.each_ref(), &Device::Cpu, dtype).unwrap()
}

fn vae(kind: &str, dtype: DType) -> LtxVae {
    let config = config(kind);
    let weights = weights(kind, &config, dtype);
    let vae = LtxVae::new(&config, &weights, Parts::Both).unwrap();
    weights.finish().unwrap();
    vae
}

fn golden(kind: &str) -> BTreeMap<String, Tensor> {
    let tensors = tensors(&fixture("ltx_vae").join(kind).join("golden.safetensors"));
    tensors.into_iter().map(|(name, tensor)| (name, tensor.to_dtype(DType::F32).unwrap())).collect()
}

fn upsampler_config(name: &str) -> UpsamplerConfig {
    let text = std::fs::read_to_string(fixture("ltx_vae").join(name).join("config.json")).unwrap();
    UpsamplerConfig::from_json(&text).unwrap()
}

fn upsampler_weights(name: &str) -> Weights {
    let files = [fixture("ltx_vae").join(name).join("diffusion_pytorch_model.safetensors")];
    Weights::open(&files, &[&upsampler_names()], &Device::Cpu, DType::F32).unwrap()
}

fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    let error = relative_l2(found, expected);
    assert!(error <= tolerance, "{what}: relative L2 error {error:.2e}, may be {tolerance:.1e}");
}

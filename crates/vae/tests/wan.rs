//! The Wan autoencoders against diffusers. `scripts/fixtures/vae.py` made the numbers.

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{KeyMap, Weights};
use kinora_test_support::{fixture, relative_l2, tensors};
use kinora_vae::wan::{Config, WanVae, canonical_from_diffusers};
use kinora_vae::{Error, Parts, Tile, VideoVae};
use std::collections::BTreeMap;

const KINDS: [&str; 3] = ["wan21", "wan22", "embedded"];

/// Relative L2 of a forward in f32; two correct f32 implementations differ by about 1e-6.
const F32: f64 = 1e-5;

#[test]
fn decodes_like_diffusers() {
    each_case("decode", |vae, latents, video, what| assert_close(&vae.decode(latents).unwrap(), video, F32, what));
}

#[test]
fn encodes_like_diffusers() {
    each_case("encode", |vae, latents, video, what| assert_close(&vae.encode(video).unwrap(), latents, F32, what));
}

#[test]
fn streams_give_frames_as_they_come_and_do_not_disturb_each_other() {
    for kind in KINDS {
        let (vae, golden) = (vae(kind, DType::F32), golden(kind));
        let latents = &golden["decode.latents"];
        let (mut one, mut other) = (vae.decoder().unwrap(), vae.decoder().unwrap());
        let mut pixels = Vec::new();
        for frame in 0..latents.dim(2).unwrap() {
            let latent = latents.narrow(2, frame, 1).unwrap();
            other.push(&latent.neg().unwrap()).unwrap();
            pixels.push(one.push(&latent).unwrap().unwrap());
            assert_eq!(pixels[frame].dim(2).unwrap(), if frame == 0 { 1 } else { 4 });
        }
        assert!(one.finish().unwrap().is_none(), "a causal decoder keeps nothing back");
        assert_close(&Tensor::cat(&pixels, 2).unwrap(), &golden["decode.video"], F32, kind);
    }
}

#[test]
fn a_prefix_of_a_clip_is_coded_like_the_clip() {
    for kind in KINDS {
        let (vae, golden) = (vae(kind, DType::F32), golden(kind));
        let (video, latents) = (&golden["encode.video"], &golden["encode.latents"]);
        for frames in [1, 5] {
            let count = vae.latent_format().latent_frames(frames);
            let expected = latents.narrow(2, 0, count).unwrap();
            assert_close(&vae.encode(&video.narrow(2, 0, frames).unwrap()).unwrap(), &expected, F32, kind);
        }
    }
}

#[test]
fn tiles_are_what_the_whole_frame_has_there() {
    for kind in KINDS {
        let vae = vae(kind, DType::F32);
        let channels = vae.latent_format().channels;
        // Odd sizes, tiles that do not divide them, and some with no edge of the frame in their halo.
        for (batch, frames, h, w, side) in [(1, 3, 9, 11, 4), (2, 2, 5, 7, 3), (1, 2, 1, 40, 3), (1, 1, 40, 2, 7)] {
            let latents = Tensor::randn(0f32, 1f32, (batch, channels, frames, h, w), &Device::Cpu).unwrap();
            let whole = vae.decode(&latents).unwrap();
            let psnr = psnr(&in_tiles(&vae, &latents, side), &whole);
            assert!(psnr >= 110.0, "{kind} {h}×{w} in tiles of {side}: {psnr:.1} dB");
        }
    }
}

#[test]
fn a_tile_outside_of_the_frame_is_an_error() {
    let vae = vae("wan21", DType::F32);
    let latents = Tensor::zeros((1, 5, 1, 3, 4), DType::F32, &Device::Cpu).unwrap();
    for (tile, fits) in [([0..3, 0..4], true), ([0..4, 0..4], false), ([1..1, 0..4], false), ([0..3, 3..5], false)] {
        let [rows, columns] = tile;
        let pushed = vae.tile_decoder(&Tile { rows, columns }).unwrap().push(&latents);
        assert_eq!(pushed.is_ok(), fits, "{:?}", pushed.err());
    }
}

#[test]
fn a_single_frame_becomes_one_latent_frame() {
    for kind in KINDS {
        let (vae, golden) = (vae(kind, DType::F32), golden(kind));
        let video = golden["encode.video"].narrow(2, 0, 1).unwrap();
        let latents = vae.encode(&video).unwrap();
        assert_eq!(latents.dim(2).unwrap(), 1);
        assert_close(&latents, &golden["encode.latents"].narrow(2, 0, 1).unwrap(), F32, kind);
    }
}

#[test]
fn is_at_least_as_exact_as_diffusers_in_bf16() {
    for kind in KINDS {
        let (vae, golden) = (vae(kind, DType::BF16), golden(kind));
        let bf16_error = |case: &str| f64::from(golden[&format!("{case}.bf16")].to_scalar::<f32>().unwrap());
        let video = vae.decode(&golden["decode.latents"]).unwrap();
        assert_eq!(video.dtype(), DType::F32);
        assert_close(&video, &golden["decode.video"], bf16_error("decode"), kind);
        let latents = vae.encode(&golden["encode.video"]).unwrap();
        assert_close(&latents, &golden["encode.latents"], bf16_error("encode"), kind);
    }
}

#[test]
fn real_configurations_ask_for_the_official_names_and_shapes() {
    for (config, list) in [(Config::wan21(), "wan21_vae.txt"), (Config::wan22(), "wan22_vae.txt")] {
        let recorder = Weights::recorder();
        WanVae::new(&config, &recorder, Parts::Both).unwrap();
        let expected: BTreeMap<String, Vec<usize>> =
            key_list(list).into_iter().map(|[name, shape, _]| (name, serde_json::from_str(&shape).unwrap())).collect();
        assert_eq!(recorder.asked(), expected, "{list}");
    }
}

#[test]
fn names_of_diffusers_lead_to_the_official_ones() {
    for (config, list) in [(Config::wan21(), "wan21_vae.txt"), (Config::wan22(), "wan22_vae.txt")] {
        let expected: BTreeMap<String, String> =
            key_list(list).into_iter().map(|[name, _, diffusers]| (name, diffusers)).collect();
        let names = expected.values().map(String::as_str);
        assert_eq!(canonical_from_diffusers(&config).canonical_names(names).unwrap(), expected, "{list}");
    }
}

#[test]
fn latent_formats_are_the_released_ones() {
    let (wan21, wan22) = (Config::wan21().latent_format(), Config::wan22().latent_format());
    assert_eq!((wan21.channels, wan21.temporal_factor, wan21.spatial_factor), (16, 4, 8));
    assert_eq!((wan22.channels, wan22.temporal_factor, wan22.spatial_factor), (48, 4, 16));
    assert_eq!([0, 1, 4, 5, 81].map(|frames| wan21.latent_frames(frames)), [0, 1, 1, 2, 21]);
    assert_eq!([0, 1, 2, 21].map(|frames| wan21.pixel_frames(frames)), [0, 1, 5, 81]);
}

#[test]
fn wrong_inputs_are_errors_with_the_values() {
    let vae = vae("wan22", DType::F32);
    let zeros = |shape: [usize; 5]| Tensor::zeros(&shape, DType::F32, &Device::Cpu).unwrap();
    let message = |result: Result<Tensor, Error>| result.unwrap_err().to_string();
    assert_eq!(
        message(vae.decode(&zeros([1, 16, 2, 3, 3]))),
        "the latents have shape [1, 16, 1, 3, 3], the VAE needs [B, 7, 1, h, w]"
    );
    assert_eq!(
        message(vae.encode(&zeros([1, 3, 4, 32, 32]))),
        "the frames have shape [1, 3, 4, 32, 32], the VAE needs a multiple of 4 frames, plus one"
    );
    assert_eq!(
        message(vae.encode(&zeros([1, 3, 1, 32, 40]))),
        "the frames have shape [1, 3, 1, 32, 40], the VAE needs [B, 3, 1, a multiple of 16, a multiple of 16]"
    );
    for empty in [[1, 7, 0, 3, 3], [0, 7, 1, 3, 3], [1, 7, 1, 0, 3]] {
        vae.decode(&zeros(empty)).unwrap_err();
    }
    for empty in [[1, 3, 0, 32, 32], [0, 3, 1, 32, 32], [1, 3, 1, 0, 32]] {
        vae.encode(&zeros(empty)).unwrap_err();
    }
    let mut decoder = vae.decoder().unwrap();
    decoder.push(&zeros([1, 7, 1, 2, 2])).unwrap();
    decoder.push(&zeros([1, 7, 1, 2, 3])).unwrap_err();
}

#[test]
fn a_half_is_loaded_alone() {
    let asked = |parts| {
        let recorder = Weights::recorder();
        let vae = WanVae::new(&Config::wan21(), &recorder, parts).unwrap();
        (vae, recorder.asked())
    };
    let (decoding, of_decoder) = asked(Parts::Decoder);
    let (encoding, of_encoder) = asked(Parts::Encoder);
    assert_eq!(decoding.encoder().err().unwrap().to_string(), "the VAE was loaded without its encoder");
    assert_eq!(encoding.decoder().err().unwrap().to_string(), "the VAE was loaded without its decoder");
    let both: BTreeMap<_, _> = of_decoder.into_iter().chain(of_encoder).collect();
    assert_eq!(both, asked(Parts::Both).1);
}

#[test]
fn wrong_configurations_are_errors_that_name_the_field() {
    for (text, expected) in [
        (r#"{"z_dim": 0}"#, "the VAE's `z_dim` is 0, must be 1 to 4096"),
        (r#"{"base_dim": 99999999999999}"#, "the VAE's `base_dim` is 99999999999999, must be 1 to 65536"),
        (r#"{"dim_mult": []}"#, "the VAE's `dim_mult` has 0 entries, must have 1 to 8"),
        (r#"{"dim_mult": [1, 2]}"#, "the VAE's `temperal_downsample` has 3 entries for 2 of `dim_mult`"),
        (r#"{"patch_size": 2}"#, "the VAE's `in_channels` is 3, must be 12"),
        (
            r#"{"base_dim": 9, "dim_mult": [1, 1, 1, 1]}"#,
            "the VAE's `dim_mult` gives a decoder stage 9 channels, an odd number",
        ),
        (
            r#"{"is_residual": true, "dim_mult": [1, 2, 4, 3]}"#,
            "the VAE's `dim_mult` gives no whole groups from 384 to 288 channels",
        ),
        (r#"{"z_dim": 8}"#, "the VAE's `latents_mean` has 16 entries for a `z_dim` of 8"),
        (r#"{"scale_factor_spatial": 16}"#, "the VAE's `scale_factor_spatial` is 16, must be 8"),
        (r#"{"attn_scales": [0.5]}"#, "the VAE's `attn_scales` is [0.5], only [] is supported"),
    ] {
        assert_eq!(Config::from_json(text).unwrap_err().to_string(), expected, "{text}");
    }
    assert!(matches!(Config::from_json("{"), Err(Error::Json(_))));
    assert_eq!(Config::from_json("{}").unwrap(), Config::wan21());
}

/// Decodes tile after tile, each over all frames.
fn in_tiles(vae: &WanVae, latents: &Tensor, side: usize) -> Tensor {
    let (_, _, frames, h, w) = latents.dims5().unwrap();
    let tiles = Tile::grid(h, w, side);
    let decoded = tiles.iter().map(|tile| {
        let mut decoder = vae.tile_decoder(tile).unwrap();
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

/// Runs `check(vae, latents, video, what)` on the cases of every kind whose names begin with `direction`.
fn each_case(direction: &str, check: impl Fn(&WanVae, &Tensor, &Tensor, &str)) {
    for kind in KINDS {
        let (vae, golden) = (vae(kind, DType::F32), golden(kind));
        for case in [direction.to_string(), format!("{direction}_frames")] {
            let (latents, video) = (&golden[&format!("{case}.latents")], &golden[&format!("{case}.video")]);
            check(&vae, latents, video, &format!("{kind} {case}"));
        }
    }
}

fn vae(kind: &str, dtype: DType) -> WanVae {
    let folder = fixture("vae").join(kind);
    let config = Config::from_json(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
    let files = [folder.join("diffusion_pytorch_model.safetensors")];
    let layouts = [canonical_from_diffusers(&config), KeyMap::identity("original")];
    let weights = Weights::open(&files, &[&layouts[0], &layouts[1]], &Device::Cpu, dtype).unwrap();
    let vae = WanVae::new(&config, &weights, Parts::Both).unwrap();
    weights.finish().unwrap();
    vae
}

fn golden(kind: &str) -> BTreeMap<String, Tensor> {
    let tensors = tensors(&fixture("vae").join(kind).join("golden.safetensors"));
    tensors.into_iter().map(|(name, tensor)| (name, tensor.to_dtype(DType::F32).unwrap())).collect()
}

/// Per parameter: the official name, its shape, its name in diffusers.
fn key_list(name: &str) -> Vec<[String; 3]> {
    let text = std::fs::read_to_string(fixture("keys").join(name)).unwrap();
    let columns = |line: &str| line.split('\t').map(str::to_string).collect::<Vec<_>>().try_into().unwrap();
    text.lines().map(columns).collect()
}

fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    let error = relative_l2(found, expected);
    assert!(error <= tolerance, "{what}: relative L2 error {error:.2e}, may be {tolerance:.1e}");
}

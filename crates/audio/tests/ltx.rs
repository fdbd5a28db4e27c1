//! The audio autoencoder against diffusers. `scripts/fixtures/audio.py` made the numbers.

use candle_core::{DType, Device, Tensor};
use kinora_audio::ltx::{AudioVae, Config, key_maps};
use kinora_audio::{AudioFormat, Error, Parts};
use kinora_checkpoint::{KeyMap, Weights};
use kinora_test_support::{fixture, relative_l2, tensors};
use std::collections::BTreeMap;

/// Relative L2 of a forward in f32; diffusers' own from its numbers in f64 is below 1e-6.
const F32: f64 = 1e-5;

#[test]
fn decodes_like_diffusers() {
    let (vae, golden) = (vae(Parts::Decoder), golden());
    for case in ["run", "decode", "decode_one"] {
        let latents = normalised(vae.format(), &golden[&format!("{case}.latents")]);
        assert_close(&vae.decode(&latents).unwrap(), &golden[&format!("{case}.mel")], case);
    }
}

#[test]
fn encodes_like_diffusers() {
    let (vae, golden) = (vae(Parts::Encoder), golden());
    for case in ["encode", "encode_rest", "encode_one"] {
        let expected = normalised(vae.format(), &golden[&format!("{case}.latents")]);
        assert_close(&vae.encode(&golden[&format!("{case}.mel")]).unwrap(), &expected, case);
    }
}

/// Diffusers' names, and those of the original with and without what stands before them in a file with other parts.
#[test]
fn every_layout_gives_the_same_numbers() {
    let (golden, config) = (golden(), config());
    let diffusers = tensors(&fixture("audio/audio_vae/diffusion_pytorch_model.safetensors"));
    let latents = normalised(vae(Parts::Decoder).format(), &golden["run.latents"]);
    for prefix in ["", "audio_vae."] {
        let renamed = diffusers.iter().map(|(name, tensor)| {
            let name = match name.as_str() {
                "latents_mean" => "per_channel_statistics.mean-of-means",
                "latents_std" => "per_channel_statistics.std-of-means",
                name => name,
            };
            (format!("{prefix}{name}"), tensor.clone())
        });
        let file = tempfile(&format!("layout{}", prefix.len()));
        kinora_checkpoint::save_safetensors(&file, &renamed.collect::<Vec<_>>(), &BTreeMap::new()).unwrap();
        let maps = key_maps();
        let maps: Vec<&KeyMap> = maps.iter().collect();
        let weights = Weights::open(std::slice::from_ref(&file), &maps, &Device::Cpu, DType::F32).unwrap();
        assert_eq!(Config::infer(&weights.shapes()).unwrap(), config);
        let vae = AudioVae::new(&config, &weights, Parts::Both).unwrap();
        weights.finish().unwrap();
        assert_close(&vae.decode(&latents).unwrap(), &golden["run.mel"], prefix);
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn the_real_configuration_asks_for_the_official_names_and_shapes() {
    let list = key_list("ltx2_audio_vae.txt");
    let shapes: BTreeMap<String, Vec<usize>> =
        list.iter().map(|[name, shape, _]| (name.clone(), serde_json::from_str(shape).unwrap())).collect();
    let recorder = Weights::recorder();
    AudioVae::new(&Config::ltx2(), &recorder, Parts::Both).unwrap();
    assert_eq!(recorder.asked(), shapes);
    let inferred = Config::infer(&shapes.clone().into_iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(inferred, Config::ltx2());
    let decoder = shapes.into_iter().filter(|(name, _)| !name.starts_with("encoder."));
    assert_eq!(Config::infer(&decoder.collect::<Vec<_>>()).unwrap(), Config::ltx2());
}

#[test]
fn names_of_diffusers_lead_to_the_official_ones() {
    let list = key_list("ltx2_audio_vae.txt");
    let expected: BTreeMap<String, String> = list.into_iter().map(|[name, _, diffusers]| (name, diffusers)).collect();
    let [original, diffusers] = key_maps();
    assert_eq!(diffusers.canonical_names(expected.values().map(String::as_str)).unwrap(), expected);
    let own = original.canonical_names(expected.keys().map(String::as_str)).unwrap();
    assert!(own.len() == expected.len() && own.iter().all(|(canonical, name)| canonical == name));
}

#[test]
fn statistics_act_on_packed_tokens() {
    let vae = vae(Parts::Both);
    let format = vae.format();
    let latents = Tensor::arange(0f32, 24.0, &Device::Cpu).unwrap().reshape((1, 2, 3, 4)).unwrap();
    let tokens = format.pack(&latents).unwrap();
    // The second token has the second row of each channel.
    let second = tokens.get(0).unwrap().get(1).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(second, [4.0, 5.0, 6.0, 7.0, 16.0, 17.0, 18.0, 19.0]);
    assert!(relative_l2(&format.unpack(&tokens).unwrap(), &latents) <= 0.0);
    let normalised = format.normalise(&tokens).unwrap().get(0).unwrap().get(1).unwrap().to_vec1::<f32>().unwrap();
    for (channel, value) in normalised.iter().enumerate() {
        let expected = (second[channel] - format.mean[channel]) / format.std[channel];
        assert!((value - expected).abs() < 1e-5, "{channel}: {value}, {expected}");
    }
    let back = format.denormalise(&format.normalise(&tokens).unwrap()).unwrap();
    assert!(relative_l2(&back, &tokens) < 1e-6);
}

#[test]
fn wrong_inputs_are_errors_with_the_values() {
    let vae = vae(Parts::Both);
    let zeros = |shape: [usize; 4]| Tensor::zeros(&shape, DType::F32, &Device::Cpu).unwrap();
    let message = |result: Result<Tensor, Error>| result.unwrap_err().to_string();
    assert_eq!(
        message(vae.decode(&zeros([1, 2, 5, 3]))),
        "the shape of the latents is [1, 2, 5, 3], must be [B, 2, L, 4]"
    );
    assert_eq!(
        message(vae.encode(&zeros([1, 1, 9, 16]))),
        "the shape of the mel spectrogram is [1, 1, 9, 16], must be [B, 2, F, 16]"
    );
    vae.decode(&zeros([0, 2, 5, 4])).unwrap_err();
    vae.decode(&zeros([1, 2, 0, 4])).unwrap_err();
    vae.encode(&zeros([1, 2, 0, 16])).unwrap_err();
    let decoder = self::vae(Parts::Decoder);
    assert_eq!(message(decoder.encode(&zeros([1, 2, 9, 16]))), "the audio VAE was loaded without its encoder");
}

#[test]
fn configurations_are_read_in_both_forms_and_refused_by_field() {
    let original = r#"{"audio_vae": {"model": {"params": {"sampling_rate": 16000, "ddconfig": {"ch": 128, "out_ch": 2, "ch_mult": [1, 2, 4],
        "num_res_blocks": 2, "attn_resolutions": [], "in_channels": 2, "z_channels": 8, "norm_type": "pixel", "causality_axis": "height",
        "mid_block_add_attention": false, "double_z": true, "resolution": 256}}},
        "preprocessing": {"stft": {"filter_length": 1024, "hop_length": 160, "causal": true}, "mel": {"n_mel_channels": 64}}}, "vae": {}}"#;
    let expected = Config { attn_resolutions: Some(Vec::new()), ..Config::ltx2() };
    assert_eq!(Config::from_json(original).unwrap(), expected);
    assert_eq!(Config::from_json("{}").unwrap(), Config::ltx2());
    for (text, expected) in [
        (r#"{"base_channels": 64}"#, "the audio VAE's `base_channels` is 64, must be 128"),
        (r#"{"ch_mult": [1, 2]}"#, "the audio VAE's `ch_mult` has 2 entries, must have 3"),
        (r#"{"norm_type": "group"}"#, "the audio VAE's `norm_type` is `group`, must be `pixel`"),
        (r#"{"causality_axis": null}"#, "the audio VAE's `causality_axis` is None, must be `height`"),
        (r#"{"attn_resolutions": [8]}"#, "the audio VAE's `attn_resolutions` is [8], only [] is supported"),
        (
            r#"{"audio_vae": {"model": {"params": {"ddconfig": {"mid_block_add_attention": true}}}}}"#,
            "the audio VAE's `mid_block_add_attention` is true, must be false",
        ),
    ] {
        assert_eq!(Config::from_json(text).unwrap_err().to_string(), expected, "{text}");
    }
    assert!(matches!(Config::from_json("{"), Err(Error::Json { .. })));
    let error = Config::infer(&[("encoder.conv_in.conv.weight".to_string(), vec![128, 2, 3, 3])]).unwrap_err();
    assert!(error.to_string().contains("there is no `per_channel_statistics.mean-of-means`"), "{error}");
}

fn normalised(format: &AudioFormat, latents: &Tensor) -> Tensor {
    format.unpack(&format.normalise(&format.pack(latents).unwrap()).unwrap()).unwrap()
}

fn config() -> Config {
    Config::from_json(&std::fs::read_to_string(fixture("audio/audio_vae/config.json")).unwrap()).unwrap()
}

fn vae(parts: Parts) -> AudioVae {
    let file = fixture("audio/audio_vae/diffusion_pytorch_model.safetensors");
    let [_, diffusers] = key_maps();
    let weights = Weights::open(&[file], &[&diffusers], &Device::Cpu, DType::F32).unwrap();
    let vae = AudioVae::new(&config(), &weights, parts).unwrap();
    if parts == Parts::Both {
        weights.finish().unwrap();
    }
    vae
}

fn golden() -> BTreeMap<String, Tensor> {
    tensors(&fixture("audio/ltx23/golden.safetensors"))
}

fn tempfile(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("kinora-audio-{}-{name}.safetensors", std::process::id()))
}

/// Per parameter: the official name, its shape, its name in diffusers.
fn key_list(name: &str) -> Vec<[String; 3]> {
    let text = std::fs::read_to_string(fixture("keys").join(name)).unwrap();
    let columns = |line: &str| line.split('\t').map(str::to_string).collect::<Vec<_>>().try_into().unwrap();
    text.lines().map(columns).collect()
}

fn assert_close(found: &Tensor, expected: &Tensor, what: &str) {
    let error = relative_l2(found, expected);
    assert!(error <= F32, "{what}: relative L2 error {error:.2e}, may be {F32:.1e}");
}

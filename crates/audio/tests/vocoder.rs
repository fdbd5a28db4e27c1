//! The vocoders against diffusers. `scripts/fixtures/audio.py` made the numbers.

use candle_core::{DType, Device, Tensor};
use kinora_audio::Error;
use kinora_audio::vocoder::{Limit, Vocoder, VocoderConfig, key_maps};
use kinora_checkpoint::{KeyMap, Weights};
use kinora_test_support::{fixture, relative_l2, tensors};
use std::collections::BTreeMap;
use std::path::PathBuf;

const KINDS: [&str; 2] = ["ltx20", "ltx23"];

/// Relative L2 of a forward in f32; diffusers' own from its numbers in f64 is below 1e-6.
const F32: f64 = 1e-5;

#[test]
fn makes_sound_like_diffusers() {
    for kind in KINDS {
        let (vocoder, golden) = (vocoder(kind), golden(kind));
        for case in ["run", "sound", "sound_one"] {
            let mel = &golden[&format!("{case}.mel")];
            let found = vocoder.forward(mel).unwrap();
            assert_eq!(found.dim(2).unwrap(), vocoder.samples(mel.dim(2).unwrap()));
            assert_close(&found, &golden[&format!("{case}.sound")], &format!("{kind} {case}"));
        }
    }
}

/// The original's names, with and without what stands before them in a file with other parts.
#[test]
fn every_layout_gives_the_same_numbers() {
    for kind in KINDS {
        let (golden, [_, diffusers, _, diffusers_of_two]) = (golden(kind), maps());
        let map = if kind == "ltx20" { diffusers } else { diffusers_of_two };
        let file = folder(kind).join("diffusion_pytorch_model.safetensors");
        let stored = tensors(&file);
        let names = map.canonical_names(stored.keys().map(String::as_str)).unwrap();
        for prefix in ["", "vocoder."] {
            let original = names.iter().map(|(name, source)| (format!("{prefix}{name}"), stored[source].clone()));
            let file =
                std::env::temp_dir().join(format!("kinora-vocoder-{}-{kind}{prefix}.safetensors", std::process::id()));
            kinora_checkpoint::save_safetensors(&file, &original.collect::<Vec<_>>(), &BTreeMap::new()).unwrap();
            let vocoder = open(&file, &config(kind));
            assert_close(
                &vocoder.forward(&golden["run.mel"]).unwrap(),
                &golden["run.sound"],
                &format!("{kind} {prefix}"),
            );
            std::fs::remove_file(file).unwrap();
        }
    }
}

#[test]
fn real_configurations_ask_for_the_official_names_and_shapes() {
    for (config, list) in released() {
        let list = key_list(list);
        let shapes = list.iter().filter(|[name, _, _]| !name.ends_with("inverse_basis"));
        let shapes: BTreeMap<String, Vec<usize>> =
            shapes.map(|[name, shape, _]| (name.clone(), serde_json::from_str(shape).unwrap())).collect();
        let recorder = Weights::recorder();
        Vocoder::new(&config, &recorder).unwrap();
        assert_eq!(recorder.asked(), shapes);
        assert_eq!(VocoderConfig::infer(&shapes.into_iter().collect::<Vec<_>>()).unwrap(), config);
    }
}

#[test]
fn names_of_diffusers_lead_to_the_official_ones() {
    let [original, diffusers, original_of_two, diffusers_of_two] = maps();
    let layouts = [[original, diffusers], [original_of_two, diffusers_of_two]];
    for ((_, list), [original, diffusers]) in released().into_iter().zip(layouts) {
        let list = key_list(list).into_iter().filter(|[name, _, _]| !name.ends_with("inverse_basis"));
        let expected: BTreeMap<String, String> = list.map(|[name, _, diffusers]| (name, diffusers)).collect();
        assert_eq!(diffusers.canonical_names(expected.values().map(String::as_str)).unwrap(), expected);
        let own = original.canonical_names(expected.keys().map(String::as_str)).unwrap();
        assert!(own.len() == expected.len() && own.iter().all(|(canonical, name)| canonical == name));
    }
}

#[test]
fn lengths_are_those_of_the_sound() {
    let samples = |config: VocoderConfig| [1, 5, 501].map(|frames| config.samples(frames));
    assert_eq!(samples(VocoderConfig::ltx20()), [240, 1200, 120_240]);
    assert_eq!(samples(VocoderConfig::ltx23()), [480, 2400, 240_480]);
}

#[test]
fn configurations_are_read_in_both_forms() {
    let [ltx20, ltx23] = [VocoderConfig::ltx20(), VocoderConfig::ltx23()];
    assert_eq!(VocoderConfig::from_json("{}").unwrap(), ltx20);
    let of_diffusers = |list: &str| {
        let text = std::fs::read_to_string(fixture("audio").join(list).join("config.json")).unwrap();
        VocoderConfig::from_json(&text).unwrap()
    };
    // The tiny ones have the rates and sizes of the script.
    assert_eq!((of_diffusers("ltx20/vocoder").sample_rate, of_diffusers("ltx23/vocoder").sample_rate), (6000, 6000));
    let generator = r#""resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]], "stereo": true"#;
    let first = format!(
        r#"{{"vocoder": {{"upsample_initial_channel": 1024, "resblock": "1", "upsample_rates": [6, 5, 2, 2, 2],
        "upsample_kernel_sizes": [16, 15, 8, 4, 4], {generator}}}}}"#
    );
    assert_eq!(VocoderConfig::from_json(&first).unwrap(), ltx20);
    let snake =
        r#""resblock": "AMP1", "activation": "snakebeta", "use_tanh_at_final": false, "use_bias_at_final": false"#;
    let second = format!(
        r#"{{"vocoder": {{"vocoder": {{"upsample_initial_channel": 1536, "upsample_rates": [5, 2, 2, 2, 2, 2],
        "upsample_kernel_sizes": [11, 4, 4, 4, 4, 4], {snake}, {generator}}}, "bwe": {{"upsample_initial_channel": 512,
        "upsample_rates": [6, 5, 2, 2, 2], "upsample_kernel_sizes": [12, 11, 4, 4, 4], {snake}, {generator}, "apply_final_activation": false,
        "input_sampling_rate": 16000, "output_sampling_rate": 48000, "hop_length": 80, "n_fft": 512, "num_mels": 64}}}}}}"#
    );
    assert_eq!(VocoderConfig::from_json(&second).unwrap(), ltx23);
    // diffusers leaves the first waveform as it is.
    let diffusers = r#"{"hidden_channels": 1536, "upsample_kernel_sizes": [11, 4, 4, 4, 4, 4], "upsample_factors": [5, 2, 2, 2, 2, 2],
        "act_fn": "snakebeta", "antialias": true, "final_act_fn": null, "final_bias": false, "bwe_hidden_channels": 512,
        "bwe_upsample_kernel_sizes": [12, 11, 4, 4, 4], "bwe_upsample_factors": [6, 5, 2, 2, 2], "bwe_act_fn": "snakebeta",
        "bwe_antialias": true, "bwe_final_act_fn": null, "bwe_final_bias": false, "output_sampling_rate": 48000}"#;
    let mut expected = ltx23;
    expected.generator.limit = Limit::None;
    assert_eq!(VocoderConfig::from_json(diffusers).unwrap(), expected);
}

#[test]
fn wrong_configurations_are_errors_that_name_the_field() {
    for (text, expected) in [
        (r#"{"hidden_channels": 40}"#, "`hidden_channels` is 40, cannot be halved 5 times"),
        (r#"{"upsample_factors": [6, 5]}"#, "`upsample_kernel_sizes` has 5 entries for 2 factors"),
        (r#"{"upsample_kernel_sizes": [15, 15, 8, 4, 4]}"#, "`upsample_kernel_sizes` has 15 for a factor of 6"),
        (r#"{"resnet_kernel_sizes": [3, 4, 5]}"#, "`resnet_kernel_sizes` has 4, an even number"),
        (r#"{"resnet_kernel_sizes": [3]}"#, "`resnet_dilations` has 3 entries for 1 kernels"),
        (r#"{"act_fn": "snake"}"#, "`act_fn` is `snake`, must be `leaky_relu` or `snakebeta`"),
        (r#"{"act_fn": "snakebeta"}"#, "`antialias` is false for `snakebeta`"),
        (r#"{"antialias_ratio": 3}"#, "`antialias_ratio` is 3, must be 2"),
        (r#"{"final_act_fn": "relu"}"#, "`final_act_fn` is `relu`, must be `tanh`, `clamp` or null"),
        (r#"{"vocoder": {"resblock": "2"}}"#, "`resblock` is `2`, must be `1` or `AMP1`"),
        (r#"{"vocoder": {"stereo": false}}"#, "`stereo` is false, must be true"),
        (r#"{"bwe_hidden_channels": 512, "hop_length": 40}"#, "`bwe_upsample_factors` make 240 of 120 samples"),
    ] {
        let message = VocoderConfig::from_json(text).unwrap_err().to_string();
        assert_eq!(message, format!("the vocoder's {expected}"), "{text}");
    }
    assert!(matches!(VocoderConfig::from_json("{"), Err(Error::Json { .. })));
    let shapes: Vec<_> = key_list("ltx2.0_vocoder.txt")
        .into_iter()
        .map(|[name, shape, _]| (name, serde_json::from_str(&shape).unwrap()))
        .collect();
    let mut odd: Vec<(String, Vec<usize>)> = shapes.clone();
    odd.iter_mut().filter(|(name, _)| name == "ups.1.weight").for_each(|(_, shape)| shape[2] = 17);
    let message = VocoderConfig::infer(&odd).unwrap_err().to_string();
    assert!(message.contains("upsamplings of [16, 17, 8, 4, 4] taps"), "{message}");
    let without: Vec<_> = shapes.into_iter().filter(|(name, _)| name != "conv_post.weight").collect();
    let message = VocoderConfig::infer(&without).unwrap_err().to_string();
    assert!(message.contains("there is no `conv_post.weight`"), "{message}");
}

#[test]
fn wrong_inputs_are_errors_with_the_values() {
    let vocoder = vocoder("ltx23");
    let mel = |shape: [usize; 4]| Tensor::zeros(&shape, DType::F32, &Device::Cpu).unwrap();
    let message = vocoder.forward(&mel([1, 2, 5, 15])).unwrap_err().to_string();
    assert_eq!(message, "the shape of the mel spectrogram is [1, 2, 5, 15], must be [B, C, F, M] with C·M = 32");
    vocoder.forward(&mel([1, 2, 0, 16])).unwrap_err();
    vocoder.forward(&mel([0, 2, 5, 16])).unwrap_err();
}

fn released() -> [(VocoderConfig, &'static str); 2] {
    [(VocoderConfig::ltx20(), "ltx2.0_vocoder.txt"), (VocoderConfig::ltx23(), "ltx2.3_vocoder.txt")]
}

fn maps() -> [KeyMap; 4] {
    key_maps().try_into().unwrap()
}

fn folder(kind: &str) -> PathBuf {
    fixture("audio").join(kind).join("vocoder")
}

fn config(kind: &str) -> VocoderConfig {
    VocoderConfig::from_json(&std::fs::read_to_string(folder(kind).join("config.json")).unwrap()).unwrap()
}

fn vocoder(kind: &str) -> Vocoder {
    open(&folder(kind).join("diffusion_pytorch_model.safetensors"), &config(kind))
}

/// Reads a file in any layout.
fn open(file: &PathBuf, config: &VocoderConfig) -> Vocoder {
    let maps = maps();
    let maps: Vec<&KeyMap> = maps.iter().collect();
    let weights = Weights::open(std::slice::from_ref(file), &maps, &Device::Cpu, DType::F32).unwrap();
    let vocoder = Vocoder::new(config, &weights).unwrap();
    weights.finish().unwrap();
    vocoder
}

fn golden(kind: &str) -> BTreeMap<String, Tensor> {
    tensors(&fixture("audio").join(kind).join("golden.safetensors"))
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

//! Configurations in all forms, names of tensors in all layouts.

use crate::{
    F32, KINDS, UPSAMPLERS, assert_close, config, golden, sampled, upsampler_config, upsampler_weights, vae, weights,
};
use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_test_support::{fixture, tensors};
use kinora_vae::ltx::{
    Config, LatentUpsampler, LtxVae, Padding, UpsamplerConfig, canonical_from_combined, canonical_from_diffusers,
    original,
};
use kinora_vae::{Error, Parts, VideoVae};
use std::collections::{BTreeMap, HashMap};

#[test]
fn real_configurations_ask_for_the_official_names_and_shapes() {
    for (config, version) in [(Config::ltx20(), "2.0"), (Config::ltx23(), "2.3")] {
        let recorder = Weights::recorder();
        LtxVae::new(&config, &recorder, Parts::Both).unwrap();
        assert_eq!(recorder.asked(), shapes_of(&format!("ltx{version}_vae.txt")), "{version}");
        let recorder = Weights::recorder();
        LatentUpsampler::new(&real_upsampler(version), &recorder).unwrap();
        assert_eq!(recorder.asked(), shapes_of(&format!("ltx{version}_upsampler.txt")), "{version}");
    }
}

#[test]
fn names_of_all_layouts_lead_to_the_official_ones() {
    for (config, version) in [(Config::ltx20(), "2.0"), (Config::ltx23(), "2.3")] {
        let list = key_list(&format!("ltx{version}_vae.txt"));
        let expected: BTreeMap<String, String> =
            list.iter().map(|[name, _, diffusers]| (name.clone(), diffusers.clone())).collect();
        let names = expected.values().map(String::as_str);
        assert_eq!(canonical_from_diffusers(&config).canonical_names(names).unwrap(), expected, "{version}");

        let others = ["audio_vae.x", "model.diffusion_model.a.b", "vocoder.vocoder.y"];
        let unused = ["per_channel_statistics.channel", "per_channel_statistics.mean-of-stds"];
        for (map, prefix, beside) in [(original(), "", &[][..]), (canonical_from_combined(), "vae.", &others[..])] {
            let sources: Vec<String> = list.iter().map(|[name, ..]| format!("{prefix}{name}")).collect();
            let unused = unused.map(|name| format!("{prefix}{name}"));
            let names = sources.iter().chain(&unused).map(String::as_str).chain(beside.iter().copied());
            let expected: BTreeMap<String, String> =
                list.iter().map(|[name, ..]| (name.clone(), format!("{prefix}{name}"))).collect();
            assert_eq!(map.canonical_names(names).unwrap(), expected, "{version} {prefix}");
        }
    }
}

#[test]
fn all_descriptions_are_of_the_same_configuration() {
    for (config, version) in [(Config::ltx20(), "2.0"), (Config::ltx23(), "2.3")] {
        let text = std::fs::read_to_string(fixture(&format!("ltx_vae/real_{version}.json"))).unwrap();
        assert_eq!(Config::from_json(&text).unwrap(), config);
        let shapes: Vec<_> = shapes_of(&format!("ltx{version}_vae.txt")).into_iter().collect();
        assert_eq!(Config::from_shapes(&shapes).unwrap(), config);
        let shapes: Vec<_> = shapes_of(&format!("ltx{version}_upsampler.txt")).into_iter().collect();
        assert_eq!(UpsamplerConfig::from_shapes(&shapes).unwrap(), real_upsampler(version));
    }
    for kind in KINDS {
        let folder = fixture("ltx_vae").join(kind);
        let read = |name: &str| Config::from_json(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap();
        assert_eq!(read("config.json"), read("metadata.json"), "{kind}");
    }
    for name in UPSAMPLERS {
        let weights = upsampler_weights(name);
        assert_eq!(UpsamplerConfig::from_shapes(&weights.shapes()).unwrap(), upsampler_config(name), "{name}");
    }
}

#[test]
fn latent_formats_are_the_released_ones() {
    for config in [Config::ltx20(), Config::ltx23()] {
        let format = config.latent_format(vec![0.0; 128], vec![1.0; 128]);
        assert_eq!((format.channels, format.temporal_factor, format.spatial_factor), (128, 8, 32));
        assert_eq!([1, 8, 9, 121].map(|frames| format.latent_frames(frames)), [1, 1, 2, 16]);
    }
    let (vae, statistics) =
        (vae("2.0", DType::F32), tensors(&fixture("ltx_vae/2.0/diffusion_pytorch_model.safetensors")));
    let expected = |name: &str| statistics[name].to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
    let format = vae.latent_format();
    assert_eq!((&format.mean, &format.std), (&expected("latents_mean"), &expected("latents_std")));
}

#[test]
fn a_half_is_loaded_alone() {
    let asked = |parts| {
        let recorder = Weights::recorder();
        let vae = LtxVae::new(&Config::ltx23(), &recorder, parts).unwrap();
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
    let real = std::fs::read_to_string(fixture("ltx_vae/real_2.3.json")).unwrap();
    let changed = |field: &str, value: &str| {
        let mut json: serde_json::Value = serde_json::from_str(&real).unwrap();
        json[field] = serde_json::from_str(value).unwrap();
        Config::from_json(&json.to_string()).unwrap_err().to_string()
    };
    for (field, value, expected) in [
        ("latent_channels", "0", "the VAE's `latent_channels` is 0, must be 1 to 4096"),
        ("timestep_conditioning", "true", "the VAE's `timestep_conditioning` is true, only false is supported"),
        ("decoder_causal", "true", "the VAE's `decoder_causal` is true, only false is supported"),
        ("scaling_factor", "0.5", "the VAE's `scaling_factor` is 0.5, only 1.0 is supported"),
        ("upsample_type", r#"["spatial"]"#, "the VAE's `upsample_type` is 1, must be 4"),
        (
            "downsample_type",
            r#"["spatial", "temporal", "all", "spatial"]"#,
            "the VAE's `downsample_type` has the entry `all`, which is not supported",
        ),
        (
            "upsample_type",
            r#"["spatial", "spatiotemporal", "temporal", "spatial"]"#,
            "the VAE's `decoder_blocks` enlarge 4 times what the encoder reduces 8 times",
        ),
        (
            "upsample_factor",
            "[2, 2, 2, 2]",
            "the VAE's `decoder_block_out_channels` gives 512 channels where 256 come in",
        ),
        (
            "block_out_channels",
            "[256, 512, 1024, 1000]",
            "the VAE's `encoder_blocks` lead from 1024 to 1000 channels by a stride of [2, 2, 2]",
        ),
        (
            "decoder_spatial_padding_mode",
            r#""replicate""#,
            "the VAE's `decoder_spatial_padding_mode` is `replicate`, which is not supported",
        ),
    ] {
        assert_eq!(changed(field, value), expected, "{field}");
    }
    let diffusion = r#"{"vae": {"_class_name": "CausalDiffusionVAE", "encoder": {}, "decoder": {}}}"#;
    assert_eq!(
        Config::from_json(diffusion).unwrap_err().to_string(),
        "the VAE's `_class_name` is \"CausalDiffusionVAE\", only \"CausalVideoAutoencoder\" is supported"
    );
    assert!(matches!(Config::from_json("{"), Err(Error::Json(_))));
    let block = |name: &str| format!(r#"{{"encoder_blocks": [["{name}", 3]], "decoder_blocks": []}}"#);
    assert_eq!(
        Config::from_json(&block("attn")).unwrap_err().to_string(),
        "the VAE's `encoder_blocks` have a block `attn`, which is not supported"
    );
    assert_eq!(
        UpsamplerConfig::from_json(r#"{"mid_channels": 40}"#).unwrap_err().to_string(),
        "the VAE's `mid_channels` is 40, must be a multiple of 32"
    );
}

#[test]
fn the_metadata_of_ltx23_has_one_padding_for_both_halves() {
    let text = std::fs::read_to_string(fixture("ltx_vae/2.3/metadata.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let paddings = |json: &serde_json::Value| {
        let config = Config::from_json(&json.to_string()).unwrap();
        (config.encoder_padding, config.decoder_padding)
    };
    assert_eq!(paddings(&json), (Padding::Zeros, Padding::Zeros));
    json["vae"]["spatial_padding_mode"] = "reflect".into();
    assert_eq!(paddings(&json), (Padding::Reflect, Padding::Reflect));
    json["vae"].as_object_mut().unwrap().remove("spatial_padding_mode");
    assert_eq!(paddings(&json), (Padding::Zeros, Padding::Reflect));
}

#[test]
fn combined_files_are_read_without_their_other_parts() {
    let config = config("2.3");
    let source = weights("2.3", &config, DType::F32);
    LtxVae::new(&config, &source, Parts::Both).unwrap();
    let folder = std::env::temp_dir().join(format!("kinora-ltx-vae-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut combined: Vec<(String, Tensor)> = source
        .asked()
        .into_iter()
        .map(|(name, shape)| (format!("vae.{name}"), source.get(&name, shape).unwrap()))
        .collect();
    let one = Tensor::ones(1, DType::F32, &Device::Cpu).unwrap();
    for name in ["model.diffusion_model.patchify_proj.bias", "vae.per_channel_statistics.channel", "vocoder.x"] {
        combined.push((name.to_string(), one.clone()));
    }
    let file = folder.join("combined.safetensors");
    let tensors: HashMap<&str, Tensor> = combined.iter().map(|(name, x)| (name.as_str(), x.clone())).collect();
    candle_core::safetensors::save(&tensors, &file).unwrap();
    let maps = [canonical_from_diffusers(&config), canonical_from_combined(), original()];
    let weights = Weights::open(&[file], &maps.each_ref(), &Device::Cpu, DType::F32).unwrap();
    assert_eq!(Config::from_shapes(&weights.shapes()).unwrap().encoder_blocks, config.encoder_blocks);
    let vae = LtxVae::new(&config, &weights, Parts::Both).unwrap();
    weights.finish().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let golden = golden("2.3");
    assert_close(&sampled(&vae.decode(&golden["decode.latents"]).unwrap()), &golden["decode.sampled"], F32, "combined");
}

fn real_upsampler(version: &str) -> UpsamplerConfig {
    let text = std::fs::read_to_string(fixture(&format!("ltx_vae/real_{version}_upsampler.json"))).unwrap();
    UpsamplerConfig::from_json(&text).unwrap()
}

/// Per parameter: the official name, its shape, its name in diffusers.
fn key_list(name: &str) -> Vec<[String; 3]> {
    let text = std::fs::read_to_string(fixture("keys").join(name)).unwrap();
    let columns = |line: &str| line.split('\t').map(str::to_string).collect::<Vec<_>>().try_into().unwrap();
    text.lines().map(columns).collect()
}

fn shapes_of(list: &str) -> BTreeMap<String, Vec<usize>> {
    key_list(list).into_iter().map(|[name, shape, _]| (name, serde_json::from_str(&shape).unwrap())).collect()
}

//! Files that hold several networks, and networks of which several files hold a piece.

use super::composed_tests::MANIFEST;
use super::tests::Folder;
use super::*;
use crate::families::Ltx;
use crate::model::Model;
use crate::model::single_files::Recognised;
use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::save_safetensors;
use std::collections::BTreeMap;

const FAMILIES: &[&dyn FamilyFiles] = &[&Ltx];

const TRANSFORMER: [&str; 2] = ["patchify_proj.weight", "transformer_blocks.0.audio_to_video_attn.to_q.weight"];
const CONNECTORS: [&str; 2] =
    ["audio_embeddings_connector.learnable_registers", "video_embeddings_connector.learnable_registers"];
const PROJECTION: [&str; 1] = ["text_embedding_projection.aggregate_embed.weight"];
const TEXT: [&str; 2] = ["model.embed_tokens.weight", "model.layers.0.pre_feedforward_layernorm.weight"];
const VAE: [&str; 2] = ["encoder.down_blocks.0.res_blocks.0.conv1.conv.weight", "per_channel_statistics.mean-of-means"];
const AUDIO_VAE: [&str; 2] = ["decoder.up.0.block.0.conv1.conv.weight", "per_channel_statistics.mean-of-means"];
const VOCODER: [&str; 2] = ["bwe_generator.resblocks.0.convs1.0.weight", "vocoder.resblocks.0.convs1.0.weight"];
const UPSAMPLER: [&str; 1] = ["post_upsample_res_blocks.0.conv1.weight"];

/// Writes a file of the tensors with these names behind their prefixes.
fn write(folder: &Folder, file: &str, networks: &[(&str, &[&str])], metadata: &[(&str, &str)]) {
    let zero = || Tensor::zeros(1, DType::F32, &Device::Cpu).expect("a tensor");
    let names = networks.iter().flat_map(|(prefix, names)| names.iter().map(move |name| format!("{prefix}{name}")));
    let tensors: Vec<_> = names.map(|name| (name, zero())).collect();
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect();
    save_safetensors(&folder.path(file), &tensors, &metadata).expect("a file");
}

/// The release's single file of everything but the text encoder.
fn write_combined(folder: &Folder, file: &str) {
    let networks: [(&str, &[&str]); 7] = [
        ("model.diffusion_model.", &TRANSFORMER),
        ("model.diffusion_model.", &CONNECTORS),
        ("", &PROJECTION),
        ("vae.", &VAE),
        ("audio_vae.", &AUDIO_VAE),
        ("vocoder.", &VOCODER),
        ("duration_head.", &["mlp_hidden.weight"]),
    ];
    let config = r#"{"transformer": {"num_layers": 1}, "vae": {"dims": 3}}"#;
    write(folder, file, &networks, &[("config", config), ("model_version", "2.3")]);
}

fn recognised(folder: &Folder, names: &[&str]) -> std::result::Result<Recognised, String> {
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.path(name)).collect();
    let found = find(&paths, FAMILIES, &|_| Err(None)).map_err(|error| folder.plain(&error))?;
    Recognised::of(&found, FAMILIES, &|_| Err(None)).map_err(|error| folder.plain(&error))
}

/// The names of the tensors that each role gets, with their files.
fn parts(folder: &Folder, names: &[&str]) -> std::result::Result<BTreeMap<Role, Vec<String>>, String> {
    let parts = recognised(folder, names)?.parts;
    let mut roles = BTreeMap::new();
    for part in &parts {
        let mut tensors: Vec<String> = Vec::new();
        for files in std::iter::once(&part.files).chain(&part.files.more) {
            let own = Files { more: Vec::new(), ..files.clone() };
            let infos = own.infos().expect("a file").into_iter();
            tensors.extend(infos.map(|info| format!("{}: {}", folder.relative(&own.path()), info.name)));
        }
        tensors.sort();
        assert!(roles.insert(part.role, tensors).is_none(), "{:?} is there twice", part.role);
    }
    Ok(roles)
}

fn of(file: &str, networks: &[(&str, &[&str])]) -> Vec<String> {
    let of_network = |(prefix, names): &(&str, &[&str])| -> Vec<String> {
        names.iter().map(|name| format!("{file}: {prefix}{name}")).collect()
    };
    let mut all: Vec<String> = networks.iter().flat_map(of_network).collect();
    all.sort();
    all
}

#[test]
fn a_combined_checkpoint_is_all_parts_but_the_text_encoder() {
    let folder = Folder::of(&[("tokenizer.json", "{}")]);
    write_combined(&folder, "all.safetensors");
    write(&folder, "text.safetensors", &[("", &TEXT)], &[]);
    let files = ["all.safetensors", "text.safetensors", "tokenizer.json"];
    let expected = BTreeMap::from([
        (Role::Transformer, of(files[0], &[("model.diffusion_model.", &TRANSFORMER)])),
        (Role::Connectors, of(files[0], &[("model.diffusion_model.", &CONNECTORS), ("", &PROJECTION)])),
        (Role::Vae, of(files[0], &[("vae.", &VAE)])),
        (Role::AudioVae, of(files[0], &[("audio_vae.", &AUDIO_VAE)])),
        (Role::Vocoder, of(files[0], &[("vocoder.", &VOCODER)])),
        (Role::TextEncoder, of(files[1], &[("", &TEXT)])),
    ]);
    assert_eq!(parts(&folder, &files), Ok(expected));
    let whole = recognised(&folder, &files).expect("parts");
    assert_eq!(whole.lacking, [""; 0]);
    let vae = whole.parts.iter().find(|part| part.role == Role::Vae).expect("a VAE");
    let config = vae.files.metadata("config").expect("JSON").expect("it is there");
    assert_eq!((config["vae"]["dims"].as_u64(), config["transformer"]["num_layers"].as_u64()), (Some(3), Some(1)));
    assert_eq!(vae.files.metadata("gemma_config").expect("no JSON"), None);
    let odd = vae.files.metadata("model_version").map(|value| value.and_then(|value| value.as_f64()));
    assert_eq!(odd.expect("2.3 is JSON"), Some(2.3));

    let lacking = recognised(&folder, &files[..1]).expect("parts").lacking;
    assert_eq!(lacking, ["text encoder", "tokenizer.json"]);
    write(&folder, "odd.safetensors", &[("model.diffusion_model.", &TRANSFORMER), ("vae.", &VAE), ("x.", &["y"])], &[]);
    let odd = recognised(&folder, &["odd.safetensors"]).err().expect("an unknown network");
    assert!(odd.ends_with("the tensors under `x` belong to none of them"), "{odd}");
}

#[test]
fn metadata_that_is_no_json_is_an_error() {
    let folder = Folder::of(&[]);
    write(&folder, "vae.safetensors", &[("", &VAE)], &[("config", "{\"a\": ")]);
    let files = Files::of(vec![Blob::File(folder.path("vae.safetensors"))]);
    let error = folder.plain(&files.metadata("config").expect_err("half an object"));
    assert!(error.starts_with("cannot use `vae.safetensors`: `config` in its metadata is not JSON"), "{error}");
}

#[test]
fn pieces_of_a_network_come_from_several_files() {
    let folder = Folder::of(&[("tokenizer.json", "{}")]);
    let (dit, text, sound) = ("dit.safetensors", "text.safetensors", "sound.safetensors");
    write(&folder, dit, &[("model.diffusion_model.", &[TRANSFORMER, CONNECTORS].concat())], &[]);
    let extras = ["tokenizer_json", "vision_model.patch.weight"];
    write(&folder, text, &[("", &TEXT), ("", &PROJECTION), ("", &extras)], &[]);
    write(&folder, sound, &[("audio_vae.", &AUDIO_VAE), ("vocoder.", &VOCODER)], &[]);
    write(&folder, "vae.safetensors", &[("", &VAE)], &[]);
    write(&folder, "upscaler.safetensors", &[("", &UPSAMPLER)], &[]);
    let files = [dit, text, "vae.safetensors", sound, "upscaler.safetensors", "tokenizer.json"];
    let behind: (&str, &[&str]) = ("model.diffusion_model.", &CONNECTORS);
    let connectors = [of(dit, &[behind]), of(text, &[("", &PROJECTION)])].concat();
    let expected = BTreeMap::from([
        (Role::Transformer, of(dit, &[("model.diffusion_model.", &TRANSFORMER)])),
        (Role::Connectors, connectors),
        (Role::TextEncoder, of(text, &[("", &TEXT), ("", &extras)])),
        (Role::Vae, of("vae.safetensors", &[("", &VAE)])),
        (Role::AudioVae, of(sound, &[("audio_vae.", &AUDIO_VAE)])),
        (Role::Vocoder, of(sound, &[("vocoder.", &VOCODER)])),
        (Role::LatentUpsampler, of("upscaler.safetensors", &[("", &UPSAMPLER)])),
    ]);
    assert_eq!(parts(&folder, &files), Ok(expected));
    assert!(recognised(&folder, &files).expect("parts").lacking.is_empty());
}

#[test]
fn files_of_their_own_come_before_what_others_hold() {
    let folder = Folder::of(&[("tokenizer.json", "{}")]);
    write_combined(&folder, "all.safetensors");
    write(&folder, "vae.safetensors", &[("", &VAE)], &[]);
    write(&folder, "projection.safetensors", &[("", &PROJECTION)], &[]);
    write(&folder, "dit.safetensors", &[("", &TRANSFORMER), ("", &CONNECTORS)], &[]);
    write(&folder, "connectors.safetensors", &[("", &CONNECTORS), ("", &PROJECTION)], &[]);
    let roles = |files: &[&str]| {
        parts(&folder, files).map(|mut roles| {
            [Role::Vae, Role::Transformer, Role::Connectors].map(|role| roles.remove(&role).expect("a part"))
        })
    };
    let all = "all.safetensors";
    let inside: (&str, &[&str]) = ("model.diffusion_model.", &TRANSFORMER);
    let pieces: (&str, &[&str]) = ("model.diffusion_model.", &CONNECTORS);
    let [vae, transformer, connectors] = roles(&[all, "vae.safetensors", "projection.safetensors"]).expect("parts");
    assert_eq!((vae, transformer), (of("vae.safetensors", &[("", &VAE)]), of(all, &[inside])));
    assert_eq!(connectors, [of(all, &[pieces]), of("projection.safetensors", &[("", &PROJECTION)])].concat());
    let [vae, transformer, connectors] = roles(&[all, "dit.safetensors"]).expect("parts");
    assert_eq!((vae, transformer), (of(all, &[("vae.", &VAE)]), of("dit.safetensors", &[("", &TRANSFORMER)])));
    assert_eq!(connectors, [of(all, &[("", &PROJECTION)]), of("dit.safetensors", &[("", &CONNECTORS)])].concat());
    let [.., connectors] = roles(&["connectors.safetensors", all]).expect("parts");
    assert_eq!(connectors, of("connectors.safetensors", &[("", &CONNECTORS), ("", &PROJECTION)]));
    let twice = roles(&["connectors.safetensors", "projection.safetensors", all]).expect_err("a piece is there twice");
    assert!(twice.ends_with("the same part of the model is given twice"), "{twice}");
}

/// A diffusers directory whose connectors are whole, with an upsampler that its index does not name.
fn directory() -> Folder {
    let index = r#"{"_class_name": "LTX2Pipeline", "vae": ["a", "b"], "connectors": ["a", "b"], "duration_head": [null, null]}"#;
    let names = ["transformer", "vae", "text_encoder", "connectors", "audio_vae", "vocoder", "latent_upsampler"];
    let configs: Vec<(String, String)> = names.map(|name| (format!("{name}/config.json"), "{}".to_string())).into();
    let weights = names.map(|name| {
        let tensor = if name == "transformer" { TRANSFORMER[1] } else { name };
        (format!("{name}/model.safetensors"), tensor.to_string())
    });
    let files = [("model_index.json", index), ("tokenizer/tokenizer.json", "{}")];
    let others = configs.iter().chain(&weights).map(|(name, content)| (name.as_str(), content.as_str()));
    let folder = Folder::of(&files.into_iter().chain(others).collect::<Vec<_>>());
    std::fs::write(folder.path("manifest.toml"), MANIFEST.replace("\"a\"", "\"ltx\"")).expect("a file");
    folder
}

/// The first file of every component.
fn components(folder: &Folder, names: &[&str]) -> std::result::Result<Vec<String>, String> {
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.path(name)).collect();
    let found = find(&paths, FAMILIES, &|_| Err(None)).map_err(|error| folder.plain(&error))?;
    let model = Model::of(found, FAMILIES, &|_| Err(None)).map_err(|error| folder.plain(&error))?;
    Ok(model.components.values().flatten().map(|component| folder.relative(&component.weights.path())).collect())
}

#[test]
fn a_directory_has_more_parts_than_its_index_names() {
    let folder = directory();
    let own: Vec<String> =
        ["transformer", "vae", "text_encoder", "connectors", "audio_vae", "vocoder", "latent_upsampler"]
            .map(|name| format!("{name}/model.safetensors"))
            .into();
    assert_eq!(components(&folder, &[""]), Ok(own.clone()));
    std::fs::remove_dir_all(folder.path("latent_upsampler")).expect("it was there");
    assert_eq!(components(&folder, &[""]).as_deref(), Ok(&own[..6]), "it may be left out");
    std::fs::remove_dir_all(folder.path("vocoder")).expect("it was there");
    assert!(components(&folder, &[""]).unwrap_err().contains("vocoder/config.json is missing"));
}

#[test]
fn a_piece_beside_a_directory_does_not_replace_the_whole() {
    let folder = directory();
    write(&folder, "text.safetensors", &[("", &TEXT), ("", &PROJECTION)], &[]);
    write(&folder, "connectors.safetensors", &[("", &CONNECTORS), ("", &PROJECTION)], &[]);
    let found = components(&folder, &["", "text.safetensors"]).expect("a model");
    assert_eq!(found[2..4], ["text.safetensors", "connectors/model.safetensors"]);
    let found = components(&folder, &["", "connectors.safetensors"]).expect("a model");
    assert_eq!(found[2..4], ["text_encoder/model.safetensors", "connectors.safetensors"]);
}

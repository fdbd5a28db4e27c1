//! The files of LTX-2.x in all layouts, from lists of the released tensors, and the manifests of its variants.

use super::*;
use crate::families::wan::Wan;
use crate::model::parameters::Parameters;
use kinora_checkpoint::Format;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A released network, from a list made by `scripts/fixtures/ltx_roles.py`.
struct Network {
    role: Role,
    /// The versions that have it.
    versions: Vec<String>,
    parameters: u64,
    /// Some of its tensors, of every kind one, with diffusers' names and with the original ones.
    layouts: [Vec<TensorInfo>; 2],
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn networks() -> Vec<Network> {
    let text = std::fs::read_to_string(root().join("tests/fixtures/keys/ltx_roles.txt")).expect("a list");
    let mut networks: Vec<Network> = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("## ") {
            let [key, versions, parameters] = head.split(' ').collect::<Vec<_>>().try_into().expect("three words");
            networks.push(Network {
                role: Role::all().find(|role| role.key() == key).expect("a role"),
                versions: versions.split(',').map(str::to_string).collect(),
                parameters: parameters.parse().expect("a number"),
                layouts: [Vec::new(), Vec::new()],
            });
            continue;
        }
        let [diffusers, original, shape] = line.split('\t').collect::<Vec<_>>().try_into().expect("three columns");
        let shape: Vec<usize> = serde_json::from_str(shape).expect("a shape");
        for (layout, name) in networks.last_mut().expect("a head").layouts.iter_mut().zip([diffusers, original]) {
            layout.push(TensorInfo { name: name.into(), format: Format::F32, shape: shape.clone(), bytes: 0 });
        }
    }
    networks
}

fn renamed(tensors: &[TensorInfo], name: impl Fn(&str) -> Option<String>) -> Vec<TensorInfo> {
    tensors.iter().filter_map(|tensor| Some(TensorInfo { name: name(&tensor.name)?, ..tensor.clone() })).collect()
}

fn of_names(names: &[&str]) -> Vec<TensorInfo> {
    let info = |name: &&str| TensorInfo { name: (*name).into(), format: Format::F32, shape: vec![1], bytes: 4 };
    names.iter().map(info).collect()
}

#[test]
fn every_part_is_known_in_both_layouts() {
    let networks = networks();
    assert_eq!(networks.iter().map(|network| network.role).collect::<std::collections::BTreeSet<_>>().len(), 7);
    for Network { role, versions, layouts, .. } in &networks {
        for tensors in layouts {
            assert_eq!(Ltx.role(tensors), Some(*role), "{role:?} of {versions:?}");
            assert_eq!(Wan.role(tensors), None, "{role:?} of {versions:?}");
            for prefix in ["model.diffusion_model.", "vae.", "vocoder.", "text_encoders.gemma.transformer.model."] {
                let behind = renamed(tensors, |name| Some(format!("{prefix}{name}")));
                assert_eq!(Ltx.role(&behind), Some(*role), "{prefix} {role:?}");
            }
        }
    }
}

#[test]
fn halves_of_autoencoders_are_known() {
    for Network { role, layouts, .. } in networks() {
        if ![Role::Vae, Role::AudioVae].contains(&role) {
            continue;
        }
        for (half, tensors) in
            ["encoder.", "decoder."].iter().flat_map(|half| layouts.each_ref().map(|all| (half, all)))
        {
            let without = renamed(tensors, |name| (!name.starts_with(half)).then(|| name.to_string()));
            assert_eq!(Ltx.role(&without), Some(role), "without {half}");
        }
        let no_statistics = renamed(&layouts[0], |name| (!name.starts_with("latents_")).then(|| name.to_string()));
        assert_eq!(Ltx.role(&no_statistics), None, "another family's");
    }
}

#[test]
fn language_models_are_known_in_other_layouts() {
    let gguf = ["token_embd.weight", "blk.0.attn_q.weight", "blk.0.post_ffw_norm.weight", "output_norm.weight"];
    assert_eq!(Ltx.role(&of_names(&gguf)), Some(Role::TextEncoder));
    let network = networks().into_iter().find(|network| network.role == Role::TextEncoder).expect("it is listed");
    for prefix in ["model.language_model.", "language_model.model.", "model."] {
        let mut tensors = renamed(&network.layouts[0], |name| Some(format!("{prefix}{name}")));
        tensors.extend(of_names(&[
            "vision_tower.vision_model.post_layernorm.weight",
            "text_embedding_projection.video_aggregate_embed.weight",
            "tokenizer_json",
        ]));
        assert_eq!(Ltx.role(&tensors), Some(Role::TextEncoder), "{prefix}");
    }
}

#[test]
fn files_of_another_family_are_not_claimed() {
    let mut lists = 0;
    for entry in std::fs::read_dir(root().join("tests/fixtures/keys")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !["wan", "umt5", "clip"].iter().any(|other| name.starts_with(other)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a list");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let names: Vec<&str> = lines.flat_map(|line| line.split('\t')).filter(|word| !word.starts_with('[')).collect();
        assert_eq!(Ltx.role(&of_names(&names)), None, "{name}");
        lists += 1;
    }
    assert!(lists > 10, "{lists} lists");
}

#[test]
fn variants_are_told_by_their_tensors() {
    let expected = [("2.0", "ltx-2-19b"), ("2.3", "ltx-2.3-22b"), ("2.5", "ltx-2.5-22b")];
    for network in networks().iter().filter(|network| network.role == Role::Transformer) {
        let name = expected.iter().find(|(version, _)| network.versions == [*version]).map(|(_, name)| *name);
        for tensors in &network.layouts {
            assert_eq!(Ltx.variant(tensors, 1), name);
            assert_eq!(Ltx.variant(tensors, 2), None, "there are no experts");
            let behind = renamed(tensors, |name| Some(format!("model.diffusion_model.{name}")));
            assert_eq!(Ltx.variant(&behind, 1), name);
            let mut small = tensors.clone();
            for tensor in &mut small {
                tensor.shape[0] /= 2;
            }
            assert_eq!(Ltx.variant(&small, 1), None, "another size");
        }
    }
    assert_eq!(Ltx.variant(&[], 1), None);
}

#[test]
fn pipelines_of_whole_models_are_the_familys() {
    for class in ["LTX2Pipeline", "LTX2ImageToVideoPipeline", "LTX2ConditionPipeline"] {
        assert!(Ltx.owns_pipeline(class));
    }
    // Without a transformer, and of the older LTX-Video.
    for class in ["LTX2LatentUpsamplePipeline", "LTX2VideoDiffusionDecodePipeline", "LTXPipeline", "WanPipeline"] {
        assert!(!Ltx.owns_pipeline(class), "{class}");
    }
}

/// The text of every manifest of the family, by its file's name.
fn manifests() -> BTreeMap<String, toml::Table> {
    let entries = std::fs::read_dir(root().join("models")).expect("a folder");
    let own = entries.filter_map(|entry| {
        let path = entry.expect("an entry").path();
        let name = path.file_stem()?.to_str()?.to_string();
        let text = name.starts_with("ltx").then(|| std::fs::read_to_string(&path).expect("a manifest"))?;
        Some((name, text.parse().expect("TOML")))
    });
    own.collect()
}

#[test]
fn manifests_say_what_the_release_is() {
    let (networks, manifests) = (networks(), manifests());
    assert_eq!(manifests.len(), 5);
    for (file, manifest) in &manifests {
        assert_eq!(manifest["name"].as_str(), Some(file.as_str()));
        assert_eq!(manifest["family"].as_str(), Some(Ltx.name()));
        let version = manifest["vae"].as_str().and_then(|vae| vae.strip_prefix("ltx-")).expect("a version");
        let parameters: Parameters = manifest["parameters"].clone().try_into().expect("parameters");
        for role in Role::all().filter(|role| *role != Role::ImageEncoder) {
            let listed =
                networks.iter().find(|network| network.role == role && network.versions.iter().any(|v| v == version));
            match listed {
                Some(network) => assert_eq!(parameters.of(role), network.parameters, "{file}: {role:?}"),
                // No list has the text encoder of 2.5.
                None => assert!(role == Role::TextEncoder && version == "2.5" && parameters.of(role) > 11_000_000_000),
            }
        }
        assert_eq!(parameters.of(Role::ImageEncoder), 0);
        let defaults = &manifest["defaults"];
        let number = |key: &str| defaults[key].as_integer().unwrap_or_default();
        assert_eq!((number("width"), number("height"), number("frames") % 8, number("fps")), (768, 512, 1, 24));
        let limits = manifest["licence_limits"].as_str().expect("limits");
        assert!(limits.contains("revenue") && !limits.ends_with('.'), "{limits}");
        assert_eq!(manifest["gated"].as_bool(), Some(true));
        assert!(manifest["licence_page"].as_str().is_some_and(|page| page.starts_with("https://")));
    }
    for name in ["ltx-2-19b", "ltx-2.3-22b", "ltx-2.5-22b"] {
        assert!(manifests.contains_key(name), "a variant has no manifest: {name}");
    }
}

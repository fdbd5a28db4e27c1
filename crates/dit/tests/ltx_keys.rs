//! The LTX-2.x transformer asks for exactly the tensors that the released checkpoints have, in all layouts.

use kinora_checkpoint::{KeyMap, LoraTarget, Weights};
use kinora_dit::ltx::{LtxConfig, LtxModel, canonical_from_combined, canonical_from_diffusers, key_maps};
use kinora_test_support::fixture;
use std::collections::BTreeMap;

const VERSIONS: [&str; 3] = ["2.0", "2.3", "2.5"];

/// The argument of [`LtxConfig::infer`].
type Shapes = Vec<(String, Vec<usize>)>;

/// One tensor of a released checkpoint.
struct Key {
    diffusers: String,
    original: String,
    shape: Vec<usize>,
}

/// The configurations of a version, diffusers' and the original one, and its tensors, from a list made by
/// `scripts/fixtures/ltx_keys.py`.
fn released(version: &str) -> ([LtxConfig; 2], Vec<Key>) {
    let text = std::fs::read_to_string(fixture("keys").join(format!("ltx{version}_transformer.txt"))).unwrap();
    let mut lines = text.lines();
    let mut json = || lines.next().unwrap().strip_prefix('#').unwrap().as_bytes();
    let diffusers = LtxConfig::from_diffusers_config(json()).unwrap();
    let original = LtxConfig::from_original_config(json()).unwrap();
    let pattern = format!("{{0..{}}}", diffusers.num_layers);
    let mut keys = Vec::new();
    for line in lines {
        let [theirs, ours, shape] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let shape: Vec<usize> = serde_json::from_str(shape).unwrap();
        let blocks = if line.contains(&pattern) { diffusers.num_layers } else { 1 };
        keys.extend((0..blocks).map(|i| Key {
            diffusers: theirs.replace(&pattern, &i.to_string()),
            original: ours.replace(&pattern, &i.to_string()),
            shape: shape.clone(),
        }));
    }
    ([diffusers, original], keys)
}

#[test]
fn asks_for_the_released_tensors() {
    for version in VERSIONS {
        let ([config, _], keys) = released(version);
        let weights = Weights::recorder();
        LtxModel::new(&config, &weights).unwrap();
        let expected: BTreeMap<String, Vec<usize>> = keys.into_iter().map(|key| (key.original, key.shape)).collect();
        assert_eq!(weights.asked(), expected, "{version}");
        let count = match version {
            "2.0" => 18_876_174_592,
            "2.3" => 18_988_838_144,
            _ => 18_987_859_200usize,
        };
        assert_eq!(expected.values().map(|shape| shape.iter().product::<usize>()).sum::<usize>(), count, "{version}");
    }
}

/// The canonical names of `sources` by the first of the maps that knows all of them, as [`Weights`] picks it.
fn layout(sources: &[String]) -> (String, BTreeMap<String, String>) {
    let maps = key_maps();
    let known = |map: &KeyMap| {
        let names = map.canonical_names(sources.iter().map(String::as_str)).ok()?;
        Some((map.layout().to_string(), names))
    };
    maps.iter().find_map(known).unwrap()
}

#[test]
fn all_layouts_have_the_same_canonical_names() {
    for version in VERSIONS {
        let (_, keys) = released(version);
        let originals: Vec<_> = keys.iter().map(|key| key.original.clone()).collect();
        let prefixed: Vec<_> = originals.iter().map(|name| format!("model.diffusion_model.{name}")).collect();
        let others = [
            "video_embeddings_connector.learnable_registers",
            "audio_embeddings_connector.transformer_1d_blocks.0.attn1.to_q.weight",
            "text_embedding_projection.video_aggregate_embed.weight",
        ];
        let beside: Vec<_> = originals.iter().cloned().chain(others.map(str::to_string)).collect();
        let parts =
            ["vae.encoder.conv_in.conv.weight", "audio_vae.decoder.conv_out.conv.bias", "vocoder.conv_pre.bias"];
        let combined: Vec<_> = beside.iter().map(|name| format!("model.diffusion_model.{name}")).collect();
        let combined: Vec<_> =
            combined.into_iter().chain([others[2], parts[0], parts[1], parts[2]].map(String::from)).collect();
        let diffusers: Vec<_> = keys.iter().map(|key| key.diffusers.clone()).collect();
        for (sources, expected) in [
            (diffusers, "diffusers"),
            (originals.clone(), "original"),
            (beside, "original"),
            (prefixed, "combined"),
            (combined, "combined"),
        ] {
            let (found, names) = layout(&sources);
            assert_eq!(found, expected, "{version}");
            let canonical: Vec<_> = names.keys().collect();
            let mut expected: Vec<_> = originals.iter().collect();
            expected.sort();
            assert_eq!(canonical, expected, "{version} {found}");
        }
        for key in &keys {
            let one = |map: KeyMap, source: &str| map.canonical_names([source]).unwrap();
            let expected = |source: &str| BTreeMap::from([(key.original.clone(), source.to_string())]);
            assert_eq!(one(canonical_from_diffusers(), &key.diffusers), expected(&key.diffusers));
            let source = format!("model.diffusion_model.{}", key.original);
            assert_eq!(one(canonical_from_combined(), &source), expected(&source));
        }
    }
}

#[test]
fn an_unknown_tensor_is_an_error_in_every_layout() {
    let (_, keys) = released("2.3");
    for (name, of) in [("transformer_blocks.0.attn1.to_x.weight", "original"), ("time_embed.linear.x.y", "diffusers")] {
        let names = keys.iter().map(|key| if of == "original" { &key.original } else { &key.diffusers });
        let names: Vec<&str> = names.map(String::as_str).chain([name]).collect();
        assert!(key_maps().iter().all(|map| map.canonical_names(names.iter().copied()).is_err()), "{name}");
    }
}

/// LoRAs name modules in any layout.
#[test]
fn loras_find_modules_by_the_names_of_all_layouts() {
    let ([config, _], _) = released("2.0");
    let weights = Weights::recorder();
    LtxModel::new(&config, &weights).unwrap();
    let target = LoraTarget::new(weights.asked(), &key_maps());
    let text = format!("{target:?}");
    for name in
        ["proj_in", "patchify_proj", "model.diffusion_model.patchify_proj", "av_cross_attn_video_a2v_gate.linear"]
    {
        assert!(text.contains(&format!("\"{name}\": Here(")), "{name}");
    }
}

#[test]
fn both_configurations_and_the_shapes_say_the_same() {
    for version in VERSIONS {
        let ([diffusers, original], keys) = released(version);
        assert_eq!(diffusers, original, "{version}");
        let shapes: Shapes = keys.into_iter().map(|key| (key.original, key.shape)).collect();
        assert_eq!(LtxConfig::infer(&shapes).unwrap(), diffusers, "{version}");
    }
}

#[test]
fn what_shapes_cannot_tell_is_an_error() {
    let (_, keys) = released("2.0");
    let shapes: Shapes = keys.into_iter().map(|key| (key.original, key.shape)).collect();
    let error = |change: &dyn Fn(&mut Shapes)| {
        let mut shapes = shapes.clone();
        change(&mut shapes);
        LtxConfig::infer(&shapes).unwrap_err().to_string()
    };
    let replace = |shapes: &mut Shapes, name: &str, shape: &[usize]| {
        shapes.iter_mut().find(|(n, _)| n == name).unwrap().1 = shape.to_vec();
    };
    let start = "the transformer's configuration cannot be told from its tensors: ";
    assert_eq!(error(&|s| s.clear()), format!("{start}there is no `patchify_proj.weight`"));
    let silent = |s: &mut Shapes| s.retain(|(name, _)| !name.contains("audio_patchify_proj"));
    assert_eq!(error(&silent), format!("{start}there is no `audio_patchify_proj.weight`"));
    assert_eq!(
        error(&|s| replace(s, "patchify_proj.weight", &[4095, 128])),
        format!("{start}32 heads cannot share a width of 4095")
    );
    assert_eq!(
        error(&|s| replace(s, "audio_patchify_proj.weight", &[2048])),
        format!("{start}`audio_patchify_proj.weight` has shape [2048], expected 2 dimensions")
    );
    let no_blocks = |s: &mut Shapes| s.retain(|(name, _)| !name.starts_with("transformer_blocks."));
    assert_eq!(error(&no_blocks), "the transformer's `num_layers` is 0, expected 1 to 1048576");
    assert_eq!(
        error(&|s| s.push(("motion_proj.weight".to_string(), vec![4096, 8]))),
        "the transformer's `motion_proj.weight` is a tensor of shape [4096, 8], which is not supported"
    );
}

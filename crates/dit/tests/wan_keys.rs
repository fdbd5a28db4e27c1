//! The Wan transformer asks for exactly the tensors that the released checkpoints have, in both layouts.

mod support;

use kinora_checkpoint::{KeyMap, Weights};
use kinora_dit::wan::{WanConfig, WanModel, canonical_from_diffusers};
use std::collections::BTreeMap;
use support::fixture;

const VARIANTS: [&str; 4] = ["wan21_t2v_1.3b", "wan21_t2v_14b", "wan22_t2v_a14b", "wan22_ti2v_5b"];

/// What [`WanConfig::infer`] takes.
type Shapes = Vec<(String, Vec<usize>)>;

/// One tensor of a released checkpoint.
struct Key {
    diffusers: String,
    original: String,
    shape: Vec<usize>,
}

/// The released configuration and the tensors of a variant, from a list made by `scripts/fixtures/wan_keys.py`.
fn released(variant: &str) -> (WanConfig, Vec<Key>) {
    let text = std::fs::read_to_string(fixture("keys").join(format!("{variant}_transformer.txt"))).unwrap();
    let (config, lines) = text.split_once('\n').unwrap();
    let config = WanConfig::from_diffusers_config(config.strip_prefix('#').unwrap().as_bytes()).unwrap();
    let all_blocks = format!("{{0..{}}}", config.num_layers);
    let mut keys = Vec::new();
    for line in lines.lines() {
        let [diffusers, original, shape] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let shape: Vec<usize> = serde_json::from_str(shape).unwrap();
        let blocks = if line.contains(&all_blocks) { config.num_layers } else { 1 };
        keys.extend((0..blocks).map(|i| Key {
            diffusers: diffusers.replace(&all_blocks, &i.to_string()),
            original: original.replace(&all_blocks, &i.to_string()),
            shape: shape.clone(),
        }));
    }
    (config, keys)
}

#[test]
fn asks_for_the_released_tensors() {
    for variant in VARIANTS {
        let (config, keys) = released(variant);
        let weights = Weights::recorder();
        WanModel::new(&config, &weights).unwrap();
        let expected: BTreeMap<String, Vec<usize>> = keys.into_iter().map(|key| (key.original, key.shape)).collect();
        assert_eq!(weights.asked(), expected, "{variant}");
    }
}

#[test]
fn both_layouts_have_the_same_canonical_names() {
    for variant in VARIANTS {
        let (_, keys) = released(variant);
        let expected = |name: fn(&Key) -> &str| -> BTreeMap<String, String> {
            keys.iter().map(|key| (key.original.clone(), name(key).to_string())).collect()
        };
        let diffusers = expected(|key| &key.diffusers);
        let names = canonical_from_diffusers().canonical_names(diffusers.values().map(String::as_str)).unwrap();
        assert_eq!(names, diffusers, "{variant}");
        let original = expected(|key| &key.original);
        let names = KeyMap::identity("original").canonical_names(original.values().map(String::as_str)).unwrap();
        assert_eq!(names, original, "{variant}");
        let prefixed: Vec<String> = original.keys().map(|name| format!("model.diffusion_model.{name}")).collect();
        let names = KeyMap::identity("original").canonical_names(prefixed.iter().map(String::as_str)).unwrap();
        assert!(names.keys().eq(original.keys()), "{variant}");
    }
}

#[test]
fn shapes_tell_the_released_configurations() {
    for variant in VARIANTS {
        let (config, keys) = released(variant);
        let shapes: Vec<_> = keys.into_iter().map(|key| (key.original, key.shape)).collect();
        assert_eq!(WanConfig::infer(&shapes).unwrap(), config, "{variant}");
    }
}

#[test]
fn what_shapes_cannot_tell_is_an_error() {
    let (_, keys) = released("wan21_t2v_1.3b");
    let shapes: Vec<_> = keys.into_iter().map(|key| (key.original, key.shape)).collect();
    let error = |change: &dyn Fn(&mut Shapes)| {
        let mut shapes = shapes.clone();
        change(&mut shapes);
        WanConfig::infer(&shapes).unwrap_err().to_string()
    };
    let replace = |shapes: &mut Shapes, name: &str, shape: &[usize]| {
        shapes.iter_mut().find(|(n, _)| n == name).unwrap().1 = shape.to_vec();
    };
    let start = "the transformer's configuration cannot be told from its tensors: ";
    assert_eq!(error(&|s| s.clear()), format!("{start}there is no `patch_embedding.weight`"));
    assert_eq!(
        error(&|s| replace(s, "patch_embedding.weight", &[100, 16, 1, 2, 2])),
        format!("{start}a width of 100 is no multiple of the 128 of one head")
    );
    assert_eq!(
        error(&|s| replace(s, "head.head.weight", &[64])),
        format!("{start}`head.head.weight` has shape [64], expected 2 dimensions")
    );
    for (columns, problem) in
        [(0, "`patch_size` is 0, expected 1 to 64"), (usize::MAX, "`out_channels` is 0, expected 1 to 1048576")]
    {
        let message = error(&|s| replace(s, "patch_embedding.weight", &[1536, 16, 2, 2, columns]));
        assert_eq!(message, format!("the transformer's {problem}"));
    }
    let message = error(&|s| s.push(("blocks.0.cross_attn.k_img.weight".to_string(), vec![1536, 1536])));
    assert_eq!(
        message,
        "the transformer's `blocks.0.cross_attn.k_img.weight` is a tensor of shape [1536, 1536], which is not supported"
    );
}

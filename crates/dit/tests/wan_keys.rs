//! The Wan transformer asks for exactly the tensors that the released checkpoints have, in both layouts.

use kinora_checkpoint::{KeyMap, Weights};
use kinora_dit::wan::{WanConfig, WanModel, canonical_from_diffusers};
use kinora_test_support::fixture;
use std::collections::BTreeMap;

const VARIANTS: [&str; 8] = [
    "wan21_t2v_1.3b",
    "wan21_t2v_14b",
    "wan22_t2v_a14b",
    "wan22_ti2v_5b",
    "wan21_i2v_14b",
    "wan21_flf2v_14b",
    "wan22_i2v_a14b",
    "wan21_vace_1.3b",
];

/// The argument of [`WanConfig::infer`].
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
    let all = |blocks: usize| (format!("{{0..{blocks}}}"), blocks);
    let all_blocks = [all(config.num_layers), all(config.vace_layers.len())];
    let mut keys = Vec::new();
    for line in lines.lines() {
        let [diffusers, original, shape] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let shape: Vec<usize> = serde_json::from_str(shape).unwrap();
        let (pattern, blocks) =
            all_blocks.iter().find(|(pattern, _)| line.contains(pattern)).map_or(("{}", 1), |(p, n)| (p, *n));
        keys.extend((0..blocks).map(|i| Key {
            diffusers: diffusers.replace(pattern, &i.to_string()),
            original: original.replace(pattern, &i.to_string()),
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
    for name in ["blocks.0.cross_attn.k_img.weight", "ref_conv.weight", "motion_encoder.dec.direction.weight"] {
        let message = error(&|s| s.push((name.to_string(), vec![1536, 1536])));
        assert_eq!(
            message,
            format!("the transformer's `{name}` is a tensor of shape [1536, 1536], which is not supported")
        );
    }
    let message = error(&|s| s.extend((0..4).map(|i| (format!("vace_blocks.{i}.modulation"), vec![1, 6, 1536]))));
    assert_eq!(message, format!("{start}4 control blocks are not evenly spread over 30 blocks"));
}

/// Early conversions hold a norm that is never used.
#[test]
fn a_norm_that_nothing_goes_through_is_left_out() {
    let names = ["blocks.3.attn2.norm_added_q.weight", "blocks.3.attn2.norm_added_k.weight"];
    let names = canonical_from_diffusers().canonical_names(names).unwrap();
    assert_eq!(names.keys().collect::<Vec<_>>(), ["blocks.3.cross_attn.norm_k_img.weight"]);
}

/// Diffusers has no list of these: the adapter's names are those of diffsynth's `SimpleAdapter`, the dimensions those of
/// Wan2.1-Fun-V1.1-14B-Control-Camera in its model list (`in_dim` 32, with pictures).
#[test]
fn a_model_that_follows_a_camera_is_told_by_its_adapter() {
    let (_, keys) = released("wan21_i2v_14b");
    let mut shapes: Shapes = keys.into_iter().map(|key| (key.original, key.shape)).collect();
    shapes.iter_mut().find(|(name, _)| name == "patch_embedding.weight").unwrap().1 = vec![5120, 32, 1, 2, 2];
    shapes.push(("control_adapter.conv.weight".to_string(), vec![5120, 1536, 2, 2]));
    shapes.push(("control_adapter.conv.bias".to_string(), vec![5120]));
    for conv in ["conv1", "conv2"] {
        let name = format!("control_adapter.residual_blocks.0.{conv}");
        shapes.push((format!("{name}.weight"), vec![5120, 5120, 3, 3]));
        shapes.push((format!("{name}.bias"), vec![5120]));
    }
    let config = WanConfig::infer(&shapes).unwrap();
    assert_eq!((config.camera, config.in_channels, config.image_dim), (true, 32, Some(1280)));
    let weights = Weights::recorder();
    WanModel::new(&config, &weights).unwrap();
    assert_eq!(weights.asked(), shapes.into_iter().collect());
}

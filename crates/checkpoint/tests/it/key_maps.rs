//! Rules from one layout's names to canonical ones.

use crate::fixture;
use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{Error, KeyMap, Weights, save_safetensors};
use std::collections::BTreeMap;

/// diffusers' names of the Wan transformer.
fn wan() -> KeyMap {
    let mut rules: Vec<(String, String)> = [
        ("patch_embedding.{p}", "patch_embedding.{p}"),
        ("scale_shift_table", "head.modulation"),
        ("proj_out.{p}", "head.head.{p}"),
        ("condition_embedder.text_embedder.linear_1.{p}", "text_embedding.0.{p}"),
        ("condition_embedder.text_embedder.linear_2.{p}", "text_embedding.2.{p}"),
        ("condition_embedder.time_embedder.linear_1.{p}", "time_embedding.0.{p}"),
        ("condition_embedder.time_embedder.linear_2.{p}", "time_embedding.2.{p}"),
        ("condition_embedder.time_proj.{p}", "time_projection.1.{p}"),
        ("blocks.{i}.scale_shift_table", "blocks.{i}.modulation"),
        ("blocks.{i}.norm2.{p}", "blocks.{i}.norm3.{p}"),
        ("blocks.{i}.ffn.net.0.proj.{p}", "blocks.{i}.ffn.0.{p}"),
        ("blocks.{i}.ffn.net.2.{p}", "blocks.{i}.ffn.2.{p}"),
    ]
    .map(|(source, canonical)| (source.to_string(), canonical.to_string()))
    .to_vec();
    for (source, canonical) in [("attn1", "self_attn"), ("attn2", "cross_attn")] {
        let parts = [
            ("to_q", "q"),
            ("to_k", "k"),
            ("to_v", "v"),
            ("to_out.0", "o"),
            ("norm_q", "norm_q"),
            ("norm_k", "norm_k"),
        ];
        for (from, to) in parts {
            rules.push((format!("blocks.{{i}}.{source}.{from}.{{p}}"), format!("blocks.{{i}}.{canonical}.{to}.{{p}}")));
        }
    }
    KeyMap::new("diffusers", rules)
}

#[test]
fn real_names_of_both_layouts() {
    let text = std::fs::read_to_string(fixture("keys.txt")).unwrap();
    let pairs: BTreeMap<String, String> =
        text.lines().filter_map(|line| line.split_once('\t')).map(|(a, b)| (a.to_string(), b.to_string())).collect();
    assert_eq!(pairs.len(), 69);
    assert_eq!(wan().canonical_names(pairs.values().map(String::as_str)).unwrap(), pairs);
}

fn names(map: &KeyMap, sources: &[&str]) -> Result<Vec<String>, String> {
    map.canonical_names(sources.iter().copied()).map(|names| names.into_keys().collect()).map_err(|e| e.to_string())
}

#[test]
fn every_name_is_matched_by_exactly_one_rule() {
    let map = KeyMap::new("toy", [("a.{i}.w", "b.{i}"), ("b.{i}", "c.{i}"), ("x.{rest..}", "y.{rest..}")]);
    // Never chained: a.0.w becomes b.0 and stays it; b.0 becomes c.0.
    assert_eq!(names(&map, &["a.0.w", "b.0", "x.1.2.3"]).unwrap(), ["b.0", "c.0", "y.1.2.3"]);
    assert_eq!(
        names(&map, &["a.0.v"]).unwrap_err(),
        "tensor `a.0.v` is not known in the layout `toy`; did you mean `a.0.w`?"
    );
    assert_eq!(
        names(&map, &["a.0.w.w"]).unwrap_err(),
        "tensor `a.0.w.w` is not known in the layout `toy`; did you mean `a.0.w`?"
    );
    let ambiguous = KeyMap::new("toy", [("a.{i}", "b.{i}"), ("{x}.0", "c.{x}")]);
    assert_eq!(
        names(&ambiguous, &["a.0"]).unwrap_err(),
        "layout `toy` maps `a.0` twice: `a.{i}` -> `b.{i}` and `{x}.0` -> `c.{x}`"
    );
    let meeting = KeyMap::new("toy", [("a", "c"), ("b", "c")]);
    assert_eq!(names(&meeting, &["a", "b"]).unwrap_err(), "layout `toy` maps `c` twice: `a` and `b`");
    let unbound = KeyMap::new("toy", [("a.{i}", "b.{j}")]);
    assert_eq!(
        names(&unbound, &["a.0"]).unwrap_err(),
        "layout `toy`: the rule `a.{i}` -> `b.{j}` uses an unknown placeholder"
    );
}

#[test]
fn prefixes_are_found_in_the_names() {
    let map = KeyMap::new("toy", [("model.{i}", "m.{i}")]);
    // The rules' own `model.` is not a prefix.
    assert_eq!(names(&map, &["model.0", "model.1"]).unwrap(), ["m.0", "m.1"]);
    assert_eq!(
        names(&map, &["model.diffusion_model.model.0", "model.diffusion_model.model.1"]).unwrap(),
        ["m.0", "m.1"]
    );
    for prefix in ["_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "pipe.dit.", "net.", "model.model."] {
        let prefixed = [0, 1].map(|index| format!("{prefix}model.{index}"));
        assert_eq!(names(&map, &prefixed.each_ref().map(String::as_str)).unwrap(), ["m.0", "m.1"], "{prefix}");
        let anchored = KeyMap::identity("original").anchored(["first.w"]);
        let prefixed = ["first.w", "second.w"].map(|name| format!("{prefix}{name}"));
        let found = names(&anchored, &prefixed.each_ref().map(String::as_str)).unwrap();
        assert_eq!(found, ["first.w", "second.w"], "{prefix}");
    }
    let wrapped = ["model.0", "model._orig_mod.1", "module.model.2"];
    assert_eq!(names(&map, &wrapped).unwrap(), ["m.0", "m.1", "m.2"]);
    assert_eq!(
        names(&map, &["model.0", "model._orig_mod.0"]).unwrap_err(),
        "layout `toy` maps `model.0` twice: `model.0` and `model._orig_mod.0`"
    );
    assert_eq!(
        names(&map, &["a.b.c", "a.b.d"]).unwrap_err(),
        "2 tensors (`a.b.c`, `a.b.d`) are not known in the layout `toy`; all names begin with `a.b.`"
    );
    let original = KeyMap::identity("original");
    assert_eq!(names(&original, &["model.diffusion_model.a.b", "model.diffusion_model.c"]).unwrap(), ["a.b", "c"]);
    assert_eq!(names(&original, &["model.a", "b"]).unwrap(), ["b", "model.a"]);
    assert!(names(&original, &[]).unwrap().is_empty());
}

#[test]
fn only_listed_names_are_dropped() {
    let map = KeyMap::new("toy", [("shared.weight", "table"), ("encoder.table.weight", "table")])
        .dropping(["{x}.position_ids"])
        .dropping_duplicate("shared.weight", "encoder.table.weight");
    assert_eq!(names(&map, &["shared.weight", "encoder.table.weight", "a.position_ids"]).unwrap(), ["table"]);
    assert_eq!(names(&map, &["shared.weight"]).unwrap(), ["table"]);
    assert_eq!(names(&map, &["module.shared.weight", "module.encoder.table.weight"]).unwrap(), ["table"]);
    assert!(names(&map, &["shared.weight", "a.b.position_ids"]).is_err());
}

#[test]
fn the_map_that_knows_all_names_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let open = |names: &[&str]| {
        let tensors =
            names.iter().map(|name| ((*name).to_string(), Tensor::ones(2, DType::F32, &Device::Cpu).unwrap()));
        save_safetensors(&path, &tensors.collect::<Vec<_>>(), &BTreeMap::new()).unwrap();
        let maps = [&wan(), &KeyMap::identity("original")];
        Weights::open(std::slice::from_ref(&path), &maps, &Device::Cpu, DType::F32)
    };
    let weights = open(&["scale_shift_table", "blocks.0.attn1.to_q.weight", "blocks.0.norm2.bias"]).unwrap();
    assert!(weights.contains("head.modulation") && weights.contains("blocks.0.norm3.bias"));
    let weights =
        open(&["model.diffusion_model.head.modulation", "model.diffusion_model.patch_embedding.bias"]).unwrap();
    assert!(weights.pp("head").contains("modulation") && weights.contains("patch_embedding.bias"));
    // One strange tensor in a diffusers file is reported as such.
    let strange =
        open(&["scale_shift_table", "blocks.0.attn1.to_q.weight", "blocks.0.attn3.to_q.weight"]).err().unwrap();
    assert_eq!(
        strange.to_string(),
        "tensor `blocks.0.attn3.to_q.weight` is not known in the layout `diffusers`; \
         did you mean `blocks.0.attn1.to_q.weight`?"
    );
    assert!(matches!(strange, Error::Unmapped { .. }));
}

//! Which names of a folder are weights, and which of them belong together.

use kinora_checkpoint::WeightSet;

/// The files that are opened of the folder's component; several sets are separated by `|`.
fn of_component(names: &[&str]) -> String {
    let sets = WeightSet::of_component(names);
    sets.iter().map(|set| set.opened().join(" ")).collect::<Vec<_>>().join(" | ")
}

#[test]
fn usual_names_come_first() {
    let all = [
        "config.json",
        "diffusion_pytorch_model.bin",
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.safetensors.index.json",
        "ema.safetensors",
        "model.safetensors",
        "pytorch_model.safetensors",
    ];
    assert_eq!(of_component(&all), "diffusion_pytorch_model.safetensors.index.json");
    let left =
        |removed: &[&str]| of_component(&all.iter().copied().filter(|n| !removed.contains(n)).collect::<Vec<_>>());
    let mut removed = vec![all[4]];
    for next in [all[3], all[6], all[7], all[1], all[2], all[5], ""] {
        assert_eq!(left(&removed), next);
        removed.push(next);
    }
}

#[test]
fn shards_belong_together() {
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    assert_eq!(of_component(&shards), shards.join(" "));
    assert_eq!(of_component(&[&shards[..], &["model.safetensors"]].concat()), "model.safetensors");
    let index = [&shards[..], &["model.safetensors.index.json"]].concat();
    assert_eq!(of_component(&index), "model.safetensors.index.json");
    assert_eq!(WeightSet::of_component(&index)[0].files, shards);
    let variants = [
        ["model.fp16-00001-of-00001.safetensors", "model.safetensors.index.fp16.json"],
        ["model-00001-of-00001.fp16.safetensors", "model.safetensors.fp16.index.json"],
        ["model.fp16-00001-of-00001.safetensors", "model.fp16.safetensors.index.json"],
    ];
    for [shard, index] in variants {
        let sets = WeightSet::all(&[shard, index]);
        assert_eq!(sets.len(), 1, "{sets:?}");
        assert_eq!((sets[0].index.as_deref(), sets[0].files.as_slice()), (Some(index), &[shard.to_string()][..]));
    }
    assert_eq!(of_component(&["pytorch_model-1-of-2.bin", "pytorch_model-2-of-2.bin"]).split(' ').count(), 2);
}

#[test]
fn a_shard_that_is_missing_is_named() {
    let missing = |names: &[&str]| WeightSet::all(names)[0].missing_shard();
    assert_eq!(
        missing(&["a-00003-of-00003.fp8.safetensors", "a-00001-of-00003.fp8.safetensors"]).as_deref(),
        Some("a-00002-of-00003.fp8.safetensors")
    );
    assert_eq!(missing(&["a-1-of-2.bin", "a-2-of-2.bin"]), None);
    assert_eq!(missing(&["a.safetensors"]), None);
    assert_eq!(missing(&["a.safetensors.index.json", "a-1-of-2.safetensors"]), None);
}

#[test]
fn equally_likely_sets_are_all_told() {
    let two = ["model.bf16.safetensors", "model.fp16.safetensors"];
    assert_eq!(of_component(&two), two.join(" | "));
    assert_eq!(of_component(&["model.bf16.safetensors", "pytorch_model.fp16.bin"]), "model.bf16.safetensors");
    assert_eq!(of_component(&["a.safetensors", "b.safetensors"]), "a.safetensors | b.safetensors");
    assert_eq!(of_component(&["a.safetensors", "x.safetensors.index.json"]), "x.safetensors.index.json");
    assert_eq!(of_component(&["odd name.safetensors", "notes.txt"]), "odd name.safetensors");
    assert_eq!(of_component(&["config.json", "index.json", "a.safetensors.indexed.json"]), "");
}

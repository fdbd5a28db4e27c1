//! Checkpoints in several files.

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{Error, Weights, save_safetensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const INDEX: &str = "model.safetensors.index.json";

fn write(folder: &Path, file: &str, names: &[&str]) -> PathBuf {
    let tensor = |(i, name): (usize, &&str)| {
        ((*name).to_string(), Tensor::new(&[i as f32, 2.0], &Device::Cpu).unwrap().to_dtype(DType::BF16).unwrap())
    };
    let tensors: Vec<_> = names.iter().enumerate().map(tensor).collect();
    save_safetensors(&folder.join(file), &tensors, &BTreeMap::new()).unwrap();
    folder.join(file)
}

fn write_index(folder: &Path, map: &[(&str, &str)]) -> PathBuf {
    let map: BTreeMap<_, _> = map.iter().copied().collect();
    let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
    std::fs::write(folder.join(INDEX), index.to_string()).unwrap();
    folder.join(INDEX)
}

fn open(files: &[PathBuf]) -> Result<Weights, Error> {
    Weights::open(files, &[], &Device::Cpu, DType::F32)
}

#[test]
fn shards_are_one_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let first = write(folder.path(), "model-00001-of-00002.safetensors", &["a", "b"]);
    let second = write(folder.path(), "model-00002-of-00002.safetensors", &["c"]);
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let index = write_index(folder.path(), &[("a", one), ("b", one), ("c", two)]);
    for files in [vec![index], vec![first.clone(), second.clone()], vec![second.clone()]] {
        let weights = open(&files).unwrap();
        assert_eq!(weights.get("b", 2).unwrap().to_vec1::<f32>().unwrap(), [1.0, 2.0]);
        assert_eq!(weights.finish().unwrap_err().to_string(), "2 of the checkpoint's tensors were not used: `a`, `c`");
        weights.get("a", 2).unwrap();
        weights.get("c", 2).unwrap();
        let report = weights.finish().unwrap();
        assert_eq!((report.tensors, report.parameters, report.bytes), (3, 6, 12));
        assert_eq!(report.dtypes, BTreeMap::from([("bf16".to_string(), 3)]));
    }
    std::fs::rename(&first, folder.path().join("moved.safetensors")).unwrap();
    let alone = open(std::slice::from_ref(&second)).err().unwrap().to_string();
    assert!(alone.ends_with("shard `model-00001-of-00002.safetensors` is missing"), "{alone}");
    std::fs::rename(folder.path().join("moved.safetensors"), &first).unwrap();
    let twice = open(&[first.clone(), first]).err().unwrap();
    assert!(matches!(&twice, Error::TwoFiles { name, .. } if name == "a"), "{twice}");
}

#[test]
fn shards_stay_in_the_folder() {
    let outer = tempfile::tempdir().unwrap();
    write(outer.path(), "outside.safetensors", &["a"]);
    let folder = outer.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    let absolute = outer.path().join("outside.safetensors");
    for shard in ["../outside.safetensors", absolute.to_str().unwrap(), "./x", "sub/x", "..", "", "a\\b", "x/"] {
        let error = open(&[write_index(&folder, &[("a", shard)])]).err().unwrap();
        assert!(matches!(&error, Error::ShardOutside { shard: named, .. } if named == shard), "{error}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn missing_shards_and_tensors_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "one.safetensors", &["a"]);
    let message = |index: &PathBuf| {
        let error = open(std::slice::from_ref(index)).err().unwrap().to_string();
        error.split_once("index.json: ").unwrap().1.to_string()
    };
    let index = write_index(folder.path(), &[("a", "one.safetensors"), ("b", "two.safetensors")]);
    assert_eq!(message(&index), "shard `two.safetensors` is missing");
    let index = write_index(folder.path(), &[("a", "one.safetensors"), ("b", "one.safetensors")]);
    assert_eq!(message(&index), "tensor `b`: the index says it is in `one.safetensors`, but it is not");
    std::fs::write(&index, "{\"weight_map\": 3}").unwrap();
    assert!(message(&index).starts_with("not an index of shards: invalid type"));
}

//! LoRA files: every naming and kind against plain loops, and what is refused.

mod kinds;
mod mutated;
mod refused;

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::{Changes, Error, KeyMap, LoraFile, LoraTarget, save_safetensors};
use kinora_test_support::{random, values};
use std::collections::BTreeMap;
use tempfile::TempDir;

/// A LoRA's tensors by key.
type Tensors = Vec<(String, Tensor)>;

/// A model of eleven blocks with one linear layer, a norm and a modulation each, and a convolution.
fn target() -> LoraTarget {
    let maps = key_maps();
    LoraTarget::new(shapes(), &maps).with_siblings(siblings(), &maps)
}

fn key_maps() -> [KeyMap; 1] {
    let rules = [
        ("blocks.{i}.attn1.to_q.{p}", "blocks.{i}.self_attn.q.{p}"),
        ("blocks.{i}.attn2.add_k_proj.{p}", "blocks.{i}.cross_attn.k_img.{p}"),
        ("blocks.{i}.norm2.{p}", "blocks.{i}.norm3.{p}"),
        ("blocks.{i}.scale_shift_table", "blocks.{i}.modulation"),
        ("patch_embedding.{p}", "patch_embedding.{p}"),
    ];
    [KeyMap::new("diffusers", rules)]
}

fn shapes() -> Vec<(String, Vec<usize>)> {
    let block = |i: usize| {
        [
            (format!("blocks.{i}.self_attn.q.weight"), vec![6, 4]),
            (format!("blocks.{i}.self_attn.q.bias"), vec![6]),
            (format!("blocks.{i}.norm3.weight"), vec![4]),
            (format!("blocks.{i}.modulation"), vec![1, 3, 4]),
        ]
    };
    let mut shapes: Vec<_> = (0..11).flat_map(block).collect();
    shapes.push(("patch_embedding.weight".to_string(), vec![6, 2, 1, 2, 2]));
    shapes
}

fn siblings() -> Vec<String> {
    let mut names: Vec<String> = (0..11).map(|i| format!("blocks.{i}.cross_attn.k_img.weight")).collect();
    names.push("img_emb.proj.0.weight".to_string());
    names.extend(shapes().into_iter().map(|(name, _)| name));
    names
}

/// The file with these tensors and header fields.
fn file(tensors: &[(String, Tensor)], metadata: &[(&str, &str)]) -> (TempDir, Result<LoraFile, Error>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("style.safetensors");
    let metadata: BTreeMap<_, _> = metadata.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
    save_safetensors(&path, tensors, &metadata).unwrap();
    let file = LoraFile::open(&path);
    (folder, file)
}

fn changes(tensors: &[(String, Tensor)], metadata: &[(&str, &str)], strength: f32) -> Result<Changes, Error> {
    file(tensors, metadata).1?.changes(&target(), strength)
}

fn named(tensors: &[(&str, Tensor)]) -> Tensors {
    tensors.iter().map(|(name, tensor)| ((*name).to_string(), tensor.clone())).collect()
}

fn number(value: f32) -> Tensor {
    Tensor::new(value, &Device::Cpu).unwrap()
}

/// The changed tensor, f32, of a model whose tensor is `original`.
fn applied(changes: &Changes, name: &str, original: &Tensor) -> Vec<f32> {
    values(&changes.apply(name, original, DType::F32).unwrap())
}

/// The product of `up [o, r]` and `down [r, i]`, by plain loops.
fn product(up: &[f32], down: &[f32], rank: usize) -> Vec<f32> {
    let (outputs, inputs) = (up.len() / rank, down.len() / rank);
    let mut result = vec![0.0; outputs * inputs];
    for o in 0..outputs {
        for i in 0..inputs {
            for r in 0..rank {
                result[o * inputs + i] += up[o * rank + r] * down[r * inputs + i];
            }
        }
    }
    result
}

/// `original + scale · delta`.
fn plus(original: &Tensor, delta: &[f32], scale: f32) -> Vec<f32> {
    values(original).iter().zip(delta).map(|(x, d)| x + scale * d).collect()
}

fn close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 2e-6 * scale, "{what}: {found} is not {expected}");
    }
}

/// `down [2, 4]` and `up [6, 2]` of the linear layer of a block.
fn pair(seed: u64) -> (Tensor, Tensor) {
    (random((2, 4), seed), random((6, 2), seed + 1))
}

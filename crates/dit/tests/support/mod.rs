//! Fixtures and comparison for the tests of this crate.

#![allow(dead_code)] // Each test binary uses a part.

use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_dit::wan::{WanConfig, WanModel, canonical_from_diffusers};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

pub fn load(path: &Path) -> BTreeMap<String, Tensor> {
    let tensors: HashMap<String, Tensor> = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    tensors.into_iter().collect()
}

/// One transformer of a diffusers directory, every tensor of it used.
pub fn model(case: &str, net: &str, dtype: DType) -> WanModel {
    let folder = fixture(case).join(net);
    let config = WanConfig::from_diffusers_config(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let single = folder.join("diffusion_pytorch_model.safetensors");
    let index = folder.join("diffusion_pytorch_model.safetensors.index.json");
    let file = if single.exists() { single } else { index };
    let weights = Weights::open(&[file], &[&canonical_from_diffusers()], &Device::Cpu, dtype).unwrap();
    let model = WanModel::new(&config, &weights).unwrap();
    weights.finish().unwrap();
    model
}

/// `‖a − b‖ / ‖b‖`, in f64.
pub fn relative_l2(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let (a, b) = (wide(a), wide(b));
    let difference: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
    (difference / b.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

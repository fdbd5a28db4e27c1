//! Transformers of the fixtures.

use candle_core::{DType, Device};
use kinora_checkpoint::Weights;
use kinora_dit::wan::{WanConfig, WanModel, canonical_from_diffusers};
use kinora_test_support::fixture;

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

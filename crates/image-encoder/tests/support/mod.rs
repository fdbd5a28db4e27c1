//! Shared helpers of this crate's tests.
#![allow(dead_code)] // each test file uses a part

use candle_core::{DType, Tensor};
use kinora_checkpoint::load_safetensors;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// The tensors of a fixture, and the strings beside them.
pub fn tensors(name: &str) -> (BTreeMap<String, Tensor>, BTreeMap<String, String>) {
    load_safetensors(&fixture(name)).unwrap()
}

pub fn relative_l2(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
    let norm = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
    (norm(&(wide(found) - wide(expected)).unwrap()) / norm(&wide(expected))).sqrt()
}

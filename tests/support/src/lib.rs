//! Fixtures, distances and inputs for the tests of every crate.
#![allow(clippy::missing_panics_doc, reason = "tests panic when something is wrong")]

pub mod gguf;
pub mod stored;

use candle_core::{DType, Device, Shape, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The repository's root: where the tests were compiled, or where `KINORA_SOURCE` says, on another machine.
pub fn root() -> PathBuf {
    if let Some(source) = std::env::var_os("KINORA_SOURCE") {
        return source.into();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.ancestors().nth(2).expect("tests/support has a parent").to_path_buf()
}

/// A path below `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name)
}

/// The tensors of a safetensors file, by name.
pub fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    tensors_and_metadata(path).0
}

/// The tensors of a safetensors file, and the strings beside them, by name.
pub fn tensors_and_metadata(path: &Path) -> (BTreeMap<String, Tensor>, BTreeMap<String, String>) {
    kinora_checkpoint::load_safetensors(path).unwrap_or_else(|error| panic!("{error}"))
}

/// All elements, in order, as f32.
pub fn values(x: &Tensor) -> Vec<f32> {
    x.to_dtype(DType::F32).and_then(|x| x.flatten_all()?.to_vec1()).expect("every dtype has f32")
}

/// The bit patterns of all elements as f32, which tell -0 from 0 and one NaN from another.
pub fn bits(x: &Tensor) -> Vec<u32> {
    values(x).into_iter().map(f32::to_bits).collect()
}

/// Whether two tensors of one dtype hold the same bits.
pub fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    (a.dtype(), a.dims()) == (b.dtype(), b.dims()) && bits(a) == bits(b)
}

/// `‖found − expected‖₂ / ‖expected‖₂`.
pub fn relative_l2(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = pair(found, expected);
    let error: f64 = found.iter().zip(&expected).map(|(found, expected)| (found - expected).powi(2)).sum();
    let scale: f64 = expected.iter().map(|expected| expected.powi(2)).sum();
    (error / scale.max(f64::MIN_POSITIVE)).sqrt()
}

/// The largest difference, relative to the largest value of `expected`.
pub fn max_error(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = pair(found, expected);
    let largest = |values: &mut dyn Iterator<Item = f64>| {
        // A NaN must not pass for a small number.
        values.fold(0.0, |largest: f64, value| if value.abs() <= largest { largest } else { value.abs() })
    };
    let error = largest(&mut found.iter().zip(&expected).map(|(found, expected)| found - expected));
    error / largest(&mut expected.iter().copied())
}

/// The cosine of the angle between two tensors.
pub fn cosine(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = pair(a, b);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
}

/// The elements of two tensors of one shape, as f64.
fn pair(a: &Tensor, b: &Tensor) -> (Vec<f64>, Vec<f64>) {
    assert_eq!(a.dims(), b.dims());
    let wide =
        |x: &Tensor| x.to_dtype(DType::F64).and_then(|x| x.flatten_all()?.to_vec1()).expect("every dtype has f64");
    (wide(a), wide(b))
}

/// Numbers in -2..2 from a linear congruential generator, f32.
pub fn random(shape: impl Into<Shape>, seed: u64) -> Tensor {
    let shape = shape.into();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let values: Vec<f32> = (0..shape.elem_count())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 22) as f32 - 2.0
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape has")
}

//! Inputs of the tests, and how far results are apart.

use candle_core::{DType, Device, Shape, Tensor};

/// Numbers in -2..2 from a linear congruential generator.
pub fn random(shape: impl Into<Shape>, seed: u64) -> Tensor {
    let shape = shape.into();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let values: Vec<f32> = (0..shape.elem_count())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 22) as f32 - 2.0
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// All elements, in order, as f32.
pub fn values(x: &Tensor) -> Vec<f32> {
    x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// `‖found - expected‖ / ‖expected‖`.
pub fn relative_l2(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let (mut error, mut scale) = (0f64, 0f64);
    for (found, expected) in values(found).into_iter().zip(values(expected)) {
        error += f64::from(found - expected).powi(2);
        scale += f64::from(expected).powi(2);
    }
    (error / scale.max(f64::MIN_POSITIVE)).sqrt()
}

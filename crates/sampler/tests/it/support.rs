//! Fixtures, distances and the pseudo-network.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use kinora_sampler::{Error, Sampler, StepInfo, Streams, x0_from_velocity};

pub type Fixture = HashMap<String, Tensor>;

pub fn fixture(name: &str) -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/sampler").join(name);
    candle_core::safetensors::load(&path, &Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

/// Bit patterns, which tell -0 from 0 and one NaN from another.
pub fn bits(x: &Tensor) -> Vec<u32> {
    values(x).into_iter().map(f32::to_bits).collect()
}

pub fn relative_l2(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = (values(found), values(expected));
    assert_eq!(found.len(), expected.len());
    let square = |pairs: Vec<(f32, f32)>| pairs.iter().map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    let norm = square(expected.iter().map(|&b| (b, 0.0)).collect());
    (square(found.into_iter().zip(expected).collect()) / norm).sqrt()
}

/// Returns the estimates of x0 of the pseudo-network, which is the same for every stream; scripts/fixtures/sampler.py has
/// the same velocity.
pub fn denoise(x: &Streams, info: StepInfo) -> Result<Streams, Error> {
    x.map(|_, x| {
        let sin = ((x * 1.5)?.sin()? * 0.6)?;
        let velocity = (((x * 0.4)? + sin)? + (0.3 * info.sigma - 0.1))?;
        Ok(x0_from_velocity(x, &velocity, info.sigma)?)
    })
}

/// Returns NaN in every stream.
pub fn not_finite(x: &Streams) -> Result<Streams, Error> {
    x.map(|_, x| Ok((x * f64::NAN)?))
}

/// Returns the latents of a sampler that has only the stream `video`.
pub fn video(sampler: &Sampler) -> &Tensor {
    sampler.x().get("video").unwrap()
}

pub fn finish(sampler: &mut Sampler) {
    while !sampler.is_done() {
        sampler.step(&mut denoise).unwrap();
    }
}

//! Fixtures and the pseudo-network.

use std::collections::BTreeMap;

use candle_core::Tensor;
use kinora_sampler::{Error, Sampler, StepInfo, Streams, x0_from_velocity};
pub use kinora_test_support::{bits, relative_l2, values};

pub type Fixture = BTreeMap<String, Tensor>;

pub fn fixture(name: &str) -> Fixture {
    kinora_test_support::tensors(&kinora_test_support::fixture("sampler").join(name))
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

//! Schedules, samplers, guidance and seeded noise; never sees a network.
//!
//! Flow models: `x = (1 - sigma) * x0 + sigma * noise`, sigma from 1 (noise) to 0 (clip), and the network gives the
//! velocity `noise - x0`. A [`Sampler`] walks a [`Schedule`] and sees only `denoised`, the estimate of x0, which its
//! caller makes out of network calls, [`cfg()`] and [`x0_from_velocity`]:
//!
//! ```
//! use kinora_sampler::{NoiseSource, Sampler, SamplerKind, Schedule, StepInfo, x0_from_velocity};
//! use candle_core::{Device, Tensor};
//!
//! # fn main() -> Result<(), kinora_sampler::Error> {
//! let seed = 42;
//! let noise = NoiseSource::new(seed).randn_tensor((1, 16, 5, 8, 10), &Device::Cpu)?;
//! let schedule = Schedule::flow(20, 5.0)?;
//! let mut sampler = Sampler::new(SamplerKind::UniPc, schedule, noise, seed)?;
//! let mut denoise = |x: &Tensor, info: StepInfo| {
//!     let velocity = (x * 0.5)?; // a network would be called here, with info.timestep
//!     Ok::<_, kinora_sampler::Error>(x0_from_velocity(x, &velocity, info.sigma)?)
//! };
//! while !sampler.is_done() {
//!     sampler.step(&mut denoise)?;
//! }
//! let latents = sampler.x();
//! # Ok(())
//! # }
//! ```

mod error;
mod finite;
mod guidance;
mod kind;
mod noise;
mod sampler;
mod schedule;
mod solvers;
mod state;
mod unipc;

pub use error::Error;
pub use finite::{all_finite, check_finite};
pub use guidance::{cfg, cfg_zero_star, x0_from_velocity};
pub use kind::SamplerKind;
pub use noise::NoiseSource;
pub use sampler::{Sampler, StepInfo};
pub use schedule::{MAX_STEPS, Schedule, TRAIN_TIMESTEPS};
pub use state::SamplerState;

//! Schedules, samplers, guidance and seeded noise; knows no network.
//!
//! Flow models: `x = (1 - sigma) * x0 + sigma * noise`, sigma from 1 (noise) to 0 (clip), and the network gives the
//! velocity `noise - x0`. A [`Sampler`] walks a [`Schedule`] with the latents of one stream or of several ([`Streams`]).
//! It sees only `denoised`, the estimate of x0, which its caller computes from network calls, [`x0_from_velocity`], and
//! [`cfg()`] of two velocities or [`guided`] of up to four estimates:
//!
//! ```
//! use kinora_sampler::{Error, NoiseSource, Sampler, SamplerKind, Schedule, StepInfo, Streams, x0_from_velocity};
//! use candle_core::Device;
//!
//! # fn main() -> Result<(), Error> {
//! let seed = 42;
//! let noise = NoiseSource::new(seed).randn_tensor((1, 16, 5, 8, 10), &Device::Cpu)?;
//! let schedule = Schedule::flow(20, 5.0)?;
//! let mut sampler = Sampler::new(SamplerKind::UniPc, schedule, Streams::single("video", noise), seed)?;
//! let mut denoise = |x: &Streams, info: StepInfo| {
//!     let velocity = x.map(|_, x| x * 0.5)?; // a network would be called here, with info.timestep
//!     x.zip(&velocity, |_, x, velocity| Ok::<_, Error>(x0_from_velocity(x, velocity, info.sigma)?))
//! };
//! while !sampler.is_done() {
//!     sampler.step(&mut denoise)?;
//! }
//! let latents = sampler.x().get("video")?;
//! # Ok(())
//! # }
//! ```

mod error;
mod finite;
mod guidance;
mod guided;
mod held;
mod kind;
mod noise;
mod sampler;
mod schedule;
mod shift;
mod solvers;
mod state;
mod streams;
mod unipc;

pub use error::Error;
pub use finite::{all_finite, check_finite};
pub use guidance::{cfg, cfg_zero_star, x0_from_velocity};
pub use guided::{Estimates, Guidance, guided};
pub use held::Held;
pub use kind::SamplerKind;
pub use noise::NoiseSource;
pub use sampler::{Sampler, StepInfo};
pub use schedule::{MAX_STEPS, Schedule};
pub use shift::DynamicShift;
pub use state::SamplerState;
pub use streams::Streams;

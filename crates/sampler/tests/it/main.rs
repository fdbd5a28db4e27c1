//! Tests of the sampler crate. Expected numbers are torch's and diffusers' (scripts/fixtures/sampler.py, guided.py).

mod convergence;
mod errors;
mod goldens;
mod guidance;
mod guided;
mod noise;
mod resume;
mod schedule;
mod streams;
mod support;

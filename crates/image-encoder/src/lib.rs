//! Image encoders: a picture to the hidden states that a video diffusion model is conditioned on.
//!
//! An [`ImageEncoder`] says to which size a picture is to be resized, and does the rest: [`ClipPreprocess`] crops and
//! normalises, [`ClipVision`] computes.

mod clip;
mod error;
mod stage;

pub use clip::{Activation, ClipPreprocess, ClipVision, ClipVisionConfig, key_maps};
pub use error::{Error, Result};
pub use stage::{ImageEncoder, ImageStage};

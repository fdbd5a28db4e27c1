//! Image encoders: from a picture to the hidden states that a video diffusion model is conditioned on.
//!
//! An [`ImageEncoder`] returns the size to which a picture is to be resized, and encodes it: [`ClipPreprocess`] crops and
//! normalises, [`ClipVision`] is the network.

mod clip;
mod error;
mod stage;

pub use clip::{Activation, ClipPreprocess, ClipVision, ClipVisionConfig, key_maps};
pub use error::{Error, Result};
pub use stage::{ImageEncoder, ImageStage};

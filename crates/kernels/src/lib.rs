//! The hot operators of video diffusion, as free functions over candle tensors.
//!
//! Every operator has one entry function here, checked for shape and dispatched by device, and one slow, obvious
//! version in [`mod@reference`] that is the oracle of every fast one. The models use nothing else for work that scales
//! with the clip.

mod attention;
mod conv;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod dispatch;
mod elementwise;
mod level;
mod linear;
mod memory;
mod norm;
mod outliers;
mod peak;
pub mod profile;
pub mod reference;
mod rope;

use dispatch::on_cuda;

pub use attention::{attention, attention_fp8, attention_int8, attention_relative};
#[cfg(feature = "cuda")]
pub use cuda::{built_for as cuda_built_for, open as open_cuda};
pub use conv::{FrameConv, FrameConvOptions};
pub use elementwise::{gate_residual, gelu_erf, gelu_tanh, modulate, silu};
pub use level::{LEVEL_VARIABLE, Level, UnknownLevel};
pub use linear::{Epilogue, LinearWeight, linear};
pub use memory::LargeBlocks;
pub use norm::{channel_rms_norm, channel_rms_norm_silu, layer_norm, layer_norm_modulate, rms_norm};
pub use peak::{Peak, peak};
pub use rope::{rms_norm_rope, rope};

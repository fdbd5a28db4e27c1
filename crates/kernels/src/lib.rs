//! The hot operators of video diffusion, as free functions over candle tensors.
//!
//! Every operator has one entry function here, checked for shape and dispatched by device, and one slow, obvious
//! version in [`mod@reference`] that is the oracle of every fast one. The models use nothing else for work that scales
//! with the clip.

mod attention;
mod blocks;
mod conv;
mod cores;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "without_cuda.rs"]
mod cuda;
mod dispatch;
mod elementwise;
mod gpu_memory;
mod level;
mod linear;
mod memory;
mod norm;
mod outliers;
mod peak;
pub mod profile;
mod rates;
pub mod reference;
mod repeat;
mod replay;
mod rope;
mod snake;
mod softmax;

use dispatch::on_cuda;

pub use attention::{attention, attention_fp8, attention_int8, attention_relative};
pub use blocks::{BLOCK, BlockMask, Choice, attention_blocks, attention_int8_blocks, choose_blocks};
pub use conv::{FrameConv, FrameConvOptions};
pub use cores::performance_cores;
pub use cuda::{HostTensors, Uploader};
#[cfg(feature = "cuda")]
pub use cuda::{built_for as cuda_built_for, open as open_cuda};
pub use elementwise::{
    gate_heads, gate_residual, gelu_erf, gelu_tanh, leaky_relu, modulate, parameter_free_attention, silu,
};
pub use gpu_memory::{gpu_free_bytes, gpu_peak_bytes, gpu_reset_peak_bytes};
pub use level::{LEVEL_VARIABLE, Level, UnknownLevel};
pub use linear::{Epilogue, Layer, LinearWeight, Prologue, Side, linear, linear_after, linear_each, mlp};
pub use memory::{LargeBlocks, OrElse};
pub use norm::{
    channel_rms_norm, channel_rms_norm_silu, layer_norm, layer_norm_modulate, rms_norm, rms_norm_modulate,
    rms_norm_silu,
};
pub use peak::{Peak, peak};
pub use rates::{OperatorRates, Rates, instructions, rates};
pub use repeat::{Repeat, repeat_channels};
pub use replay::Replay;
pub use rope::{rms_norm_rope, rms_norm_rope_split, rope};
pub use snake::{SNAKE_TAPS, Snake};

//! Blocks that the models share, on top of the kernels.

mod conv;
mod embedding;
mod linear;
mod norm;
mod timestep;

pub use conv::{CausalCache, CausalConv3d, Conv2d};
pub use embedding::Embedding;
pub use linear::Linear;
pub use norm::{ChannelRmsNorm, LayerNorm, RmsNorm};
pub use timestep::timestep_embedding;

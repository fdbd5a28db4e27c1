//! Blocks that the models share, on top of the kernels.

mod linear;
mod norm;
mod timestep;

pub use linear::Linear;
pub use norm::{LayerNorm, RmsNorm};
pub use timestep::timestep_embedding;

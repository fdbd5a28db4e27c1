//! How checkpoints store numbers, and which numbers that are: [`Format`] of elements, [`Blocks`] of ggml, and [`Matrix`], a
//! matrix as it is stored, with the scales and the rotation that belong to it.
//!
//! Everything here is exact or rounds once, so that two readers of a file get the same bits.

mod blocks;
mod float;
mod format;
mod matrix;
mod rotate;
mod scales;

pub use blocks::{Blocks, Unpacked};
pub use float::{f32_from_e2m1, f32_from_e4m3, f32_from_e5m2, f32_from_e8m0};
pub use format::Format;
pub use matrix::{Matrix, Parts};
pub use rotate::{is_rotation, rotate};
pub use scales::{BlockScales, Scales, deswizzled};

//! A network that enlarges pictures one by one: [`Span`] is the network, and [`Span::enlarge`] takes a frame through it in
//! tiles, so that memory depends neither on the clip's length nor, beside the frames themselves, on their size.

mod memory;
mod span;
mod tiles;

pub use memory::{bytes, operations};
pub use span::{SCALE, Span};

//! The weights of the SPAN network that enlarges frames; `README.md` says where they come from.

/// Safetensors: weights in f16, biases and the mean colour in f32, by the names of the original release.
pub static WEIGHTS: &[u8] = include_bytes!("span_x4.safetensors");

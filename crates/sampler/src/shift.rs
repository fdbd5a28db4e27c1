//! [`DynamicShift`]: a shift that depends on the size of the clip.

use serde::{Deserialize, Serialize};

/// A shift whose logarithm is linear in the number of tokens, as diffusers' `calculate_shift` has it: larger clips are
/// denoised longer at high noise levels. Beyond the two numbers it goes on in a line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicShift {
    /// Two different numbers of tokens.
    pub tokens: [usize; 2],
    /// The logarithm of the shift at each of them (diffusers' mu).
    pub log: [f64; 2],
}

impl DynamicShift {
    /// Returns the shift for latents of so many tokens.
    pub fn shift(&self, tokens: usize) -> f64 {
        let ([few, many], [low, high]) = (self.tokens.map(|tokens| tokens as f64), self.log);
        let slope = (high - low) / (many - few);
        libm::exp(tokens as f64 * slope + (low - slope * few))
    }
}

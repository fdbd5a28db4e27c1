//! What depends on the places of tokens: the angles of the rotary embedding, and which keys a query sees.

use super::config::AttentionConfig;
use candle_core::{Device, Result, Tensor};

/// The tables of one text for layers of one kind.
pub(super) struct Positions {
    /// f32 `[S, 1, D/2]`.
    pub(super) cos: Tensor,
    /// f32 `[S, 1, D/2]`.
    pub(super) sin: Tensor,
    /// What is added to scores, f32 `[1, 1, S, S]`.
    pub(super) mask: Tensor,
}

impl Positions {
    /// Returns the tables of `tokens` tokens, of which the first has the position `first`.
    pub(super) fn new(config: &AttentionConfig, first: usize, tokens: usize, device: &Device) -> Result<Self> {
        let frequencies = frequencies(config);
        let positions = (first..first + tokens).map(|position| position as f32);
        let angles: Vec<f32> =
            positions.flat_map(|position| frequencies.iter().map(move |frequency| position * frequency)).collect();
        let table = |f: fn(f32) -> f32| {
            Tensor::from_vec(angles.iter().map(|angle| f(*angle)).collect(), (tokens, 1, frequencies.len()), device)
        };
        let window = config.window.unwrap_or(usize::MAX);
        let seen = |query: usize, key: usize| key <= query && query - key < window;
        let row = |query| (0..tokens).map(move |key| if seen(query, key) { 0.0 } else { f32::MIN });
        let mask: Vec<f32> = (0..tokens).flat_map(row).collect();
        Ok(Self {
            cos: table(f32::cos)?,
            sin: table(f32::sin)?,
            mask: Tensor::from_vec(mask, (1, 1, tokens, tokens), device)?,
        })
    }
}

/// Returns the angle per position of every pair. Exponents are rounded to f32 as in the reference, and pairs that stay keep
/// their places: <https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/modeling_rope_utils.py>.
fn frequencies(config: &AttentionConfig) -> Vec<f32> {
    let dim = config.head_dim;
    let turning = (config.rope.turning * dim as f64 / 2.0) as usize;
    let frequency = |pair: usize| {
        let exponent = f64::from((2 * pair) as f32 / dim as f32);
        1.0 / config.rope.theta.powf(exponent) as f32 / config.rope.factor as f32
    };
    (0..dim / 2).map(|pair| if pair < turning { frequency(pair) } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causal_lm::Rope;

    fn config(window: Option<usize>) -> AttentionConfig {
        let rope = Rope { theta: 16.0, factor: 2.0, turning: 0.5 };
        AttentionConfig { heads: 1, kv_heads: 1, head_dim: 8, scale: 1.0, window, keys_are_values: false, rope }
    }

    #[test]
    fn some_pairs_turn_at_their_places_in_the_ladder() {
        assert_eq!(frequencies(&config(None)), [0.5, 0.25, 0.0, 0.0]);
    }

    #[test]
    fn a_query_sees_its_window() {
        let positions = Positions::new(&config(Some(2)), 5, 3, &Device::Cpu).unwrap();
        let mask = positions.mask.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let seen: Vec<bool> = mask.iter().map(|value| *value == 0.0).collect();
        assert_eq!(seen, [true, false, false, true, true, false, false, true, true]);
        let cos = positions.cos.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(cos[..4], [2.5f32.cos(), 1.25f32.cos(), 1.0, 1.0]);
    }
}

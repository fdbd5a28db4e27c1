//! The vision tower's memory beside its weights, computed from shapes alone.

use super::{Activation, ClipVisionConfig};
use candle_core::DType;

impl ClipVisionConfig {
    /// The most bytes that encoding `batch` pictures holds at a time: queries, keys, values and their result in an
    /// attention layer, or the hidden states of a feed-forward layer on their way through the activation, which is
    /// computed in f32, beside three tensors of the tokens' size.
    pub fn working_bytes(&self, batch: usize, dtype: DType) -> usize {
        let (dim, inner, element) = (self.hidden_size, self.intermediate_size, dtype.size_in_bytes());
        let wide = DType::F32.size_in_bytes();
        let activation = match (self.hidden_act, dtype) {
            (Activation::Gelu, DType::F32) => 2 * wide,
            (Activation::Gelu, _) => 2 * element + 2 * wide,
            (Activation::QuickGelu, DType::F32) => 3 * wide,
            (Activation::QuickGelu, _) => element + 3 * wide,
        };
        let attention = 6 * dim * element;
        let feed_forward = 3 * dim * element + inner * activation;
        batch * self.tokens() * attention.max(feed_forward)
    }
}

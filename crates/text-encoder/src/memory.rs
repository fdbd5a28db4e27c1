//! The encoder's memory beside its weights, computed from shapes alone.

use crate::Umt5Config;
use candle_core::DType;

impl Umt5Config {
    /// The most bytes that encoding a prompt of `tokens` holds at a time: queries, keys, values and their result in an
    /// attention layer, or the hidden states of a feed-forward layer.
    pub fn working_bytes(&self, tokens: usize, dtype: DType) -> usize {
        let attention = 4 * self.num_heads * self.d_kv + 3 * self.d_model;
        let feed_forward = 2 * self.d_ff + 4 * self.d_model;
        tokens * attention.max(feed_forward) * dtype.size_in_bytes()
    }
}

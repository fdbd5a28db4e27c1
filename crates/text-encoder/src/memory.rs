//! What the encoder holds beside its weights, from shapes alone.

use crate::Umt5Config;
use candle_core::DType;

impl Umt5Config {
    /// The most bytes that encoding a prompt of `tokens` holds at a time: in an attention layer the bias of every pair of
    /// positions, twice while it is turned, or in a feed-forward layer its hidden states.
    pub fn working_bytes(&self, tokens: usize, dtype: DType) -> usize {
        let element = dtype.size_in_bytes();
        let pairs = tokens * tokens * DType::F32.size_in_bytes();
        let attention =
            2 * self.num_heads * pairs + tokens * (4 * self.num_heads * self.d_kv + 3 * self.d_model) * element;
        let feed_forward = tokens * (2 * self.d_ff + 4 * self.d_model) * element;
        pairs + attention.max(feed_forward)
    }
}

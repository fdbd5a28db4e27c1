//! What the transformer holds beside its weights, from shapes alone.

use super::WanConfig;
use candle_core::DType;

impl WanConfig {
    /// The most bytes that one prediction over `tokens` holds at a time.
    ///
    /// In a block's feed-forward layer these are its hidden states and six tensors of the tokens' size: the input of the
    /// block, those after both attentions and what was added there, and the layer's own input.
    pub fn working_bytes(&self, tokens: usize, dtype: DType) -> usize {
        let element = dtype.size_in_bytes();
        let feed_forward = (6 * self.dim() + self.ffn_dim) * element;
        // Norms and modulation are f32 whatever the dtype.
        let modulated = 4 * self.dim() * element + 3 * self.dim() * DType::F32.size_in_bytes();
        let positions = self.head_dim * DType::F32.size_in_bytes();
        tokens * (feed_forward.max(modulated) + positions)
    }

    /// Bytes of one prompt of `text` tokens that was made ready: its keys and values for every block, where they take
    /// `cache_bytes` at most.
    pub fn prepared_bytes(&self, text: usize, dtype: DType, cache_bytes: usize) -> usize {
        let context = text * self.dim() * dtype.size_in_bytes();
        let keys_values = 2 * self.num_layers * context;
        if keys_values <= cache_bytes { context + keys_values } else { 3 * context }
    }
}

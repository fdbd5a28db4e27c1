//! The transformer's memory beside its weights, computed from shapes alone.

use super::WanConfig;
use candle_core::DType;

/// Rows of one picture's hidden states, as the image encoder of every released model makes them.
const IMAGE_ROWS: usize = 257;

/// Passes that hold at most this are replayed: at the size of Wan 2.1 1.3B, 7000 tokens in 16 bits.
const REPLAYED_BYTES: usize = 256 << 20;

impl WanConfig {
    /// The most bytes that one prediction over `tokens` holds at a time.
    ///
    /// In a block's feed-forward layer these are its hidden states and six tensors of the tokens' size: the block's input,
    /// the tokens after both attentions and the attentions' results, and the layer's own input. While a control block
    /// runs, the main block's input and output are held, too.
    pub fn working_bytes(&self, tokens: usize, dtype: DType) -> usize {
        let element = dtype.size_in_bytes();
        let held = if self.vace_layers.is_empty() { 0 } else { 2 };
        let feed_forward = (6 * self.dim() + self.ffn_dim) * element;
        // Norms and modulation are f32 whatever the dtype.
        let modulated = 4 * self.dim() * element + 3 * self.dim() * DType::F32.size_in_bytes();
        let positions = self.head_dim * DType::F32.size_in_bytes();
        tokens * (feed_forward.max(modulated) + held * self.dim() * element + positions)
    }

    /// The additional bytes of a prompt's passes over `tokens` on a GPU that replays them (see [`kinora_kernels::Replay`]),
    /// or 0. Passes with little memory are replayed: their kernels are so short that queueing them takes much of the time.
    pub fn replay_bytes(&self, tokens: usize, dtype: DType) -> usize {
        let bytes = self.working_bytes(tokens, dtype);
        // The attention of f32 is made of operations that copy strides to the GPU, which cannot be recorded.
        if bytes <= REPLAYED_BYTES && dtype != DType::F32 { bytes } else { 0 }
    }

    /// The bytes of a prepared prompt of `text` tokens, and of a picture's hidden states where there are any: the KV cache,
    /// if it takes at most `kv_cache_bytes`, and the rows themselves.
    pub fn prepared_bytes(&self, text: usize, dtype: DType, kv_cache_bytes: usize) -> usize {
        let image = self.image_dim.map_or(0, |_| self.pos_embed_seq_len.unwrap_or(IMAGE_ROWS));
        let rows = (text + image) * self.dim() * dtype.size_in_bytes();
        let keys_values = 2 * (self.num_layers + self.vace_layers.len()) * rows;
        if keys_values <= kv_cache_bytes { rows + keys_values } else { 3 * rows }
    }

    /// The bytes of the other conditioning inputs of a prepared prompt, for a clip of `tokens`: appended channels, the
    /// tokens of a control and of a camera.
    pub fn conditioning_bytes(&self, tokens: usize, dtype: DType) -> usize {
        let appended = self.appended_channels() * self.patch_size.iter().product::<usize>();
        let streams = usize::from(!self.vace_layers.is_empty()) + usize::from(self.camera);
        tokens * (appended + streams * self.dim()) * dtype.size_in_bytes()
    }
}

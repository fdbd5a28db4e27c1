//! The transformer's memory beside its weights, computed from shapes alone.

use super::config::{FEED_FORWARD, LtxConfig, StreamConfig, TextModulation};
use super::inputs::Geometry;
use candle_core::DType;

/// Passes that hold at most this are replayed.
const REPLAYED_BYTES: usize = 256 << 20;

impl LtxConfig {
    /// The most bytes that one prediction over a clip holds at a time; `token_timesteps` says that tokens of video have their own
    /// timesteps.
    ///
    /// In the feed-forward layer of video these are its hidden states and three tensors of the tokens' size: the block's input,
    /// the tokens after all attentions, and the layer's own input or output. Self-attention holds as much, and what it packs, in
    /// f32; timesteps per token add a tensor of modulation. Sound has two tensors meanwhile. Tables of positions are held all the
    /// time. On a CPU, peaks were measured within 10 % of this, in f32 and bf16, quantised or not.
    pub fn working_bytes(&self, geometry: &Geometry, token_timesteps: bool, dtype: DType) -> usize {
        let (element, wide_element) = (dtype.size_in_bytes(), DType::F32.size_in_bytes());
        let modulation = if token_timesteps { wide_element } else { 0 };
        let of_video = self.video.dim() * ((FEED_FORWARD + 3) * element + wide_element + modulation);
        let of_audio = self.audio.dim() * 2 * element;
        geometry.video_tokens() * of_video + geometry.audio * of_audio + self.position_bytes(geometry)
    }

    /// The bytes of the tables of positions: cosines and sines of video, in its self-attention and between the streams, and of sound.
    fn position_bytes(&self, geometry: &Geometry) -> usize {
        let table = |stream: &StreamConfig| stream.dim() * DType::F32.size_in_bytes();
        let (wide, narrow) = (table(&self.video), table(&self.audio));
        geometry.video_tokens() * (wide + narrow) + geometry.audio * narrow
    }

    /// The additional bytes of a prompt's passes over a clip on a GPU that replays them (see [`kinora_kernels::Replay`]), or 0.
    /// Passes with little memory are replayed: their kernels are so short that queueing them takes much of the time.
    pub fn replay_bytes(&self, geometry: &Geometry, dtype: DType) -> usize {
        let bytes = self.working_bytes(geometry, false, dtype);
        // The attention of f32 is made of operations that copy strides to the GPU, which cannot be recorded.
        if bytes <= REPLAYED_BYTES && dtype != DType::F32 { bytes } else { 0 }
    }

    /// The bytes of a prepared prompt of `text` rows: the KV cache, if it takes at most `kv_cache_bytes`, and the rows
    /// themselves.
    pub fn prepared_bytes(&self, text: usize, dtype: DType, kv_cache_bytes: usize) -> usize {
        let rows = text * (self.video.dim() + self.audio.dim()) * dtype.size_in_bytes();
        let keys_values = 2 * self.num_layers * rows;
        if keys_values <= kv_cache_bytes {
            return rows + keys_values;
        }
        // A block's keys and values, and, where the text is modulated, the rows that they are made of.
        if self.text_modulation == TextModulation::None { 3 * rows } else { 4 * rows }
    }
}

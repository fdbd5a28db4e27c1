//! The encoder's memory beside its weights, computed from shapes alone; the memory of weights that are read a part at a time.

use crate::Umt5Config;
use candle_core::DType;
use kinora_checkpoint::{Format, Weights};

impl Umt5Config {
    /// The most bytes that encoding a prompt of `tokens` holds at a time: queries, keys, values and their result in an
    /// attention layer, or the hidden states of a feed-forward layer.
    pub fn working_bytes(&self, tokens: usize, dtype: DType) -> usize {
        let attention = 4 * self.num_heads * self.d_kv + 3 * self.d_model;
        let feed_forward = 2 * self.d_ff + 4 * self.d_model;
        tokens * attention.max(feed_forward) * dtype.size_in_bytes()
    }
}

/// Returns the most bytes that reading the tensors of `weights` below `prefix` holds: all of them and, where a CPU packs dense
/// matrices, the largest of those once more.
pub(crate) fn reading_bytes(weights: &Weights, prefix: &str) -> usize {
    let is_packed = |name: &str| {
        let dense = [None, Some(Format::F32), Some(Format::F16), Some(Format::Bf16), Some(Format::F64)];
        weights.target().is_cpu() && dense.contains(&weights.stored_format(name))
    };
    let asked = weights.asked();
    let matrices = asked.iter().filter(|(name, shape)| name.starts_with(prefix) && shape.len() > 1);
    let packed = matrices.filter(|(name, _)| is_packed(name)).map(|(name, _)| weights.bytes_of(name));
    weights.bytes_of(prefix) + packed.max().unwrap_or(0)
}

//! The model's memory, computed from shapes alone.

use super::CausalLmConfig;
use crate::memory::reading_bytes;
use candle_core::DType;
use kinora_checkpoint::Weights;

impl CausalLmConfig {
    /// The most bytes of weights that are held at a time, of a model that was checked with `weights`: those of the largest layer.
    /// Of the embedding table, rows are read.
    pub fn weight_bytes(&self, weights: &Weights) -> usize {
        let layers = (0..self.layers.len()).map(|index| reading_bytes(weights, &format!("layers.{index}.")));
        layers.max().unwrap_or(0) + weights.bytes_of("norm.")
    }

    /// The most bytes that computing the states of texts of these numbers of tokens holds beside the weights and the states that
    /// the caller keeps: the hidden states and tables of all texts, and one layer's results for the longest text.
    pub fn working_bytes(&self, texts: &[usize], dtype: DType) -> usize {
        let (wide, element) = (DType::F32.size_in_bytes(), dtype.size_in_bytes());
        let kinds = [&self.sliding, &self.full];
        let angles: usize = kinds.iter().map(|kind| kind.head_dim).sum();
        let held = |tokens: &usize| tokens * self.hidden_size * element + tokens * (angles + 2 * tokens) * wide;
        // Queries, keys and values, each rotated in f32, and the result; or the gate and its product.
        let attention = |heads: usize, head_dim: usize| 4 * heads * head_dim * element + 3 * heads * head_dim * wide;
        let attention = kinds.iter().map(|kind| attention(kind.heads, kind.head_dim)).max().unwrap_or(0);
        let feed_forward = 2 * self.intermediate_size * element;
        let layer = 3 * self.hidden_size * element + attention.max(feed_forward);
        texts.iter().map(held).sum::<usize>() + texts.iter().max().unwrap_or(&0) * layer
    }
}

//! The memory of the projections and connectors, computed from shapes alone.

use super::PART;
use super::config::{ConnectorConfig, ConnectorsConfig};
use crate::memory::reading_bytes;
use candle_core::DType;
use kinora_checkpoint::Weights;

impl ConnectorsConfig {
    /// The bytes of the normed hidden states of texts of these numbers of tokens, which are kept while the language model runs.
    pub fn feature_bytes(&self, texts: &[usize], dtype: DType) -> usize {
        texts.iter().sum::<usize>() * self.hidden_size * self.states * dtype.size_in_bytes()
    }

    /// The most bytes of weights that are held at a time, of connectors that were checked with `weights`: those of the largest
    /// projection or block.
    pub fn weight_bytes(&self, weights: &Weights) -> usize {
        let projections = ["aggregate_embed", "video_aggregate_embed", "audio_aggregate_embed"];
        let projections = projections.map(|name| reading_bytes(weights, &format!("text_embedding_projection.{name}.")));
        let blocks = [("video", &self.video), ("audio", &self.audio)].into_iter().flat_map(|(modality, connector)| {
            let name = move |index| format!("{modality}_embeddings_connector.transformer_1d_blocks.{index}.");
            (0..connector.blocks).map(move |index| reading_bytes(weights, &name(index)))
        });
        projections.into_iter().chain(blocks).max().unwrap_or(0)
    }

    /// The most bytes that making the contexts of `texts` texts, of `text_len` rows each, holds beside the weights: with the
    /// features, those of some tokens put together and scaled; or the contexts of both modalities and a block's results.
    pub fn working_bytes(&self, texts: &[usize], text_len: usize, dtype: DType) -> usize {
        let (element, wide) = (dtype.size_in_bytes(), DType::F32.size_in_bytes());
        let longest = texts.iter().copied().max().unwrap_or(0).min(PART);
        let together = 2 * longest * self.hidden_size * self.states * element;
        let projecting = self.feature_bytes(texts, dtype) + together;
        let contexts = texts.len() * text_len * (self.video.dim() + self.audio.dim()) * element;
        let block = |connector: &ConnectorConfig| text_len * connector.dim() * (6 * element + 4 * wide);
        projecting.max(contexts + block(&self.video).max(block(&self.audio)))
    }
}

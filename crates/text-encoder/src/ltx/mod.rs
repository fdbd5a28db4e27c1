//! The text side of LTX-2: from the hidden states of a language model to a context for the video and one for the sound.
//!
//! All hidden states of every token are normed and projected, registers fill the places of the tokens that a text does not have,
//! and a small transformer for each modality runs over both. Names are those of the original release,
//! <https://github.com/Lightricks/LTX-2>; numbers are those of
//! <https://github.com/huggingface/diffusers/blob/v0.42.1/src/diffusers/pipelines/ltx2/connectors.py>.

mod config;
mod connector;
mod features;
mod keys;
mod memory;
mod stage;

pub use config::{ConnectorConfig, ConnectorsConfig, Features};
pub use features::TextFeatures;
pub use keys::{canonical_from_diffusers, canonical_from_original, is_of_connectors, key_maps};
pub use stage::{LtxText, LtxTokens};

use crate::{Error, Result};
use candle_core::Tensor;
use connector::Connector;
use kinora_checkpoint::Weights;
use kinora_nn::Linear;

/// Tokens that are projected at a time: their features are put together for that.
const PART: usize = 128;

/// The contexts of one text.
#[derive(Debug, Clone)]
pub struct Contexts {
    /// The context of the video, `[1, text_len, dim]`.
    pub video: Tensor,
    /// The context of the sound, `[1, text_len, dim]`.
    pub audio: Tensor,
}

/// The feature projections and both connectors, whose weights stay in their files.
pub struct Connectors {
    config: ConnectorsConfig,
    weights: Weights,
}

impl Connectors {
    /// Checks that `weights` has what `config` needs. Tensors are read later, by [`Connectors::contexts`].
    ///
    /// # Errors
    /// A configuration that cannot be computed; a tensor that is missing or has another shape.
    pub fn new(config: &ConnectorsConfig, weights: &Weights) -> Result<Self> {
        config.check()?;
        let model = Self { config: config.clone(), weights: weights.unread() };
        match config.features {
            Features::Shared => drop(model.shared()?),
            Features::PerModality => {
                model.projection("video", &config.video)?;
                model.projection("audio", &config.audio)?;
            }
        }
        model.connector("video", &config.video).check()?;
        model.connector("audio", &config.audio).check()?;
        Ok(Self { weights: weights.clone(), ..model })
    }

    /// Returns the configuration that they were built from.
    pub fn config(&self) -> &ConnectorsConfig {
        &self.config
    }

    /// Returns the place for the hidden states of a text, to be pushed in order.
    pub fn features(&self) -> TextFeatures {
        TextFeatures::new(self.config.features, self.weights.dtype())
    }

    /// Returns the contexts of all texts, of `text_len` rows each, a multiple of the number of registers.
    ///
    /// # Errors
    /// Another number of states than the projections take, more tokens than rows, files that cannot be read.
    pub fn contexts(&self, texts: Vec<TextFeatures>, text_len: usize) -> Result<Vec<Contexts>> {
        let config = &self.config;
        if let Some(text) = texts.iter().find(|text| text.len() != config.states) {
            let reason = format!("{} hidden states do not fit projections of {}", text.len(), config.states);
            return Err(Error::Config { reason });
        }
        let (video, audio) = match config.features {
            Features::Shared => {
                let projected = projected(&self.shared()?, &texts, 1.0)?;
                (projected.clone(), projected)
            }
            Features::PerModality => (
                self.projected_for("video", &config.video, &texts)?,
                self.projected_for("audio", &config.audio, &texts)?,
            ),
        };
        drop(texts);
        let video = self.connector("video", &config.video).forward(&video, text_len)?;
        let audio = self.connector("audio", &config.audio).forward(&audio, text_len)?;
        Ok(video.into_iter().zip(audio).map(|(video, audio)| Contexts { video, audio }).collect())
    }

    fn projected_for(&self, modality: &str, config: &ConnectorConfig, texts: &[TextFeatures]) -> Result<Vec<Tensor>> {
        let scale = (config.dim() as f64 / self.config.hidden_size as f64).sqrt();
        projected(&self.projection(modality, config)?, texts, scale)
    }

    fn shared(&self) -> Result<Linear> {
        let weights = self.weights.pp("text_embedding_projection").pp("aggregate_embed");
        let ConnectorsConfig { hidden_size, states, .. } = self.config;
        Ok(Linear::no_bias(&weights, hidden_size * states, hidden_size)?)
    }

    fn projection(&self, modality: &str, config: &ConnectorConfig) -> Result<Linear> {
        let weights = self.weights.pp("text_embedding_projection").pp(format!("{modality}_aggregate_embed"));
        Ok(Linear::new(&weights, self.config.hidden_size * self.config.states, config.dim())?)
    }

    fn connector<'a>(&'a self, modality: &str, config: &'a ConnectorConfig) -> Connector<'a> {
        let weights = self.weights.pp(format!("{modality}_embeddings_connector"));
        Connector { config, model: &self.config, weights }
    }
}

/// Returns the projection `[S, dim]` of every text's features, times `scale`.
fn projected(projection: &Linear, texts: &[TextFeatures], scale: f64) -> Result<Vec<Tensor>> {
    let of_text = |text: &TextFeatures| -> candle_core::Result<Tensor> {
        let tokens = text.tokens()?;
        let part = |start: usize| projection.forward(&(text.rows(start, PART.min(tokens - start))? * scale)?);
        let parts = (0..tokens).step_by(PART).map(part).collect::<candle_core::Result<Vec<_>>>()?;
        Tensor::cat(&parts, 0)
    };
    Ok(texts.iter().map(of_text).collect::<candle_core::Result<_>>()?)
}

//! A causal language model as a text encoder: the hidden states of all its layers, without its head.
//!
//! Maths: grouped queries <https://arxiv.org/abs/2305.13245>, Gemma 3 <https://arxiv.org/abs/2503.19786>; numbers are those of
//! <https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/models/gemma3/modeling_gemma3.py> and
//! <https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/models/gemma4_unified/modeling_gemma4_unified.py>.
//! Names are those of transformers, below the text model.
//!
//! The model is far larger than what it computes, and is used once per clip: a layer is read when its turn comes, for all texts,
//! and freed before the next one.

mod config;
pub mod gemma;
mod layer;
mod memory;
mod positions;

pub use config::{Activation, AttentionConfig, CausalLmConfig, LayerKind, Rope};

use crate::{Error, Result};
use candle_core::Tensor;
use kinora_checkpoint::Weights;
use layer::{Layer, Norm};
use positions::Positions;

/// A text whose tokens are the last rows of a context.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// The tokens.
    pub ids: &'a [u32],
    /// The number of padded rows before them. Nothing sees those, so they are not computed: all that they do is to move the
    /// positions of the tokens.
    pub padding: usize,
}

/// A causal language model, whose layers stay in their files.
pub struct CausalLm {
    config: CausalLmConfig,
    weights: Weights,
}

impl CausalLm {
    /// Checks that `weights` has what `config` needs, and nothing else. Tensors are read later, by [`CausalLm::states`].
    ///
    /// # Errors
    /// A configuration that cannot be computed; a tensor that is missing or has another shape.
    pub fn new(config: &CausalLmConfig, weights: &Weights) -> Result<Self> {
        config.check()?;
        let model = Self { config: config.clone(), weights: weights.unread() };
        model.embeddings(&[0])?;
        (0..config.layers.len()).try_for_each(|index| model.layer(index).map(drop))?;
        model.norm()?;
        Ok(Self { weights: weights.clone(), ..model })
    }

    /// Returns the configuration that it was built from.
    pub fn config(&self) -> &CausalLmConfig {
        &self.config
    }

    /// Computes the hidden states of `texts` and calls `each` with every one of them: the number of the state, the number of the
    /// text, and the state `[S, C]` of the text's `S` tokens. State 0 are the embeddings, the others follow the layers in order
    /// up to the state `last`; the one behind the last layer is normed.
    ///
    /// # Errors
    /// A text without tokens, or with one that the model does not know; as `each`; files that cannot be read.
    pub fn states(
        &self,
        texts: &[Text],
        last: usize,
        mut each: impl FnMut(usize, usize, &Tensor) -> Result<()>,
    ) -> Result<()> {
        self.check(texts, last)?;
        let (config, device) = (&self.config, self.weights.device());
        let mut call = |state: usize, hidden: &[Tensor]| {
            hidden.iter().enumerate().try_for_each(|(text, hidden)| each(state, text, &hidden.squeeze(0)?))
        };
        let mut hidden = texts.iter().map(|text| self.embeddings(text.ids)).collect::<Result<Vec<_>>>()?; // [1, S, C]
        call(0, &hidden)?;
        let of_kind = |attention: &AttentionConfig| -> Result<Vec<Positions>> {
            let positions = |text: &Text| Positions::new(attention, text.padding, text.ids.len(), device);
            Ok(texts.iter().map(positions).collect::<candle_core::Result<_>>()?)
        };
        let (sliding, full) = (of_kind(&config.sliding)?, of_kind(&config.full)?);
        for (index, kind) in config.layers.iter().enumerate().take(last) {
            let layer = self.layer(index)?;
            let positions = match kind {
                LayerKind::Sliding => &sliding,
                LayerKind::Full => &full,
            };
            for (hidden, positions) in hidden.iter_mut().zip(positions) {
                *hidden = layer.forward(hidden, positions)?;
            }
            drop(layer);
            let state = index + 1;
            if state == config.layers.len() {
                let norm = self.norm()?;
                for hidden in &mut hidden {
                    *hidden = norm.forward(hidden)?;
                }
            }
            call(state, &hidden)?;
        }
        Ok(())
    }

    fn check(&self, texts: &[Text], last: usize) -> Result<()> {
        let (vocab_size, layers) = (self.config.vocab_size, self.config.layers.len());
        if last > layers {
            return Err(Error::Config { reason: format!("there is no hidden state {last} behind {layers} layers") });
        }
        if texts.iter().any(|text| text.ids.is_empty()) {
            return Err(Error::NoTokens);
        }
        match texts.iter().flat_map(|text| text.ids).find(|id| **id as usize >= vocab_size) {
            Some(&id) => Err(Error::TokenId { id, vocab_size }),
            None => Ok(()),
        }
    }

    /// Returns the embeddings `[1, S, C]` of `ids`.
    fn embeddings(&self, ids: &[u32]) -> Result<Tensor> {
        let (config, dtype) = (&self.config, self.weights.dtype());
        let own = |id: &u32| if config.placeholders.contains(id) { config.padding } else { *id };
        let ids: Vec<u32> = ids.iter().map(own).collect();
        let table = self.weights.pp("embed_tokens");
        let rows = table.rows("weight", [config.vocab_size, config.hidden_size], &ids, dtype)?.unsqueeze(0)?;
        if !config.scaled_embeddings {
            return Ok(rows);
        }
        let root = Tensor::full((config.hidden_size as f32).sqrt(), (1, 1, 1), self.weights.device())?;
        Ok(rows.broadcast_mul(&root.to_dtype(dtype)?)?)
    }

    fn layer(&self, index: usize) -> Result<Layer> {
        Ok(Layer::new(&self.config, index, &self.weights.pp("layers").pp(index))?)
    }

    fn norm(&self) -> Result<Norm> {
        Ok(Norm::new(&self.config, &self.weights.pp("norm"), self.config.hidden_size)?)
    }
}

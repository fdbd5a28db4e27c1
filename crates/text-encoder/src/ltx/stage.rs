//! [`LtxText`]: prompts → tokens → hidden states → contexts.

use super::{Connectors, ConnectorsConfig, Contexts};
use crate::causal_lm::{CausalLm, CausalLmConfig, Text};
use crate::{Error, Result, Tokenizer};

/// The token that Gemma's texts begin with.
const BEGINNING: u32 = 2;

/// The text stage of LTX-2: a tokenizer, a language model, the connectors, and the number of rows of their contexts.
pub struct LtxText {
    tokenizer: Tokenizer,
    model: CausalLm,
    connectors: Connectors,
    text_len: usize,
}

/// The contexts of one prompt, and how much of it they stand for.
#[derive(Debug, Clone)]
pub struct LtxTokens {
    /// The contexts.
    pub contexts: Contexts,
    /// The number of the prompt's tokens, with the one that begins every text.
    pub tokens: usize,
    /// Tokens of the prompt that were cut off because a context has no room for them; the user should be told.
    pub dropped: usize,
}

impl LtxText {
    /// Joins the parts; `text_len` is the number of the contexts' rows, 1024 for all releases.
    ///
    /// # Errors
    /// As [`LtxText::check`].
    pub fn new(tokenizer: Tokenizer, model: CausalLm, connectors: Connectors, text_len: usize) -> Result<Self> {
        Self::check(&tokenizer, model.config(), connectors.config(), text_len)?;
        Ok(Self { tokenizer, model, connectors, text_len })
    }

    /// Checks that the parts belong together.
    ///
    /// # Errors
    /// A tokenizer that begins texts otherwise than Gemma's; a language model of another width or depth than the projections take;
    /// a length that is no multiple of the registers.
    pub fn check(
        tokenizer: &Tokenizer,
        language: &CausalLmConfig,
        config: &ConnectorsConfig,
        text_len: usize,
    ) -> Result<()> {
        let found = tokenizer.encode("", text_len)?.ids.first().copied();
        if found != Some(BEGINNING) {
            return Err(Error::StartOfText { found, expected: BEGINNING });
        }
        let (found, expected) =
            ([language.hidden_size, language.layers.len() + 1], [config.hidden_size, config.states]);
        if found != expected {
            let reason = format!("{found:?} channels and hidden states do not fit connectors of {expected:?}");
            return Err(Error::Config { reason });
        }
        if let Some(registers) =
            [config.video.registers, config.audio.registers].into_iter().find(|count| !text_len.is_multiple_of(*count))
        {
            let reason = format!("a context of {text_len} rows is no multiple of {registers} registers");
            return Err(Error::Config { reason });
        }
        Ok(())
    }

    /// Returns the tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Returns the number of a context's rows.
    pub fn text_len(&self) -> usize {
        self.text_len
    }

    /// Encodes prompts, positive and negative ones together, so that weights are read once. `step` is called with the number of
    /// hidden states that are done and of all.
    ///
    /// # Errors
    /// As `step`; files that cannot be read; a tokenizer that does not belong to the model.
    pub fn encode(&self, prompts: &[&str], mut step: impl FnMut(usize, usize) -> Result<()>) -> Result<Vec<LtxTokens>> {
        let tokens = prompts.iter().map(|prompt| self.tokenizer.encode(stripped(prompt), self.text_len));
        let tokens = tokens.collect::<Result<Vec<_>>>()?;
        let texts: Vec<Text> =
            tokens.iter().map(|tokens| Text { ids: &tokens.ids, padding: self.text_len - tokens.ids.len() }).collect();
        let mut features: Vec<_> = prompts.iter().map(|_| self.connectors.features()).collect();
        let all = self.connectors.config().states;
        self.model.states(&texts, all - 1, |state, text, hidden| {
            features[text].push(hidden)?;
            if text + 1 == prompts.len() { step(state + 1, all) } else { Ok(()) }
        })?;
        let contexts = self.connectors.contexts(features, self.text_len)?;
        let of_prompt = |(contexts, tokens): (Contexts, &crate::Tokens)| LtxTokens {
            contexts,
            tokens: tokens.ids.len(),
            dropped: tokens.dropped,
        };
        Ok(contexts.into_iter().zip(&tokens).map(of_prompt).collect())
    }
}

/// Returns `prompt` without what Python's `str.strip` takes away: blanks, and four separators that Unicode does not count to them.
fn stripped(prompt: &str) -> &str {
    prompt.trim_matches(|letter: char| letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter))
}

//! The text stage: prompt → cleaned text → tokens → context.

use crate::{Error, Result, Tokenizer, Umt5, Umt5Config, clean_prompt};
use candle_core::Tensor;
use unicode_normalization::UnicodeNormalization;

/// Turns a prompt into hidden states, which a transformer is conditioned on.
pub trait TextEncoder: Send + Sync {
    /// Encodes one prompt, positive or negative; an empty one is a prompt like any other.
    fn encode(&self, prompt: &str) -> Result<Context>;
}

/// The hidden states of one prompt.
#[derive(Debug, Clone)]
pub struct Context {
    /// `[1, text_len, C]` in the encoder's dtype; rows past the prompt's tokens are zero.
    pub tensor: Tensor,
    /// Rows that belong to the prompt, its end-of-text token included.
    pub tokens: usize,
    /// Tokens of the prompt that were cut off because the context has no room for them; the user should be told.
    pub dropped: usize,
}

impl Context {
    /// Whether the end of the prompt was cut off.
    pub fn truncated(&self) -> bool {
        self.dropped > 0
    }
}

/// The end of a prompt for which its context has no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The number of its tokens.
    pub tokens: usize,
    /// The cleaned text that they stand for.
    pub text: String,
}

impl Unread {
    /// Returns the end of `prompt` that has no room in a context of `text_len` rows, if there is one. `tokenizer` is asked only
    /// for prompts that may be too long, because loading one takes long.
    ///
    /// # Errors
    /// Those of `tokenizer`, and of a tokenizer at work.
    pub fn of<E: From<Error>>(
        prompt: &str,
        text_len: usize,
        tokenizer: impl FnOnce() -> std::result::Result<Tokenizer, E>,
    ) -> std::result::Result<Option<Self>, E> {
        let text = clean_prompt(prompt);
        // A token is at least one byte of the text that a tokenizer of this kind normalises (NFKC); one more may stand at
        // the beginning, and one marks the end.
        if text.nfkc().map(char::len_utf8).sum::<usize>() + 2 <= text_len {
            return Ok(None);
        }
        let tokens = tokenizer()?.encode(&text, text_len)?;
        let unread =
            || Self { tokens: tokens.dropped, text: text.get(tokens.read..).unwrap_or_default().trim().into() };
        Ok((tokens.dropped > 0).then(unread))
    }
}

/// A tokenizer, its encoder, and the number of rows of their context.
pub struct TextStage {
    tokenizer: Tokenizer,
    encoder: Umt5,
    text_len: usize,
}

impl TextStage {
    /// Joins a tokenizer and its encoder; `text_len` is the number of the context's rows, 512 for Wan.
    ///
    /// # Errors
    /// The tokenizer does not end texts as the encoder expects.
    pub fn new(tokenizer: Tokenizer, encoder: Umt5, text_len: usize) -> Result<Self> {
        Self::check(&tokenizer, encoder.config(), text_len)?;
        Ok(Self { tokenizer, encoder, text_len })
    }

    /// Checks that a tokenizer and an encoder of this configuration belong together, as [`TextStage::new`] does.
    ///
    /// # Errors
    /// The tokenizer does not end texts as the encoder expects.
    pub fn check(tokenizer: &Tokenizer, config: &Umt5Config, text_len: usize) -> Result<()> {
        let (found, expected) = (tokenizer.encode("", text_len)?.ids.last().copied(), config.eos_token_id);
        if found == Some(expected) { Ok(()) } else { Err(Error::EndOfText { found, expected }) }
    }

    /// Returns the tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Returns the number of a context's rows.
    pub fn text_len(&self) -> usize {
        self.text_len
    }
}

impl TextEncoder for TextStage {
    fn encode(&self, prompt: &str) -> Result<Context> {
        let tokens = self.tokenizer.encode(&clean_prompt(prompt), self.text_len)?;
        let tensor = self.encoder.context(&tokens.ids, self.text_len)?;
        Ok(Context { tensor, tokens: tokens.ids.len(), dropped: tokens.dropped })
    }
}

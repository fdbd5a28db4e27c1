//! Errors of tokenizers and text encoders.

use std::path::PathBuf;

/// Result of tokenizing and encoding.
pub type Result<T> = std::result::Result<T, Error>;

/// A text error, with the values in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The tokenizer file could not be read.
    #[error("cannot read tokenizer `{}`: {source}", .path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The tokenizer description is not one that the tokenizers library accepts, or that library failed on it.
    #[error("the tokenizer is not usable: {reason}")]
    Tokenizer {
        /// The library's own words.
        reason: String,
    },
    /// The special tokens alone do not fit.
    #[error("a text of at most {max_len} tokens has no room for the tokenizer's {special} special tokens")]
    NoRoom {
        /// The length asked for.
        max_len: usize,
        /// The number of tokens that the tokenizer adds to every text.
        special: usize,
    },
    /// The tokenizer does not end texts the way the encoder was trained.
    #[error("the tokenizer ends a text with token {found:?}, the text encoder expects {expected} (end of text)")]
    EndOfText {
        /// The last token of an encoded text, if it has any.
        found: Option<u32>,
        /// `eos_token_id` of the encoder's configuration.
        expected: u32,
    },
    /// The tokenizer does not begin texts the way the encoder was trained.
    #[error(
        "the tokenizer begins a text with token {found:?}, the text encoder expects {expected} (beginning of text)"
    )]
    StartOfText {
        /// The first token of an encoded text, if it has any.
        found: Option<u32>,
        /// The token that texts of the encoder begin with.
        expected: u32,
    },
    /// A token that the encoder has no embedding for: tokenizer and encoder do not belong together.
    #[error("token {id} is outside the text encoder's vocabulary of {vocab_size}")]
    TokenId {
        /// The token.
        id: u32,
        /// Rows of the embedding table.
        vocab_size: usize,
    },
    /// More tokens than the context has rows, or none.
    #[error("a prompt of {tokens} tokens does not fit a context of 1 to {text_len}")]
    Length {
        /// The number of tokens.
        tokens: usize,
        /// Rows of the context.
        text_len: usize,
    },
    /// A text without any token, not even one that begins or ends it.
    #[error("a text has no tokens")]
    NoTokens,
    /// The encoder's configuration describes something this crate does not compute.
    #[error("text encoder configuration: {reason}")]
    Config {
        /// A verb and the unsupported or impossible value.
        reason: String,
    },
    /// Loading failed.
    #[error(transparent)]
    Checkpoint(#[from] kinora_checkpoint::Error),
    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// Returns what the user can do about it, if there is something.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::TokenizerFile { .. } => "check the path; tokenizer.json belongs into the model's folder",
            Self::Tokenizer { .. } => "the file is damaged or not a tokenizer.json: download it again",
            Self::NoRoom { .. } => "use a larger text length",
            Self::EndOfText { .. } | Self::StartOfText { .. } | Self::TokenId { .. } | Self::NoTokens => {
                "tokenizer and text encoder belong to different models: take both from one"
            }
            Self::Config { .. } => "the text encoder's config.json is damaged or of another kind of model",
            Self::Checkpoint(error) => return error.hint(),
            Self::Length { .. } | Self::Candle(_) => return None,
        };
        Some(hint.to_string())
    }
}

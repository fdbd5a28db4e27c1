//! Tokenizers and text encoders.

mod clean;
mod error;
mod memory;
mod piece_model;
mod stage;
mod tokenizer;
pub mod umt5;
mod vocabulary;

pub use clean::{clean_prompt, is_blank};
pub use error::{Error, Result};
pub use stage::{Context, TextEncoder, TextStage, Unread};
pub use tokenizer::{Tokenizer, Tokens, panic_is_contained};
pub use umt5::{Umt5, Umt5Config};
pub use vocabulary::{has_tokenizer, tokenizer_json, tokenizer_json_of_pieces};

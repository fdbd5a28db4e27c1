//! Tokenizers and text encoders.

mod clean;
mod error;
mod memory;
mod stage;
mod tokenizer;
pub mod umt5;

pub use clean::clean_prompt;
pub use error::{Error, Result};
pub use stage::{Context, TextEncoder, TextStage};
pub use tokenizer::{Tokenizer, Tokens, panic_is_contained};
pub use umt5::{Umt5, Umt5Config};

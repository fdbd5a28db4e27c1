//! Tokenizers and text encoders.

mod clean;
mod error;
mod memory;
mod stage;
mod tokenizer;
pub mod umt5;

pub use clean::{clean_prompt, is_blank};
pub use error::{Error, Result};
pub use stage::{Context, TextEncoder, TextStage, Unread};
pub use tokenizer::{Tokenizer, Tokens, panic_is_contained};
pub use umt5::{Umt5, Umt5Config};

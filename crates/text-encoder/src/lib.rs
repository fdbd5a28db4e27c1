//! Tokenizers and text encoders.

pub mod causal_lm;
mod clean;
mod error;
pub mod ltx;
mod memory;
mod piece_model;
mod rope;
mod stage;
mod tokenizer;
pub mod umt5;
mod vocabulary;

pub use causal_lm::{CausalLm, CausalLmConfig};
pub use clean::{clean_prompt, is_blank};
pub use error::{Error, Result};
pub use ltx::{Connectors, ConnectorsConfig, LtxText};
pub use stage::{Context, TextEncoder, TextStage, Unread};
pub use tokenizer::{Tokenizer, Tokens, panic_is_contained};
pub use umt5::{Umt5, Umt5Config};
pub use vocabulary::{has_tokenizer, tokenizer_json, tokenizer_json_of_pieces};

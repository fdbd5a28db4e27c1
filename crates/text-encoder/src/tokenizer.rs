//! Text to token ids, over Hugging Face's tokenizers library, as transformers' fast tokenizers do it.

use crate::{Error, Result};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tokenizers::{PostProcessor, TruncationDirection};

/// A `tokenizer.json`, loaded.
///
/// The library below panics on some damaged descriptions; such a panic comes out as [`Error::Tokenizer`].
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

/// A text as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The ids, special tokens included.
    pub ids: Vec<u32>,
    /// The number of tokens that were cut off because the text was too long.
    pub dropped: usize,
    /// The bytes of the text that the tokens stand for; what comes after them was cut off.
    pub read: usize,
}

impl Tokenizer {
    /// Loads a `tokenizer.json`.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let json = std::fs::read(path).map_err(|source| Error::TokenizerFile { path: path.into(), source })?;
        Self::from_bytes(&json)
    }

    /// Loads the content of a `tokenizer.json`. Truncation and padding set in it are ignored.
    pub fn from_bytes(json: &[u8]) -> Result<Self> {
        let json = kinora_checkpoint::plain_json(json);
        let mut inner = contain(|| tokenizers::Tokenizer::from_bytes(&json))?;
        contain(|| inner.with_padding(None).with_truncation(None).map(|_| ()))?;
        Ok(Self { inner })
    }

    /// Returns the words of `text` that are not in the vocabulary: those of three letters or more of which every piece is a single
    /// letter, and of those with letters beyond ASCII, which may be whole sentences without blanks, the unknown letters.
    ///
    /// # Errors
    /// Those of the tokenizer at work.
    pub fn unknown_words(&self, text: &str) -> Result<Vec<String>> {
        let mut unknown = Vec::new();
        for word in text.split_whitespace() {
            let word = word.trim_matches(|c: char| !c.is_alphanumeric());
            let encoding = contain(|| self.inner.encode(word, false))?;
            let unknown_id = self.inner.token_to_id("<unk>");
            let pieces = encoding.get_tokens().iter().zip(encoding.get_ids()).zip(encoding.get_offsets());
            let pieces = pieces.map(|((piece, id), &(start, end))| (piece, Some(*id) == unknown_id, start..end));
            if word.is_ascii() {
                let is_spelled = |piece: &str| piece.trim_start_matches('▁').chars().count() <= 1;
                let mut pieces = pieces.map(|(piece, is_unknown, _)| is_unknown || is_spelled(piece));
                if word.len() > 2 && word.contains(char::is_alphabetic) && pieces.all(|alone| alone) {
                    unknown.push(word.to_string());
                }
            } else {
                let letters = pieces.filter_map(|(_, is_unknown, at)| is_unknown.then(|| word.get(at)).flatten());
                unknown.extend(letters.map(str::trim).filter(|letters| !letters.is_empty()).map(str::to_string));
            }
        }
        unknown.dedup();
        Ok(unknown)
    }

    /// Returns the ids of `text` with the tokenizer's special tokens (`</s>` at the end for the T5 family), at most `max_len`
    /// of them: a text that is longer loses its end, never a special token.
    pub fn encode(&self, text: &str, max_len: usize) -> Result<Tokens> {
        let special = contain(|| Ok(self.inner.get_post_processor().map_or(0, |p| p.added_tokens(false))))?;
        if max_len < special.max(1) {
            return Err(Error::NoRoom { max_len, special });
        }
        contain(|| {
            let mut encoding = self.inner.encode(text, false)?;
            let room = max_len - special;
            let dropped = encoding.len().saturating_sub(room);
            let read = encoding.get_offsets().get(room).map_or(text.len(), |(start, _)| *start);
            encoding.truncate(room, 0, TruncationDirection::Right);
            let ids = self.inner.post_process(encoding, None, true)?.get_ids().to_vec();
            Ok(Tokens { ids, dropped, read })
        })
    }
}

thread_local! {
    static CONTAINING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a call whose panic will be turned into an [`Error`]: a program's panic hook can ask
/// this and print nothing, since the error will be reported.
pub fn panic_is_contained() -> bool {
    CONTAINING.get()
}

/// Runs `f`, which must leave nothing half done behind a panic, and returns panics as errors.
fn contain<T>(f: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    let outer = CONTAINING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    CONTAINING.set(outer);
    match result {
        Ok(result) => result.map_err(|e| Error::Tokenizer { reason: e.to_string() }),
        Err(panic) => {
            Err(Error::Tokenizer { reason: format!("the tokenizers library panicked: {}", message(&*panic)) })
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

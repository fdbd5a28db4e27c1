//! Tokenizers in the files of text encoders: the vocabulary of a GGUF file, and the `SentencePiece` model or the whole
//! `tokenizer.json` that single files carry as a tensor. The others become one, as transformers converts them.
//! <https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/convert_slow_tokenizer.py>

use crate::{Error, Result, piece_model};
use kinora_checkpoint::TensorFile;
use serde_json::{Value, json};
use std::path::Path;

/// The last segment of the name of a tensor that is a `SentencePiece` model.
const SPIECE: &str = "spiece_model";
/// The last segment of the name of a tensor that is the content of a `tokenizer.json`.
const TOKENIZER_JSON: &str = "tokenizer_json";
const TOKENS: &str = "tokenizer.ggml.tokens";
/// The word in front of which text begins, and spaces in pieces.
const SPACE: &str = "▁";
/// The piece that ends texts.
const END: &str = "</s>";

/// Kinds of pieces, by their numbers in `SentencePiece` and GGUF.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const UNUSED: u64 = 5;

/// A Unigram vocabulary.
#[derive(Debug, Default)]
pub(crate) struct Vocabulary {
    pub(crate) pieces: Vec<Piece>,
    /// The rules by which characters are replaced first, compiled.
    pub(crate) charsmap: Vec<u8>,
    pub(crate) adds_prefix: bool,
    pub(crate) removes_spaces: bool,
    pub(crate) byte_fallback: bool,
    /// The piece for what no other piece stands for, if it is not the one of that kind.
    pub(crate) unknown: Option<usize>,
    /// The piece that ends texts, if it is not the one with the usual name.
    pub(crate) end: Option<usize>,
}

/// A piece of a vocabulary.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) score: f64,
    pub(crate) kind: u64,
}

/// Returns whether one of the files of a text encoder has a tokenizer in it.
pub fn has_tokenizer(files: &[TensorFile]) -> bool {
    let is_tensor = |file: &TensorFile| [SPIECE, TOKENIZER_JSON].into_iter().any(|last| named(file, last).is_some());
    files.iter().any(|file| is_tensor(file) || matches!(file.texts(TOKENS), Ok(Some(_)) | Err(_)))
}

/// Returns the tokenizer in the files of a text encoder as the content of a `tokenizer.json`.
///
/// # Errors
/// [`Error::Tokenizer`]: there is none, or one of another kind than Unigram; files that cannot be read.
pub fn tokenizer_json(files: &[TensorFile]) -> Result<Vec<u8>> {
    for file in files {
        let bytes = |name: String| Ok::<_, Error>(file.tensor(&name)?.flatten_all()?.to_vec1::<u8>()?);
        if let Some(name) = named(file, TOKENIZER_JSON) {
            return bytes(name);
        }
        if let Some(name) = named(file, SPIECE) {
            let bytes = bytes(name)?;
            return piece_model::read(&bytes).and_then(Vocabulary::json).map_err(|reason| in_file(file, &reason));
        }
        if let Some(tokens) = file.texts(TOKENS)? {
            return of_gguf(file, tokens)?.json().map_err(|reason| in_file(file, &reason));
        }
    }
    Err(Error::Tokenizer { reason: "the text encoder's files have none".to_string() })
}

/// Returns a `SentencePiece` model, the content of the file `path`, as the content of a `tokenizer.json`.
///
/// # Errors
/// [`Error::Tokenizer`]: bytes that are no such model, or one of another kind than Unigram.
pub fn tokenizer_json_of_pieces(path: &Path, bytes: &[u8]) -> Result<Vec<u8>> {
    let reason = |reason| Error::Tokenizer { reason: format!("`{}` {reason}", path.display()) };
    piece_model::read(bytes).and_then(Vocabulary::json).map_err(reason)
}

fn in_file(file: &TensorFile, reason: &str) -> Error {
    Error::Tokenizer { reason: format!("the one in `{}` {reason}", file.path().display()) }
}

/// The name of the tensor whose last segment is `last`.
fn named(file: &TensorFile, last: &str) -> Option<String> {
    file.infos().into_iter().map(|info| info.name).find(|name| name.rsplit('.').next() == Some(last))
}

fn of_gguf(file: &TensorFile, tokens: Vec<String>) -> Result<Vocabulary> {
    let value = |key: &str| file.metadata().get(&format!("tokenizer.ggml.{key}"));
    if let Some(model) = value("model").filter(|model| *model != "t5") {
        return Err(in_file(file, &format!("is of the kind `{model}`, only `t5` is read")));
    }
    let numbers = |key: &str| file.numbers(&format!("tokenizer.ggml.{key}"));
    let (scores, kinds) = (numbers("scores")?.unwrap_or_default(), numbers("token_type")?.unwrap_or_default());
    if scores.len() != tokens.len() || kinds.len() != tokens.len() {
        let (all, scores, kinds) = (tokens.len(), scores.len(), kinds.len());
        return Err(in_file(file, &format!("has {all} pieces, {scores} scores and {kinds} kinds")));
    }
    let pieces = tokens.into_iter().zip(scores).zip(kinds);
    let pieces = pieces.map(|((text, score), kind)| Piece { text, score, kind: kind as u64 });
    let id = |key: &str| value(key).and_then(|id| id.parse().ok());
    let holds = |key: &str| value(key).is_none_or(|truth| truth != "0");
    Ok(Vocabulary {
        pieces: pieces.collect(),
        charsmap: numbers("precompiled_charsmap")?.unwrap_or_default().into_iter().map(|b| b as i64 as u8).collect(),
        adds_prefix: holds("add_space_prefix"),
        removes_spaces: holds("remove_extra_whitespaces"),
        byte_fallback: false,
        unknown: id("unknown_token_id"),
        end: id("eos_token_id"),
    })
}

impl Vocabulary {
    /// The content of a `tokenizer.json`; an error is the end of a sentence about the vocabulary.
    pub(crate) fn json(mut self) -> std::result::Result<Vec<u8>, String> {
        // Rows of the embedding table that no piece belongs to have made-up names.
        while self.pieces.last().is_some_and(|piece| piece.kind == UNUSED) {
            self.pieces.pop();
        }
        let of_kind = |kind: u64| self.pieces.iter().position(|piece| piece.kind == kind);
        let unknown = self.unknown.or(of_kind(UNKNOWN)).ok_or("has no piece for unknown text")?;
        let named = |name: &str| self.pieces.iter().position(|piece| piece.text == name);
        let end = self.end.or_else(|| named(END)).ok_or("has no piece that ends texts")?;
        let ending = self.pieces.get(end).ok_or("ends texts with a piece that it does not have")?.text.clone();
        if unknown >= self.pieces.len() {
            return Err("has no piece for unknown text".to_string());
        }
        if let Some(piece) = self.pieces.iter().find(|piece| !piece.score.is_finite()) {
            return Err(format!("has a score that is NaN or infinite, of `{}`", piece.text));
        }
        let added: Vec<Value> = self.pieces.iter().enumerate().filter_map(|(id, piece)| added(id, piece)).collect();
        let vocabulary: Vec<Value> = self.pieces.iter().map(|piece| json!([piece.text, piece.score])).collect();
        let scheme = if self.adds_prefix { "always" } else { "never" };
        let space = json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": true});
        let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        let special = json!({"SpecialToken": {"id": ending, "type_id": 0}});
        let json = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": self.normalizers()},
            "pre_tokenizer": space,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [sequence("A"), special],
                "pair": [sequence("A"), special, sequence("B"), special],
                "special_tokens": {&ending: {"id": ending, "ids": [end], "tokens": [ending]}},
            },
            "decoder": space,
            "model": {
                "type": "Unigram",
                "unk_id": unknown,
                "vocab": vocabulary,
                "byte_fallback": self.byte_fallback,
            },
        });
        serde_json::to_vec(&json).map_err(|error| error.to_string())
    }

    fn normalizers(&self) -> Vec<Value> {
        let mut normalizers = Vec::new();
        if !self.charsmap.is_empty() {
            normalizers.push(json!({"type": "Precompiled", "precompiled_charsmap": base64(&self.charsmap)}));
        }
        if self.removes_spaces {
            normalizers.push(json!({"type": "Strip", "strip_left": false, "strip_right": true}));
            normalizers.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
        }
        normalizers
    }
}

/// The description of a piece that is found before all others, if it is one.
fn added(id: usize, piece: &Piece) -> Option<Value> {
    let special = [UNKNOWN, CONTROL].contains(&piece.kind);
    (special || piece.kind == USER_DEFINED).then(|| {
        json!({
            "id": id, "content": piece.text, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": special,
        })
    })
}

/// Bytes as text. <https://www.rfc-editor.org/rfc/rfc4648#section-4>
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(chunk.get(i).copied().unwrap_or_default()));
        for i in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * i)) as usize & 63];
            text.push(if i <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_padded_to_whole_groups() {
        let found = ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes()));
        assert_eq!(found, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
        assert_eq!(base64(&[0xff, 0xfe, 0xfb]), "//77");
    }
}

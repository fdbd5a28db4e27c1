//! `SentencePiece` models: the few fields of their protocol buffer that a Unigram vocabulary is made of.
//! <https://github.com/google/sentencepiece/blob/v0.2.1/src/sentencepiece_model.proto>

use crate::vocabulary::{Piece, Vocabulary};

/// The most pieces that are read.
const MOST_PIECES: usize = 1 << 21;
/// The number of the algorithm that is read.
const UNIGRAM: u64 = 1;

/// Reads a model; an error is the end of a sentence about it.
pub(crate) fn read(bytes: &[u8]) -> Result<Vocabulary, String> {
    let damaged = || "is no SentencePiece model".to_string();
    let mut vocabulary = Vocabulary { adds_prefix: true, removes_spaces: true, ..Vocabulary::default() };
    let mut rest = bytes;
    while !rest.is_empty() {
        let (number, field) = field(&mut rest).ok_or_else(damaged)?;
        match (number, field) {
            (1, Field::Bytes(_)) if vocabulary.pieces.len() == MOST_PIECES => {
                return Err(format!("has more than {MOST_PIECES} pieces"));
            }
            (1, Field::Bytes(piece)) => vocabulary.pieces.push(read_piece(piece).ok_or_else(damaged)?),
            (2, Field::Bytes(trainer)) => read_trainer(trainer, &mut vocabulary).ok_or_else(damaged)??,
            (3, Field::Bytes(normalizer)) => read_normalizer(normalizer, &mut vocabulary).ok_or_else(damaged)?,
            _ => {}
        }
    }
    if vocabulary.pieces.is_empty() { Err(damaged()) } else { Ok(vocabulary) }
}

fn read_piece(mut bytes: &[u8]) -> Option<Piece> {
    let mut piece = Piece { kind: 1, ..Piece::default() };
    while !bytes.is_empty() {
        match field(&mut bytes)? {
            (1, Field::Bytes(text)) => piece.text = std::str::from_utf8(text).ok()?.to_string(),
            (2, Field::Fixed32(bits)) => piece.score = f32::from_bits(bits).into(),
            (3, Field::Number(kind)) => piece.kind = kind,
            _ => {}
        }
    }
    Some(piece)
}

/// `None` for a damaged message; an error for an algorithm that is not read.
fn read_trainer(mut bytes: &[u8], vocabulary: &mut Vocabulary) -> Option<Result<(), String>> {
    while !bytes.is_empty() {
        match field(&mut bytes)? {
            (3, Field::Number(kind)) if kind != UNIGRAM => {
                return Some(Err("is not of the Unigram kind".to_string()));
            }
            (35, Field::Number(truth)) => vocabulary.byte_fallback = truth != 0,
            _ => {}
        }
    }
    Some(Ok(()))
}

fn read_normalizer(mut bytes: &[u8], vocabulary: &mut Vocabulary) -> Option<()> {
    while !bytes.is_empty() {
        match field(&mut bytes)? {
            (2, Field::Bytes(charsmap)) => vocabulary.charsmap = charsmap.to_vec(),
            (3, Field::Number(truth)) => vocabulary.adds_prefix = truth != 0,
            (4, Field::Number(truth)) => vocabulary.removes_spaces = truth != 0,
            _ => {}
        }
    }
    Some(())
}

/// The value of a field.
enum Field<'a> {
    Number(u64),
    Fixed32(u32),
    Fixed64,
    Bytes(&'a [u8]),
}

/// Takes a field and its number off the start. <https://protobuf.dev/programming-guides/encoding/>
fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let key = number(bytes)?;
    let field = match key & 7 {
        0 => Field::Number(number(bytes)?),
        1 => {
            *bytes = bytes.get(8..)?;
            Field::Fixed64
        }
        2 => {
            let length = usize::try_from(number(bytes)?).ok()?;
            let (taken, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Field::Bytes(taken)
        }
        5 => {
            let (taken, rest) = bytes.split_first_chunk()?;
            *bytes = rest;
            Field::Fixed32(u32::from_le_bytes(*taken))
        }
        _ => return None,
    };
    Some((key >> 3, field))
}

/// Takes a number off the start: seven bits in each byte, the lowest first.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

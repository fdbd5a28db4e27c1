//! Undoes decoding with the wrong encoding, wherever that can be told for sure.
//!
//! The method is that of ftfy 6.3.1, <https://ftfy.readthedocs.io/en/latest/heuristic.html>.

use super::badness::is_bad;
use super::codepages::{CODEPAGES, Codepage, LATIN_1_LIKE, WINDOWS_1252};
use regex::{Regex, bytes};
use std::sync::LazyLock;

/// Repairs `text` until nothing more can be repaired.
pub(super) fn fix_encoding(text: &str) -> String {
    let mut text = text.to_string();
    loop {
        let fixed = fix_once(&text);
        if fixed == text {
            return fixed;
        }
        text = fixed;
    }
}

/// Replaces control characters U+0080 to U+009F by the characters that Windows-1252 has at their places.
pub(super) fn fix_controls(text: &str) -> String {
    let fix = |c: char| if is_control(c) { WINDOWS_1252.decode(c as u8) } else { c };
    text.chars().map(fix).collect()
}

fn is_control(c: char) -> bool {
    ('\u{80}'..='\u{9f}').contains(&c)
}

/// Returns `text` with the first applicable repair.
fn fix_once(text: &str) -> String {
    if text.is_ascii() || !is_bad(text) {
        return text.to_string();
    }
    if let Some(fixed) = CODEPAGES.iter().find_map(|page| as_utf8(page, text)) {
        return fixed;
    }
    let repairs = [fix_parts, fix_controls];
    repairs.iter().map(|repair| repair(text)).find(|fixed| fixed != text).unwrap_or_else(|| text.to_string())
}

/// Returns `text` encoded in `page` and decoded as UTF-8.
fn as_utf8(page: &Codepage, text: &str) -> Option<String> {
    let mut bytes = page.encode(text)?;
    if page.restores_spaces && LOST_NO_BREAK_SPACE.is_match(&bytes) {
        bytes = restore_no_break_spaces(&bytes);
    }
    if page.sloppy {
        bytes = LOST_BYTE.replace_all(&bytes, "\u{fffd}".as_bytes()).into_owned();
    }
    decode_utf8(&bytes)
}

/// Repairs sequences that look like UTF-8 inside of a text that does not as a whole.
fn fix_parts(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut done, mut from) = (0, 0);
    while let Some(found) = PARTS.sequence.find_at(text, from) {
        let before = text[..found.start()].chars().next_back();
        if before.is_some_and(|c| PARTS.inner.contains(&c)) {
            // The beginning of the sequence is missing: look again one character further on.
            from = found.start() + text[found.start()..].chars().next().map_or(1, char::len_utf8);
            continue;
        }
        out.push_str(&text[done..found.start()]);
        let part = found.as_str();
        if part.len() < text.len() && is_bad(part) {
            out.push_str(&fix_encoding(part));
        } else {
            out.push_str(part);
        }
        (done, from) = (found.end(), found.end());
    }
    out.push_str(&text[done..]);
    out
}

/// Patterns of UTF-8 that was decoded as a Latin-1-like encoding.
struct Parts {
    /// Complete sequences, one or more in succession.
    sequence: Regex,
    /// Characters that are continuation bytes there and hardly anything else.
    inner: Vec<char>,
}

static PARTS: LazyLock<Parts> = LazyLock::new(|| {
    let class = |ranges: &[std::ops::RangeInclusive<u8>]| -> Vec<char> {
        let characters = LATIN_1_LIKE.iter().flat_map(|page| page.upper());
        let of_ranges = characters.filter(|(byte, _)| ranges.iter().any(|range| range.contains(byte)));
        of_ranges.map(|(_, c)| c).collect()
    };
    let text = |class: Vec<char>| class.into_iter().collect::<String>();
    let (of_2, of_3) = (text(class(&[0xc2..=0xdf])), text(class(&[0xe0..=0xef])));
    let of_4 = text(class(&[0xf0..=0xf0, 0xf3..=0xf3])); // the other first bytes lead to nothing that is in use
    let inner = class(&[0x80..=0xbf]);
    let next = format!("[ {}]", text(inner.clone())); // a space may have been a no-break space
    let pattern = format!("(?:[{of_2}]{next}|[{of_3}]{next}{{2}}|[{of_4}]{next}{{3}})+");
    let in_use = "–—―‘’‚“”„•…";
    Parts {
        sequence: Regex::new(&pattern).expect("the pattern is valid"),
        inner: inner.into_iter().filter(|&c| !in_use.contains(c)).collect(),
    }
});

/// UTF-8 in which a program took a byte 0xA0, a no-break space elsewhere, for a space. Only first bytes that lead to
/// characters that are likely are listed.
static LOST_NO_BREAK_SPACE: LazyLock<bytes::Regex> = LazyLock::new(|| {
    byte_regex(&[
        r"[\xc2\xc3\xc5\xce\xd0\xd9][ ]",
        r"[\xe2\xe3][ ][\x80-\x84\x86-\x9f\xa1-\xbf]",
        r"[\xe0-\xe3][\x80-\x84\x86-\x9f\xa1-\xbf][ ]",
        r"\xf0[ ][\x80-\xbf][\x80-\xbf]",
        r"\xf0[\x80-\xbf][ ][\x80-\xbf]",
        r"\xf0[\x80-\xbf][\x80-\xbf][ ]",
    ])
});

/// UTF-8, or UTF-16 surrogates in it, of which some bytes were replaced: by U+FFFD, which is 0x1A here, or once by `?`.
static LOST_BYTE: LazyLock<bytes::Regex> = LazyLock::new(|| {
    byte_regex(&[
        r"[\xc2-\xdf]\x1a",
        r"[\xc2-\xc3][?]",
        r"\xed[\xa0-\xaf][\x1a?]\xed[\xb0-\xbf][\x1a?\x80-\xbf]",
        r"\xed[\xa0-\xaf][\x1a?\x80-\xbf]\xed[\xb0-\xbf][\x1a?]",
        r"[\xe0-\xef][\x1a?][\x1a\x80-\xbf]",
        r"[\xe0-\xef][\x1a\x80-\xbf][\x1a?]",
        r"[\xf0-\xf4][\x1a?][\x1a\x80-\xbf][\x1a\x80-\xbf]",
        r"[\xf0-\xf4][\x1a\x80-\xbf][\x1a?][\x1a\x80-\xbf]",
        r"[\xf0-\xf4][\x1a\x80-\xbf][\x1a\x80-\xbf][\x1a?]",
        r"\x1a",
    ])
});

fn byte_regex(patterns: &[&str]) -> bytes::Regex {
    bytes::Regex::new(&format!("(?-u){}", patterns.join("|"))).expect("the patterns are valid")
}

/// Puts 0xA0 back. `à` is most often a word of its own, so the space after it stays: `Ã la` is `à la`; Portuguese
/// `às`, `àquele`, `àquela` and `àquilo` are the exceptions.
fn restore_no_break_spaces(bytes: &[u8]) -> Vec<u8> {
    let mut with_words = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        with_words.push(first);
        rest = after;
        if let (0xc3, Some(word)) = (first, after.strip_prefix(b" ")) {
            let joined = [&b" "[..], b"quele", b"quela", b"quilo", b"s "].iter().any(|start| word.starts_with(start));
            if !joined {
                with_words.push(0xa0);
            }
        }
    }
    let space_to_a0 = |found: &bytes::Captures| -> Vec<u8> {
        found[0].iter().map(|&byte| if byte == b' ' { 0xa0 } else { byte }).collect()
    };
    LOST_NO_BREAK_SPACE.replace_all(&with_words, space_to_a0).into_owned()
}

/// UTF-8, where a character may also be the UTF-8 of its two UTF-16 surrogates and NUL may be `C0 80`.
fn decode_utf8(bytes: &[u8]) -> Option<String> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        rest = match *rest {
            [0xc0, 0x80, ..] => {
                plain.push(0);
                &rest[2..]
            }
            [0xed, a @ 0xa0..=0xaf, b @ 0x80..=0xbf, 0xed, c @ 0xb0..=0xbf, d @ 0x80..=0xbf, ..] => {
                let bits = |byte: u8, mask: u8, shift: u32| u32::from(byte & mask) << shift;
                let code = 0x10000 + bits(a, 0x0f, 16) + bits(b, 0x3f, 10) + bits(c, 0x0f, 6) + bits(d, 0x3f, 0);
                let character = char::from_u32(code)?;
                plain.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                &rest[6..]
            }
            _ => {
                plain.push(first);
                after
            }
        };
    }
    String::from_utf8(plain).ok()
}

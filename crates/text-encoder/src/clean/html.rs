//! HTML character references, the tolerant way of Python's `html.unescape`
//! (<https://docs.python.org/3/library/html.html#html.unescape>) and the careful way of ftfy.

use super::codepages::WINDOWS_1252;
use regex::{Captures, Regex};
use std::sync::LazyLock;

static ANY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("&(?:#(?<decimal>[0-9]+);?|#[xX](?<hex>[0-9a-fA-F]+);?|(?<name>[^\\t\\n\\x0c <&#;]{1,32};?))")
        .expect("the pattern is valid")
});

static WITH_SEMICOLON: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("&#?[0-9A-Za-z]{1,24};").expect("the pattern is valid"));

/// Replaces every character reference, also those that lack their semicolon (`&ampx` → `&x`).
pub(super) fn unescape(text: &str) -> String {
    ANY.replace_all(text, |found: &Captures| {
        let number = |group: &str, radix| found.name(group).map(|digits| numbered(digits.as_str(), radix));
        number("decimal", 10).or_else(|| number("hex", 16)).unwrap_or_else(|| named(&found[0]))
    })
    .into_owned()
}

/// Replaces the references that cannot be anything else: they end in a semicolon, and their name is HTML's or, where
/// HTML has no reference of that name, its upper case (`&EACUTE;` → `É`).
pub(super) fn unescape_certain(text: &str) -> String {
    WITH_SEMICOLON
        .replace_all(text, |found: &Captures| {
            let reference = &found[0];
            if let Some(character) = entity(reference).map(str::to_string).or_else(|| upper_case_entity(reference)) {
                return character;
            }
            let unescaped = if reference.starts_with("&#") { unescape(reference) } else { reference.to_string() };
            if unescaped.contains(';') { reference.to_string() } else { unescaped }
        })
        .into_owned()
}

/// HTML's character `reference`: it starts with `&` and includes the semicolon if there is one.
fn entity(reference: &str) -> Option<&'static str> {
    htmlize::ENTITIES.get(reference.as_bytes()).and_then(|bytes| std::str::from_utf8(bytes).ok())
}

fn upper_case_entity(reference: &str) -> Option<String> {
    let lower = reference.to_ascii_lowercase();
    let is_upper = lower.to_ascii_uppercase() == reference;
    let means_nothing = is_upper && unescape(reference) == reference;
    if means_nothing { entity(&lower).map(str::to_uppercase) } else { None }
}

/// The longest known name that `reference` starts with, expanded, and the rest of it.
fn named(reference: &str) -> String {
    let ends = (3..=reference.len()).rev().filter(|&end| reference.is_char_boundary(end));
    for end in ends {
        let (name, rest) = reference.split_at(end);
        if let Some(character) = entity(name) {
            return format!("{character}{rest}");
        }
    }
    reference.to_string()
}

fn numbered(digits: &str, radix: u32) -> String {
    // Only digits of the radix come here, so what cannot be parsed is too large.
    let number = u32::from_str_radix(digits, radix).unwrap_or(u32::MAX);
    let last_two_of_plane = number & 0xFFFE == 0xFFFE;
    let character = match number {
        0 => '\u{fffd}',
        0x80..=0x9f => WINDOWS_1252.decode(number as u8),
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => return String::new(),
        _ if last_two_of_plane && number <= 0x0010_FFFF => return String::new(),
        _ => char::from_u32(number).unwrap_or('\u{fffd}'),
    };
    character.into()
}

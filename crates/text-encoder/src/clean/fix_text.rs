//! Repairs text as `fix_text` of ftfy 6.3.1 does with its default settings,
//! <https://ftfy.readthedocs.io/en/latest/config.html>.

use super::{html, mojibake};
use regex::Regex;
use std::sync::LazyLock;
use unicode_normalization::UnicodeNormalization;

/// Fixes `text` line by line. HTML entities are left alone from the first line on that has a `<`: that is HTML.
pub(super) fn fix_text(text: &str) -> String {
    let mut is_html = false;
    let fix = |line: &str| {
        is_html |= line.contains('<');
        fix_line(line, is_html)
    };
    text.split_inclusive('\n').map(fix).collect()
}

fn fix_line(line: &str, is_html: bool) -> String {
    let mut text = line.to_string();
    loop {
        let before = text.clone();
        if !is_html {
            text = html::unescape_certain(&text);
        }
        text = mojibake::fix_controls(&mojibake::fix_encoding(&text));
        text = fix_characters(&text);
        text = TERMINAL_ESCAPE.replace_all(&text, "").into_owned();
        text = text.chars().filter(|&c| !is_invisible_control(c)).nfc().collect();
        if text == before {
            return text;
        }
    }
}

static TERMINAL_ESCAPE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\x1b\[[\d;]*[a-zA-Z]").expect("the pattern is valid"));

/// Ligatures, character widths, quotes and line breaks.
fn fix_characters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        match c {
            '\r' | '\u{2028}' | '\u{2029}' | '\u{85}' => out.push('\n'),
            '\u{3000}' => out.push(' '),
            '\u{ff01}'..='\u{ffef}' => c.nfkc().for_each(|c| out.push(uncurl(c))),
            c => match ligature(c) {
                Some(letters) => out.push_str(letters),
                None => out.push(uncurl(c)),
            },
        }
    }
    out
}

fn uncurl(c: char) -> char {
    match c {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        c => c,
    }
}

/// The letters of a Latin ligature or digraph that was not chosen for its meaning.
fn ligature(c: char) -> Option<&'static str> {
    Some(match c {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "'n",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        _ => return None,
    })
}

/// Control characters that show nothing; those that are white space, join letters or turn the direction stay.
fn is_invisible_control(c: char) -> bool {
    matches!(
        c,
        '\0'..='\x08'
            | '\x0b'
            | '\x0e'..='\x1f'
            | '\x7f'
            | '\u{206a}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffc}'
    )
}

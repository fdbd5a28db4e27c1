//! Text of others as people may see it: prompts, names and remarks out of files can hold anything, also what moves a
//! terminal's cursor or hides a part of a line.

use kinora_files::is_hidden;
use std::borrow::Cow;
use std::fmt::Write;

/// Returns `text` as one line without characters that are not seen: they are written as escapes, such as `\u{1b}`. The
/// joiners of emoji and of words in other scripts stay where they join such.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return text.into();
    }
    let mut result = String::with_capacity(text.len() + 16);
    let mut before = '\0';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let joins =
            matches!(c, '\u{200c}' | '\u{200d}') && is_joined(before) && rest.peek().copied().is_some_and(is_joined);
        let _ = match c {
            '\n' | '\t' | '\r' => write!(result, "{}", c.escape_default()),
            c if is_hidden(c) && !joins => write!(result, "{}", c.escape_unicode()),
            c => write!(result, "{c}"),
        };
        before = c;
    }
    result.into()
}

/// Whether a joiner beside `c` does something.
fn is_joined(c: char) -> bool {
    !c.is_ascii() && !is_hidden(c) && !c.is_whitespace()
}

/// Returns JSON in which the characters of [`shown`] are escaped as JSON does it, so that it reads back as the same.
pub fn shown_json(json: &str) -> Cow<'_, str> {
    let is_raw = |c: char| c != '\n' && is_hidden(c);
    if !json.chars().any(is_raw) {
        return json.into();
    }
    let mut result = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_raw(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(result, "\\u{unit:04x}"); // a string takes everything
            }
        } else {
            result.push(c);
        }
    }
    result.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_spelled_out() {
        for (text, expected) in [
            ("a red ball, é 球", "a red ball, é 球"),
            ("\u{1b}]0;title\u{7}x", "\\u{1b}]0;title\\u{7}x"),
            ("a\nseed  7\r\t", "a\\nseed  7\\r\\t"),
            ("gpj.\u{202e}exe\u{2066}", "gpj.\\u{202e}exe\\u{2066}"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("a\u{200b}b\u{feff}\u{200d}c", "a\\u{200b}b\\u{feff}\\u{200d}c"),
            ("\u{e0041}", "\\u{e0041}"),
            ("👨\u{200d}👩 می\u{200c}خواهم", "👨\u{200d}👩 می\u{200c}خواهم"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn json_reads_back_as_the_same() {
        let text = "a\u{202e}\u{7f}\u{e0041}\u{1b}\n\"é\"";
        let value = serde_json::json!({ "prompt": text });
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let escaped = shown_json(&pretty);
        assert!(escaped.chars().all(|c| c == '\n' || !is_hidden(c)), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }
}

//! JSON files of models, as Python's tools write and read them.

use crate::content::Content;
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::path::Path;

const MARK: &[u8] = b"\xef\xbb\xbf";
/// Numbers that Python writes and JSON does not have; the longest first.
const NO_NUMBERS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

/// Reads the content `bytes` of the JSON file `path`. The mark of UTF-8 at the start is skipped, and `NaN`, `Infinity` and
/// `-Infinity` are null.
///
/// # Errors
/// [`Error::Content`] if it is something else, [`Error::NotJson`] if it is damaged.
pub fn read_json<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    let read = serde_json::from_slice(&plain_json(bytes));
    read.map_err(|error| match Content::of(bytes) {
        None | Some(Content::Json) if !bytes.is_empty() => {
            let text = std::str::from_utf8(bytes).is_ok();
            let problem = if text { error.to_string() } else { "it is not UTF-8 text".to_string() };
            Error::NotJson { path: path.to_path_buf(), problem }
        }
        content => {
            let content = content.unwrap_or(Content::Empty);
            Error::Content { path: path.to_path_buf(), content, wanted: "JSON" }
        }
    })
}

/// Returns JSON without the mark of UTF-8 at its start, and with `null` for each `NaN` and infinity outside its texts.
pub fn plain_json(bytes: &[u8]) -> Cow<'_, [u8]> {
    let bytes = bytes.strip_prefix(MARK).unwrap_or(bytes);
    let mut plain: Option<Vec<u8>> = None;
    let (mut at, mut copied, mut in_text) = (0, 0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => in_text = !in_text,
            // The letter behind it belongs to it.
            b'\\' if in_text => at += 1,
            b'-' | b'I' | b'N' if !in_text => {
                if let Some(number) = NO_NUMBERS.iter().find(|number| bytes[at..].starts_with(number)) {
                    let plain = plain.get_or_insert_default();
                    plain.extend_from_slice(&bytes[copied..at]);
                    plain.extend_from_slice(b"null");
                    at += number.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    match plain {
        None => Cow::Borrowed(bytes),
        Some(mut plain) => {
            plain.extend_from_slice(&bytes[copied..]);
            Cow::Owned(plain)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_lacks_are_null_outside_texts() {
        let plain = |text: &str| String::from_utf8(plain_json(text.as_bytes()).into_owned()).unwrap();
        assert_eq!(
            plain("\u{feff}{\"a\": NaN, \"b\": [-Infinity,Infinity, -1]}"),
            "{\"a\": null, \"b\": [null,null, -1]}"
        );
        let text = r#"{"NaN": "Infinity \" NaN", "c\\": NaN}"#;
        assert_eq!(plain(text), r#"{"NaN": "Infinity \" NaN", "c\\": null}"#);
        assert!(matches!(plain_json(b"{\"a\": 1}"), Cow::Borrowed(_)));
        assert_eq!(plain("\"\\"), "\"\\");
    }
}

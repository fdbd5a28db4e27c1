//! Prompt cleaning, as in the pipelines of the models' releases.
//!
//! Reference: `prompt_clean` of
//! <https://github.com/huggingface/diffusers/blob/v0.42.1/src/diffusers/pipelines/wan/pipeline_wan.py>: ftfy, HTML
//! entities twice, white space. This implements ftfy 6.3.1; other crates implement older versions.

mod badness;
mod codepages;
mod fix_text;
mod html;
mod mojibake;

use regex::Regex;
use std::sync::LazyLock;

/// Returns the text that is tokenized for `prompt`: broken encodings, HTML entities, ligatures, full-width letters, curly
/// quotes and control characters fixed, Unicode composed (NFC), white space collapsed and trimmed.
pub fn clean_prompt(prompt: &str) -> String {
    let fixed = fix_text::fix_text(prompt);
    let text = html::unescape(&html::unescape(&fixed));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns whether nothing of `prompt` would be seen: white space, control and formatting characters (zero-width spaces, byte
/// order marks, directions), combining marks without a letter, and fillers.
pub fn is_blank(prompt: &str) -> bool {
    static SEEN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"[^\p{Z}\p{C}\p{M}\s\u{115f}\u{1160}\u{2800}\u{3164}\u{ffa0}]").expect("a constant")
    });
    !SEEN.is_match(&clean_prompt(prompt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_blank() {
        for prompt in
            ["", " \n", "\u{200b}", "\u{feff}", "&nbsp;", "\u{202e}\u{2066}", "\u{3164}", "\u{301}", "\u{2800} "]
        {
            assert!(is_blank(prompt), "{prompt:?}");
        }
        for prompt in ["a", "球", "\u{200b}.", "e\u{301}", "🎈", "&amp;"] {
            assert!(!is_blank(prompt), "{prompt:?}");
        }
    }

    #[test]
    fn cleans_as_ftfy_and_diffusers_do() {
        let json = include_str!("../../../../tests/fixtures/text/clean.json");
        let cases: Vec<Vec<String>> = serde_json::from_str(json).unwrap();
        assert!(cases.len() >= 100);
        let wrong: Vec<String> = cases
            .iter()
            .flat_map(|case| {
                let (text, fixed, cleaned) = (&case[0], &case[1], case.last().unwrap());
                [("fix_text", fix_text::fix_text(text), fixed), ("clean_prompt", clean_prompt(text), cleaned)]
                    .map(|(what, found, expected)| (what, text, found, expected))
            })
            .filter(|(_, _, found, expected)| found != *expected)
            .map(|(what, text, found, expected)| {
                format!("{what}({text:?})\n     found {found:?}\n  expected {expected:?}")
            })
            .collect();
        assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    }
}

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

/// Returns the text that is tokenized for `prompt`: broken encodings, HTML entities, ligatures, full-width letters, curly
/// quotes and control characters fixed, Unicode composed (NFC), white space collapsed and trimmed.
pub fn clean_prompt(prompt: &str) -> String {
    let fixed = fix_text::fix_text(prompt);
    let text = html::unescape(&html::unescape(&fixed));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

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

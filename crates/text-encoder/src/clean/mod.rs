//! Prompt cleaning.

/// Placeholder.
pub fn clean_prompt(prompt: &str) -> String {
    prompt.split_whitespace().collect::<Vec<_>>().join(" ")
}

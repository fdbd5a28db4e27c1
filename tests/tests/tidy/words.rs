//! The names of a family and its parts stand in the family's folder and in manifests, nowhere else.

use std::path::Path;

/// Names that only `families/` and manifests may use.
const FAMILY: &[&str] = &["wan", "umt5", "vace", "t5", "ltx", "gemma"];
const PHRASE: &str = "clip vision";

/// Lines of `text` outside its test module that use a family's name, with their numbers. Manifests are named by their
/// files.
pub fn family_words(text: &str) -> Vec<(usize, &str)> {
    let own = text.split("\nmod tests {").next().unwrap_or_default();
    let lines = own.lines().enumerate().filter(|(_, line)| !line.contains("include_str!(") && names_a_family(line));
    lines.map(|(index, line)| (index + 1, line)).collect()
}

/// Whether the file may use a family's names: it is of the family, or a module of tests.
pub fn is_exempt(path: &Path) -> bool {
    let path = path.to_string_lossy();
    path.contains("pipeline/src/families/") || path.ends_with("tests.rs")
}

fn names_a_family(line: &str) -> bool {
    // The address of a source is not a name of ours.
    let line = &line.split_whitespace().filter(|word| !word.contains("https://")).collect::<Vec<_>>().join(" ");
    let words = words(line);
    // `wan2.1` and `WanModel` are the family's name too, `wanted` is not.
    let is_name =
        |word: &String| FAMILY.iter().any(|name| word == name || word.trim_end_matches(char::is_numeric) == *name);
    line.to_lowercase().contains(PHRASE) || words.iter().any(is_name)
}

/// The words of a line in small letters: names in snake case and in camel case are cut apart.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in line.chars() {
        let starts = letter.is_uppercase() && (before.is_lowercase() || before.is_numeric());
        if starts || !letter.is_alphanumeric() {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            words.last_mut().expect("one at least").extend(letter.to_lowercase());
        }
        before = letter;
    }
    words
}

#[test]
fn names_are_told_from_other_words() {
    for line in
        ["WanModel::new", "wan2.2-ti2v-5b", "let wan = 1;", "the VACE blocks", "UMT5_XXL", "a CLIP vision tower"]
    {
        assert!(names_a_family(line), "{line}");
    }
    for line in ["it is wanted", "swan_lake", "at5", "the clip's vision", "advances"] {
        assert!(!names_a_family(line), "{line}");
    }
}

//! The name closest to an unknown one, for "did you mean".

/// The longest name that is compared, in bytes: the time grows with the square.
const LONGEST: usize = 200;

/// Returns the closest of `names` by edit distance, if it is close enough. A name with the same numbers (of the same block)
/// is closer than one with others.
pub(crate) fn most_similar<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if name.len() > LONGEST {
        return None;
    }
    let limit = (name.len() / 3).max(2);
    let is_near = |other: &&str| other.len() <= LONGEST && other.len().abs_diff(name.len()) <= limit;
    let candidates = names.into_iter().filter(is_near);
    let scored = candidates.map(|other| (numbers(other) != numbers(name), edit_distance(name, other), other));
    scored.filter(|(_, distance, _)| *distance <= limit).min().map(|(_, _, other)| other.to_string())
}

fn numbers(name: &str) -> Vec<&str> {
    name.split('.').filter(|segment| segment.bytes().all(|b| b.is_ascii_digit())).collect()
}

/// Returns the Levenshtein distance in bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

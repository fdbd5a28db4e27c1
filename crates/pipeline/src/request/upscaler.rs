//! [`Upscaler`]: what enlarges decoded frames.

use std::fmt;
use std::str::FromStr;

/// Letters that are wrong, missing or too many in a word with which a name is meant.
const MISTAKES: usize = 2;

/// What enlarges decoded frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Upscaler {
    /// The Lanczos kernel: sharp edges, no new detail, next to no time.
    #[default]
    Lanczos,
    /// SPAN, a small network that is compiled into the library: it makes four pixels of one, per side, and the Lanczos kernel
    /// the size that is asked for.
    Span,
}

impl Upscaler {
    const ALL: [Self; 2] = [Self::Lanczos, Self::Span];
}

impl FromStr for Upscaler {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(known) = Self::ALL.into_iter().find(|known| known.to_string() == text) {
            return Ok(known);
        }
        let lower = text.to_lowercase();
        let alike = Self::ALL.map(|known| (strsim::damerau_levenshtein(&lower, &known.to_string()), known));
        let meant =
            alike.into_iter().filter(|(mistakes, _)| *mistakes <= MISTAKES).min_by_key(|(mistakes, _)| *mistakes);
        let meant = meant.map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"));
        let all = Self::ALL.map(|known| known.to_string()).join(", ");
        Err(format!("`{text}` is not one of {all}{meant}"))
    }
}

impl fmt::Display for Upscaler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lanczos => "lanczos",
            Self::Span => "span",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_shown_and_suggested() {
        for known in Upscaler::ALL {
            assert_eq!(known.to_string().parse(), Ok(known));
        }
        let error = |text: &str| text.parse::<Upscaler>().expect_err("unknown");
        assert_eq!(error("spam"), "`spam` is not one of lanczos, span; did you mean `span`?");
        assert_eq!(error("Lanczos3"), "`Lanczos3` is not one of lanczos, span; did you mean `lanczos`?");
        assert_eq!(error("esrgan"), "`esrgan` is not one of lanczos, span");
        assert_eq!(error(""), "`` is not one of lanczos, span");
    }
}

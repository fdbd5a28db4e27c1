//! [`AttentionChoice`]: how the tokens of a clip attend to each other, `dense` or `sparse[:KEEP]`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The largest share of blocks that `sparse` keeps if it says none: as many as matter.
const ANY: f64 = 1.0;

/// The self-attention of the transformer: what a request, a mode or a recipe says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AttentionChoice {
    /// Every token attends to every other.
    Dense,
    /// Every head attends, from each block of tokens, to the blocks that matter most to it (see [`kinora_dit::Sparse`]).
    Sparse {
        /// The largest share of blocks that is kept, above 0 and up to 1.
        keep: f64,
    },
}

impl AttentionChoice {
    const DENSE: &str = "dense";
    const SPARSE: &str = "sparse";

    /// The share of blocks that sparse attention keeps at most; `None` for dense attention.
    pub fn keep(self) -> Option<f64> {
        match self {
            Self::Dense => None,
            Self::Sparse { keep } => Some(keep),
        }
    }
}

impl fmt::Display for AttentionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense => f.write_str(Self::DENSE),
            Self::Sparse { keep: ANY } => f.write_str(Self::SPARSE),
            Self::Sparse { keep } => write!(f, "{}:{keep}", Self::SPARSE),
        }
    }
}

impl FromStr for AttentionChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let keep = match text.split_once(':') {
            None if text == Self::DENSE => return Ok(Self::Dense),
            None if text == Self::SPARSE => return Ok(Self::Sparse { keep: ANY }),
            Some((Self::SPARSE, keep)) => keep,
            _ => return Err(format!("there is no attention `{text}`, only dense and sparse[:KEEP]")),
        };
        let share = keep.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
        let share = share.ok_or_else(|| format!("`{keep}` is not a share above 0 and up to 1, such as 0.3"))?;
        Ok(Self::Sparse { keep: share })
    }
}

impl TryFrom<String> for AttentionChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<AttentionChoice> for String {
    fn from(choice: AttentionChoice) -> Self {
        choice.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_written() {
        for (text, written) in
            [("dense", "dense"), ("sparse", "sparse"), ("sparse:0.5", "sparse:0.5"), ("sparse:1", "sparse")]
        {
            assert_eq!(text.parse::<AttentionChoice>().map(String::from), Ok(written.to_string()));
        }
        assert_eq!("sparse:1".parse::<AttentionChoice>().map(AttentionChoice::keep), Ok(Some(1.0)));
        for wrong in ["sparse:0", "sparse:-0.1", "sparse:1.1", "sparse:NaN", "sparse:", "sparse:half"] {
            let keep = wrong.strip_prefix("sparse:").unwrap_or_default();
            let error = wrong.parse::<AttentionChoice>().expect_err("it is no share");
            assert!(error.starts_with(&format!("`{keep}` is not a share")), "{error}");
        }
        for wrong in ["exact", "", "dense:0.3", "Sparse"] {
            assert!(wrong.parse::<AttentionChoice>().is_err_and(|error| error.contains("only dense and sparse")));
        }
    }
}

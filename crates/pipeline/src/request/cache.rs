//! [`CacheSetting`]: a step cache as the user names it, `NAME[:THRESHOLD]`; [`CacheChoice`]: that, or `none`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The step caches by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// `first-block`.
    FirstBlock,
    /// `easycache`.
    EasyCache,
    /// `teacache`, for models whose manifest has its coefficients.
    TeaCache,
    /// `magcache`, for models whose manifest has its ratios.
    MagCache,
}

impl CacheKind {
    /// All of them, in the order in which they are listed to users.
    pub const ALL: [Self; 4] = [Self::FirstBlock, Self::EasyCache, Self::TeaCache, Self::MagCache];

    /// The name it is called by on the command line and in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstBlock => "first-block",
            Self::EasyCache => "easycache",
            Self::TeaCache => "teacache",
            Self::MagCache => "magcache",
        }
    }
}

/// A step cache and how much change it lets pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CacheSetting {
    /// Which one.
    pub kind: CacheKind,
    /// Predictions below this (accumulated) relative change are reused; `None` is the cache's or the model's own.
    pub threshold: Option<f64>,
}

impl fmt::Display for CacheSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.threshold {
            Some(threshold) => write!(f, "{}:{threshold}", self.kind.name()),
            None => f.write_str(self.kind.name()),
        }
    }
}

impl FromStr for CacheSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, threshold) = match text.split_once(':') {
            Some((name, threshold)) => (name, Some(threshold)),
            None => (text, None),
        };
        let kind = CacheKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let names = CacheKind::ALL.map(CacheKind::name).join(", ");
            format!("there is no step cache `{name}`, only {names}")
        })?;
        let parse = |text: &str| text.parse().map_err(|_| format!("`{text}` is not a threshold such as 0.05"));
        Ok(Self { kind, threshold: threshold.map(parse).transpose()? })
    }
}

/// A step cache, or none: what a request, a mode or a recipe says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CacheChoice {
    /// Everything is computed, also where the model's mode has a cache.
    Off,
    /// This one.
    On(CacheSetting),
}

impl CacheChoice {
    const OFF: &str = "none";

    /// The step cache, if one is chosen.
    pub fn setting(self) -> Option<CacheSetting> {
        match self {
            Self::Off => None,
            Self::On(setting) => Some(setting),
        }
    }
}

impl From<CacheSetting> for CacheChoice {
    fn from(setting: CacheSetting) -> Self {
        Self::On(setting)
    }
}

impl fmt::Display for CacheChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str(Self::OFF),
            Self::On(setting) => setting.fmt(f),
        }
    }
}

impl FromStr for CacheChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == Self::OFF { Ok(Self::Off) } else { text.parse().map(Self::On) }
    }
}

impl TryFrom<String> for CacheChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<CacheChoice> for String {
    fn from(choice: CacheChoice) -> Self {
        choice.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cache_is_a_choice() {
        for text in ["none", "magcache:0.24"] {
            assert_eq!(text.parse::<CacheChoice>().map(String::from), Ok(text.to_string()));
        }
        assert_eq!("none".parse::<CacheChoice>().map(CacheChoice::setting), Ok(None));
    }

    #[test]
    fn names_and_thresholds_are_read_and_written() {
        for text in ["first-block", "easycache:0.05", "teacache:0", "magcache:0.24"] {
            assert_eq!(text.parse::<CacheSetting>().map(|setting| setting.to_string()), Ok(text.to_string()));
        }
        assert!("first-block:much".parse::<CacheSetting>().is_err_and(|error| error.contains("`much`")));
        assert!("fbcache".parse::<CacheSetting>().is_err_and(|error| error.contains("only first-block, easycache")));
    }
}

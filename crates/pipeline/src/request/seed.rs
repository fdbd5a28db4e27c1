//! Seeds as people write them.

use serde::de::{Deserializer, Error, Visitor};
use std::fmt;

/// The seed that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeedChoice {
    /// Another one each time.
    Random,
    /// This one.
    Fixed(u64),
}

impl SeedChoice {
    /// Returns the seed, if it is fixed.
    pub fn fixed(self) -> Option<u64> {
        match self {
            Self::Random => None,
            Self::Fixed(seed) => Some(seed),
        }
    }
}

/// Reads a seed: a whole number, or `random` or -1 for another one each time.
///
/// # Errors
/// A sentence that says what a seed is.
pub fn parse_seed(text: &str) -> Result<SeedChoice, String> {
    match text.trim() {
        "random" | "-1" => Ok(SeedChoice::Random),
        number => number.parse().map(SeedChoice::Fixed).map_err(|_| needed()),
    }
}

/// Returns a seed of 32 bits, which can be typed and which other tools accept.
pub fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    u64::from(std::collections::hash_map::RandomState::new().build_hasher().finish() as u32)
}

fn needed() -> String {
    format!("a seed is a whole number from 0 to {}, or `random` for another one each time", u64::MAX)
}

/// Reads the seed in a story; in TOML numbers end at half of the largest seed, so a larger one is text.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Seed;

    impl Visitor<'_> for Seed {
        type Value = Option<u64>;

        fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            formatter.write_str("a seed")
        }

        fn visit_u64<E: Error>(self, seed: u64) -> Result<Self::Value, E> {
            Ok(Some(seed))
        }

        fn visit_i64<E: Error>(self, seed: i64) -> Result<Self::Value, E> {
            self.visit_str(&seed.to_string())
        }

        fn visit_f64<E: Error>(self, seed: f64) -> Result<Self::Value, E> {
            self.visit_str(&seed.to_string())
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            let choice = parse_seed(text).map_err(|needed| E::custom(format!("`{text}` is no seed: {needed}")))?;
            Ok(choice.fixed())
        }

        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }
    deserializer.deserialize_any(Seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::story::Shot;

    #[test]
    fn seeds_are_numbers_or_random() {
        assert_eq!(parse_seed("18446744073709551615"), Ok(SeedChoice::Fixed(u64::MAX)));
        assert_eq!((parse_seed("-1"), parse_seed("random")), (Ok(SeedChoice::Random), Ok(SeedChoice::Random)));
        for bad in ["-2", "", "x", "1.5", "18446744073709551616", "1e3"] {
            assert!(parse_seed(bad).is_err_and(|error| error.contains("a whole number from 0 to")), "{bad}");
        }
        let shot = |seed: &str| toml::from_str::<Shot>(&format!("prompt = \"a\"\nseed = {seed}\n"));
        assert_eq!(shot("7").map(|shot| shot.seed), Ok(Some(7)));
        assert_eq!(shot("\"18446744073709551615\"").map(|shot| shot.seed), Ok(Some(u64::MAX)));
        assert_eq!(shot("-1").map(|shot| shot.seed), Ok(None));
        for bad in ["-2", "1.5", "\"x\""] {
            let error = shot(bad).expect_err("no seed");
            assert!(error.message().contains("is no seed: a seed is a whole number"), "{error}");
        }
        let written = serde_json::to_string(&Shot { seed: Some(u64::MAX), ..Shot::default() }).expect("plain data");
        assert_eq!(serde_json::from_str::<Shot>(&written).expect("its own text").seed, Some(u64::MAX));
    }
}

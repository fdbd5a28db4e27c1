//! [`Limit`]: a whole number, or `"unlimited"`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// An upper limit: a whole number from 0 on, or none, which is written `"unlimited"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(Option<u64>);

const UNLIMITED: &str = "unlimited";

impl Limit {
    /// No limit.
    pub const UNLIMITED: Self = Self(None);

    /// Makes a limit of `number`.
    pub const fn of(number: u64) -> Self {
        Self(Some(number))
    }

    /// Returns the number, or `None` without a limit.
    pub const fn get(self) -> Option<u64> {
        self.0
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => number.fmt(f),
            None => f.write_str(UNLIMITED),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(number) => serializer.serialize_u64(number),
            None => serializer.serialize_str(UNLIMITED),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Limit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0 on, or \"unlimited\"")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Limit, E> {
                // The store's numbers have a sign.
                let fits = i64::try_from(number).is_ok();
                fits.then(|| Limit::of(number)).ok_or_else(|| E::custom(format!("{number} is too large")))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Limit, E> {
                let number = u64::try_from(number).map_err(|_| E::custom(format!("{number} is below 0")))?;
                self.visit_u64(number)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Limit, E> {
                let known = text == UNLIMITED;
                known
                    .then_some(Limit::UNLIMITED)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

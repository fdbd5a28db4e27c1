//! Values that are written by `Display` and read by `FromStr`, alone or in an `Option`: for `#[serde(with = "text")]`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::Display;
use std::str::FromStr;

/// A value, or none.
pub(crate) trait Text: Sized {
    /// Returns what is written.
    fn text(&self) -> Option<String>;

    /// Returns what was written so.
    fn of_text(text: Option<String>) -> Result<Self, String>;
}

/// Serialises a value as text.
pub(crate) fn serialize<T: Text, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.text().serialize(serializer)
}

/// Reads what [`serialize`] wrote.
pub(crate) fn deserialize<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::of_text(Option::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

impl<T: Display + FromStr<Err: Display>> Text for Option<T> {
    fn text(&self) -> Option<String> {
        self.as_ref().map(T::to_string)
    }

    fn of_text(text: Option<String>) -> Result<Self, String> {
        text.map(|text| text.parse().map_err(|error: T::Err| error.to_string())).transpose()
    }
}

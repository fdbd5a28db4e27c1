//! Numbers within bounds.

use crate::{Error, Result};

/// The `value` of what has that `name`, if it is from `low` to `high`.
pub(super) fn within(name: &str, value: f64, low: f64, high: f64) -> Result<f64> {
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        let shown = if value.abs() < 1e9 { value.to_string() } else { format!("{value:e}") };
        Err(Error::request(
            format!("{name} {shown} is outside {low} to {high}"),
            "leave it out for the model's default",
        ))
    }
}

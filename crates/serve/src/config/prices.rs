//! [`Prices`]: what a clip costs, by mode and length.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How much work a clip gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Few steps. Others call it `std`.
    #[serde(alias = "std")]
    Fast,
    /// All steps. Others call it `pro`.
    #[serde(alias = "pro")]
    Quality,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fast => "fast",
            Self::Quality => "quality",
        })
    }
}

/// The price of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The length in whole seconds.
    pub seconds: u32,
    /// What a clip of that length costs.
    pub credits: u32,
}

/// Tables of prices, shortest first. Lengths between two of a table cost in proportion, rounded up; so do lengths
/// outside it, from its first or last price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prices {
    /// Prices of [`Mode::Fast`].
    pub fast: Vec<Price>,
    /// Prices of [`Mode::Quality`].
    pub quality: Vec<Price>,
}

impl Default for Prices {
    fn default() -> Self {
        let table = |five, ten| vec![Price { seconds: 5, credits: five }, Price { seconds: 10, credits: ten }];
        Self { fast: table(10, 20), quality: table(35, 70) }
    }
}

/// A day, longer than any clip.
const LONGEST: f64 = 86_400.0;

impl Prices {
    /// Returns the credits of a clip of `seconds`. The length is that of the request, not of the frames that are made
    /// for it: those are often one more.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a length that is not above 0 and below a day.
    pub fn credits(&self, mode: Mode, seconds: f64) -> Result<i64> {
        let possible = seconds > 0.0 && seconds <= LONGEST;
        if !possible {
            return Err(Error::Invalid { what: "a clip".into(), problem: format!("of {seconds} s is not possible") });
        }
        let table = match mode {
            Mode::Fast => &self.fast,
            Mode::Quality => &self.quality,
        };
        // Whole milliseconds from here on, so that no rounding makes 5 s cost more than its price.
        let ms = ((seconds * 1000.0).round() as i64).max(1);
        let at = |price: &Price| (i64::from(price.seconds) * 1000, i64::from(price.credits));
        let above = table.iter().position(|price| at(price).0 >= ms);
        let (from, to) = match above {
            Some(0) => ((0, 0), table.first().map(at)),
            Some(index) => (at(&table[index - 1]), table.get(index).map(at)),
            None => ((0, 0), table.last().map(at)),
        };
        let to = to.ok_or_else(|| Error::Invalid { what: format!("`prices.{mode}`"), problem: "is empty".into() })?;
        let (length, rise) = (to.0 - from.0, to.1 - from.1);
        Ok(from.1 + divide_up((ms - from.0) * rise, length))
    }

    pub(super) fn check(&self) -> Result<()> {
        for (name, table) in [("fast", &self.fast), ("quality", &self.quality)] {
            let ordered = table.is_sorted_by(|a, b| a.seconds < b.seconds);
            let rising = table.is_sorted_by_key(|price| price.credits);
            let lengths = table.iter().all(|price| (1..=LONGEST as u32).contains(&price.seconds));
            let problem = match () {
                () if table.is_empty() => "is empty",
                () if !lengths => "has a length that is 0 s or above a day",
                () if !ordered => "is not in the order of its lengths",
                () if !rising => "has a longer clip that costs less",
                () => continue,
            };
            return Err(Error::Invalid { what: format!("`prices.{name}`"), problem: problem.into() });
        }
        Ok(())
    }
}

/// Divides and rounds up; `b` is above 0 and `a` not below.
fn divide_up(a: i64, b: i64) -> i64 {
    (a + b - 1) / b
}

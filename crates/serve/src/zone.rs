//! [`Zone`]: where a day begins, and [`Day`]: which one it is.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A day of the calendar in the server's zone, as the number of days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i64);

/// A time zone, written as an offset such as `+08:00`, as `UTC`, or as a name of the IANA database such as
/// `Asia/Shanghai`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// Reads a zone.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the text is neither an offset nor a known name.
    pub fn parse(text: &str) -> Result<Self> {
        let offset = || text.starts_with(['+', '-']).then(|| offset(text)).flatten();
        let zone = offset().or_else(|| TimeZone::get(text).ok().filter(|_| !text.starts_with(['+', '-'])));
        let zone = zone.ok_or_else(|| Error::Invalid {
            what: "`time_zone`".into(),
            problem: format!(
                "is `{text}`, which is neither an offset such as `+08:00` nor a name such as `Asia/Tokyo`"
            ),
        })?;
        Ok(Self { name: text.to_string(), zone })
    }

    /// Returns the day at `now`, in milliseconds since 1970.
    pub fn day(&self, now: i64) -> Day {
        Day(days(self.date(now)))
    }

    /// Returns when the day of `now` begins, in milliseconds since 1970.
    pub fn this_day(&self, now: i64) -> i64 {
        let begins = self.zone.to_timestamp(midnight(self.date(now)));
        begins.map_or(i64::MIN, Timestamp::as_millisecond)
    }

    /// Returns when the day after that of `now` begins, in milliseconds since 1970: credits are granted anew then.
    pub fn next_day(&self, now: i64) -> i64 {
        let next = self.date(now).tomorrow().and_then(|date| self.zone.to_timestamp(midnight(date)));
        next.map_or(i64::MAX, Timestamp::as_millisecond)
    }

    fn date(&self, now: i64) -> Date {
        let limits = Timestamp::MIN.as_millisecond()..=Timestamp::MAX.as_millisecond();
        let now = now.clamp(*limits.start(), *limits.end());
        self.zone.to_datetime(Timestamp::from_millisecond(now).unwrap_or(Timestamp::UNIX_EPOCH)).date()
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: "UTC".into(), zone: TimeZone::UTC }
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Display for Day {
    /// Writes the date as `2026-11-28`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.saturating_mul(86_400);
        match Timestamp::from_second(seconds) {
            Ok(time) => write!(f, "{}", TimeZone::UTC.to_datetime(time).date()),
            Err(_) => write!(f, "day {}", self.0),
        }
    }
}

impl TryFrom<String> for Zone {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name
    }
}

/// Reads `±HH:MM`.
fn offset(text: &str) -> Option<TimeZone> {
    let (sign, rest) = text.split_at(1);
    let (hours, minutes) = rest.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|letter| letter.is_ascii_digit());
        digits.then(|| text.parse::<i32>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes).filter(|minutes| *minutes < 60)?);
    let seconds = (hours * 60 + minutes) * 60 * if sign == "-" { -1 } else { 1 };
    // No place on Earth is farther from UTC.
    let within = (-14 * 3600..=14 * 3600).contains(&seconds);
    Offset::from_seconds(seconds).ok().filter(|_| within).map(TimeZone::fixed)
}

fn days(date: Date) -> i64 {
    let start = TimeZone::UTC.to_timestamp(midnight(date));
    start.map_or(0, Timestamp::as_second).div_euclid(86_400)
}

fn midnight(date: Date) -> DateTime {
    date.to_datetime(Time::midnight())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn days_begin_where_the_zone_says() {
        // 2026-11-28 15:59:59.999 UTC
        let before = 1_795_881_600_000 - 1;
        for (zone, day, next) in [
            ("UTC", "2026-11-28", before + 1 + 8 * HOUR),
            ("+08:00", "2026-11-28", before + 1),
            ("Asia/Shanghai", "2026-11-28", before + 1),
            ("+14:00", "2026-11-29", before + 1 + 18 * HOUR),
            ("-09:30", "2026-11-28", before + 1 + 17 * HOUR + HOUR / 2),
        ] {
            let zone = Zone::parse(zone).expect("a zone");
            assert_eq!(zone.day(before).to_string(), day, "{zone}");
            assert_eq!(zone.next_day(before), next, "{zone}");
        }
        let zone = Zone::parse("+08:00").expect("a zone");
        assert_eq!(zone.day(before + 1).0, zone.day(before).0 + 1);
        assert_eq!((zone.day(-8 * HOUR).0, zone.day(-8 * HOUR - 1).0), (0, -1));
    }

    /// In New York, the day on which clocks go forward has 23 hours.
    #[test]
    fn days_of_a_named_zone_are_not_all_of_one_length() {
        let zone = Zone::parse("America/New_York").expect("a zone");
        let start = 1_772_946_000_000; // 2026-03-08 00:00 -05:00
        assert_eq!(zone.next_day(start - 1), start);
        assert_eq!(zone.next_day(start), start + 23 * HOUR);
    }

    #[test]
    fn times_outside_the_calendar_do_not_panic() {
        for zone in ["UTC", "+14:00", "-14:00", "Asia/Tokyo"] {
            let zone = Zone::parse(zone).expect("a zone");
            for now in [i64::MIN, i64::MAX] {
                let _ = (zone.day(now), zone.next_day(now), zone.day(now).to_string());
            }
        }
        assert_eq!(Day(i64::MAX).to_string(), format!("day {}", i64::MAX));
    }

    #[test]
    fn other_texts_are_no_zones() {
        for bad in ["", "+8", "+08:60", "+15:00", "08:00", "+08:0é", "é", "+é", "Asia/Atlantis", "+99:99", "../UTC"]
        {
            let error = Zone::parse(bad).expect_err(bad).to_string();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
    }
}

//! [`Tier`]: what the owners of a kind of key may do, and [`Retention`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::limit::Limit;
use crate::error::{Error, Result};

/// What an owner may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Credits a day. What is left in the evening is lost.
    pub credits: Limit,
    /// The number of clips that are made at once.
    pub running: Limit,
    /// The number of clips that may wait besides.
    pub waiting: Limit,
    /// The longest clip, in seconds, with everything that it continues.
    pub longest_seconds: f64,
    /// The most shots of a story.
    #[serde(default = "shots")]
    pub shots: Limit,
    /// Bytes of clips and uploads.
    pub storage: Limit,
}

/// How long clips and uploads are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Days after which a finished clip expires.
    pub clip_days: Limit,
    /// Days after its last use after which an upload is deleted.
    pub upload_days: Limit,
}

/// The shots of a tier that says nothing of them.
fn shots() -> Limit {
    Limit::of(32)
}

const DAY: i64 = 86_400_000;
const GIB: u64 = 1 << 30;
/// A thousand years.
const MOST_DAYS: u64 = 365_250;

impl Tier {
    pub(super) fn check(&self, name: &str) -> Result<()> {
        let wrong = |key: &str, problem: String| Err(Error::Invalid { what: format!("`tiers.{name}.{key}`"), problem });
        if self.running.get() == Some(0) {
            return wrong("running", "is 0, so no clip would ever be made".into());
        }
        let longest = self.longest_seconds;
        if !(longest > 0.0 && longest <= 86_400.0) {
            return wrong("longest_seconds", format!("is {longest}, and must be above 0 and at most a day"));
        }
        Ok(())
    }
}

impl Retention {
    /// Returns when a clip that is finished at `now` expires, in milliseconds since 1970.
    pub fn clip_expires(&self, now: i64) -> Option<i64> {
        self.clip_days.get().map(|days| now.saturating_add(days.cast_signed().saturating_mul(DAY)))
    }

    /// Returns the time before which an upload was last used if it is to be deleted at `now`.
    pub fn uploads_before(&self, now: i64) -> Option<i64> {
        self.upload_days.get().map(|days| now.saturating_sub(days.cast_signed().saturating_mul(DAY)))
    }

    pub(super) fn check(&self) -> Result<()> {
        for (key, days) in [("clip_days", self.clip_days), ("upload_days", self.upload_days)] {
            if let Some(days) = days.get().filter(|days| !(1..=MOST_DAYS).contains(days)) {
                let problem = format!("is {days}, and must be from 1 to {MOST_DAYS}, or \"unlimited\"");
                return Err(Error::Invalid { what: format!("`retention.{key}`"), problem });
            }
        }
        Ok(())
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { clip_days: Limit::of(30), upload_days: Limit::of(7) }
    }
}

pub(super) fn defaults() -> BTreeMap<String, Tier> {
    let tier = |credits, running, waiting, longest_seconds, storage| Tier {
        credits,
        running,
        waiting,
        longest_seconds,
        shots: shots(),
        storage,
    };
    let unlimited = Limit::UNLIMITED;
    BTreeMap::from([
        ("local".into(), tier(unlimited, unlimited, unlimited, 180.0, unlimited)),
        ("free".into(), tier(Limit::of(66), Limit::of(1), Limit::of(5), 10.0, Limit::of(2 * GIB))),
        ("pro".into(), tier(Limit::of(660), Limit::of(3), Limit::of(50), 180.0, Limit::of(50 * GIB))),
    ])
}

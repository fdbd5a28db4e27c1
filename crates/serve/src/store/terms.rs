//! [`Terms`]: what an owner may do on a day.

use crate::zone::Day;

/// What an owner may do on a day. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Today.
    pub day: Day,
    /// Credits that the owner gets today. Without a limit, clips cost nothing.
    pub credits: Option<i64>,
    /// Clips of the owner that may wait and run together.
    pub active: Option<u64>,
    /// Clips that may wait, of all owners together.
    pub queue: Option<u64>,
    /// Bytes of the owner's clips and uploads.
    pub storage: Option<u64>,
}

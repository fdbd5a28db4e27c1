//! Whose turn it is, and the claim of a clip.
//!
//! Owners take turns: the one whose last turn is longest ago comes first, and gets the first clip of the own queue made.
//! So one who asks for a hundred clips does not keep another waiting for more than one.

use rusqlite::{Transaction, params};

use super::row::{self, Job};
use crate::error::Result;

/// Claims the next clip for a worker, which is believed to live until `lease_until` (milliseconds since 1970) without a
/// report. `running` says how many clips of an owner may run at once. Returns `None` when no clip may run.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn claim(
    transaction: &Transaction<'_>,
    worker: &str,
    lease_until: i64,
    running: &dyn Fn(&str) -> Option<u64>,
    now: i64,
) -> Result<Option<Job>> {
    let Some((owner, id)) = next(transaction, running)? else { return Ok(None) };
    let sql = "UPDATE jobs SET status = 'running', attempt = attempt + 1, worker = ?2, lease_until = ?3, started_at = ?4, \
               progress = 0, stage = NULL WHERE id = ?1 AND status = 'queued' AND paused = 0";
    let claimed = transaction.prepare_cached(sql)?.execute(params![id, worker, lease_until, now])?;
    let sql = "UPDATE turns SET last = (SELECT max(last) + 1 FROM turns) WHERE owner = ?1";
    transaction.prepare_cached(sql)?.execute([owner])?;
    if claimed == 1 { row::load(transaction, &id).map(Some) } else { Ok(None) }
}

/// Returns the owner whose turn it is, and the owner's first clip.
fn next(transaction: &Transaction<'_>, running: &dyn Fn(&str) -> Option<u64>) -> Result<Option<(String, String)>> {
    let sql = "SELECT owner, \
                   (SELECT id FROM jobs WHERE jobs.owner = turns.owner AND status = 'queued' AND paused = 0 \
                    ORDER BY rank, id LIMIT 1) AS first, \
                   (SELECT count(*) FROM jobs WHERE jobs.owner = turns.owner AND status IN ('running', 'cancelling')) \
               FROM turns ORDER BY last, number";
    let mut statement = transaction.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some(first) = row.get::<_, Option<String>>(1)? else { continue };
        let owner: String = row.get(0)?;
        let held = row.get::<_, i64>(2)?.cast_unsigned();
        if running(&owner).is_none_or(|limit| held < limit) {
            return Ok(Some((owner, first)));
        }
    }
    Ok(None)
}

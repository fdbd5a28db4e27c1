//! The order of an owner's clips.
//!
//! A rank is a number between those of two neighbours, so that a move changes one row. Ranks of unfinished clips of an
//! owner are all different; running ones keep theirs, to which they return if their worker dies.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::row;
use crate::error::Result;

/// Moves a queued clip to the place before another queued clip of the owner, or before all without one.
///
/// # Errors
///
/// [`Error::NotFound`](crate::Error::NotFound), and [`Error::State`](crate::Error::State) when one of them is not queued.
pub fn move_before(transaction: &Transaction<'_>, owner: &str, id: &str, other: Option<&str>) -> Result<()> {
    row::find_queued(transaction, owner, id, "moved")?;
    if let Some(other) = other {
        row::find_queued(transaction, owner, other, "overtaken")?;
    }
    if other == Some(id) {
        return Ok(());
    }
    let mut rank = place(transaction, owner, id, other)?;
    if rank.is_none() {
        // There is no number left between the neighbours.
        renumber(transaction, owner)?;
        rank = place(transaction, owner, id, other)?;
    }
    transaction.prepare_cached("UPDATE jobs SET rank = ?2 WHERE id = ?1")?.execute(params![id, rank])?;
    Ok(())
}

/// Returns a rank between `other` and the clip before it, or before all. `None` if there is no such number.
fn place(connection: &Connection, owner: &str, id: &str, other: Option<&str>) -> Result<Option<f64>> {
    let Some(other) = other else {
        let sql = "SELECT min(rank) FROM jobs WHERE owner = ?1 AND status IN ('queued', 'running', 'cancelling')";
        let first: f64 = connection.prepare_cached(sql)?.query_row([owner], |row| row.get(0))?;
        return Ok(Some(first - 1.0).filter(|rank| *rank < first));
    };
    let sql = "SELECT rank FROM jobs WHERE id = ?1";
    let upper: f64 = connection.prepare_cached(sql)?.query_row([other], |row| row.get(0))?;
    let sql = "SELECT rank FROM jobs WHERE owner = ?1 AND status IN ('queued', 'running', 'cancelling') \
               AND rank < ?2 AND id <> ?3 ORDER BY rank DESC LIMIT 1";
    let lower = connection.prepare_cached(sql)?.query_row(params![owner, upper, id], |row| row.get(0)).optional()?;
    let rank = lower.map_or(upper - 1.0, |lower: f64| f64::midpoint(lower, upper));
    Ok(Some(rank).filter(|rank| *rank < upper && lower.is_none_or(|lower| lower < *rank)))
}

/// Numbers the owner's unfinished clips 1, 2, 3… in their order.
fn renumber(transaction: &Transaction<'_>, owner: &str) -> Result<()> {
    let sql =
        "SELECT id FROM jobs WHERE owner = ?1 AND status IN ('queued', 'running', 'cancelling') ORDER BY rank, id";
    let mut statement = transaction.prepare_cached(sql)?;
    let ids = statement.query_map([owner], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    let mut update = transaction.prepare_cached("UPDATE jobs SET rank = ?2 WHERE id = ?1")?;
    for (index, id) in ids.iter().enumerate() {
        update.execute(params![id, index as f64 + 1.0])?;
    }
    Ok(())
}

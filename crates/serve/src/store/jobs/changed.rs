//! Clips whose state a transaction has changed. A trigger of the database notes them, so that no statement can forget it.

use rusqlite::Transaction;

use super::row::{self, Job};
use crate::error::Result;

/// Returns the clips whose state has changed since this was last asked, in the order of the changes, each once, as they are
/// now; and forgets them.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn take_changed(transaction: &Transaction<'_>) -> Result<Vec<Job>> {
    let sql = "SELECT job FROM changes GROUP BY job ORDER BY max(number)";
    let mut statement = transaction.prepare_cached(sql)?;
    let ids = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    if !ids.is_empty() {
        transaction.prepare_cached("DELETE FROM changes")?.execute([])?;
    }
    ids.iter().map(|id| row::load(transaction, id)).collect()
}

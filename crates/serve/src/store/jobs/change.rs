//! What owners do with their clips: edit, pause, star, cancel and delete; and clips that expire.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::Value;

use super::insert::{check_inputs, set_inputs};
use super::row::{self, Job, Status};
use super::worker;
use crate::error::{Error, Result};
use crate::store::ledger;
use crate::store::terms::Terms;

/// What replaces the request of a queued clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// Its prompt, for lists and searches.
    pub prompt: String,
    /// What is asked for.
    pub request: Value,
    /// What it will take.
    pub plan: Value,
    /// The seed, if it is known already.
    pub seed: Option<u64>,
    /// Names of uploads and clips of the owner that it needs.
    pub inputs: Vec<String>,
    /// What it costs.
    pub cost: i64,
}

/// What a cancellation has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// The clip was waiting; it is cancelled, and its credits are back.
    Cancelled,
    /// A worker makes it in this attempt and must be stopped; then [`cancelled`](worker::cancelled) is called.
    Stopping {
        /// The attempt.
        attempt: i64,
    },
    /// It had ended before, in this state.
    Finished(Status),
}

/// Replaces the request of a queued clip, which keeps its place. If the price changes, its credits are given back and
/// reserved anew.
///
/// # Errors
///
/// [`Error::NotFound`] for the clip and its inputs, [`Error::State`] when it is not queued, and [`Error::Credits`].
pub fn edit(transaction: &Transaction<'_>, owner: &str, id: &str, edit: &Edit, terms: &Terms, now: i64) -> Result<Job> {
    row::find_queued(transaction, owner, id, "edited")?;
    check_inputs(transaction, owner, &edit.inputs)?;
    if edit.inputs.iter().any(|input| input == id) {
        return Err(Error::Invalid { what: format!("the clip `{id}`"), problem: "cannot need itself".into() });
    }
    let cost = ledger::reserve_again(transaction, owner, id, edit.cost, terms, now)?;
    set_inputs(transaction, id, &edit.inputs)?;
    let sql = "UPDATE jobs SET prompt = ?2, request = ?3, plan = ?4, seed = ?5, cost = ?6 WHERE id = ?1";
    let seed = edit.seed.map(|seed| seed.to_string());
    transaction.prepare_cached(sql)?.execute(params![id, edit.prompt, edit.request, edit.plan, seed, cost])?;
    row::load(transaction, id)
}

/// Keeps a queued clip from being begun, or lets it go on.
///
/// # Errors
///
/// [`Error::NotFound`], and [`Error::State`] when it is not queued.
pub fn pause(transaction: &Transaction<'_>, owner: &str, id: &str, paused: bool) -> Result<()> {
    row::find_queued(transaction, owner, id, if paused { "paused" } else { "resumed" })?;
    transaction.prepare_cached("UPDATE jobs SET paused = ?2 WHERE id = ?1")?.execute(params![id, paused])?;
    Ok(())
}

/// Marks a clip, or takes the mark away.
///
/// # Errors
///
/// [`Error::NotFound`].
pub fn star(transaction: &Transaction<'_>, owner: &str, id: &str, starred: bool) -> Result<()> {
    row::find(transaction, owner, id)?;
    transaction.prepare_cached("UPDATE jobs SET starred = ?2 WHERE id = ?1")?.execute(params![id, starred])?;
    Ok(())
}

/// Cancels a clip: at once if it waits, otherwise by a mark for its worker. To cancel again changes nothing.
///
/// # Errors
///
/// [`Error::NotFound`].
pub fn cancel(transaction: &Transaction<'_>, owner: &str, id: &str, now: i64) -> Result<Cancel> {
    let job = row::find(transaction, owner, id)?;
    match job.status {
        Status::Queued => {
            worker::end(transaction, id, Status::Cancelled, None, now)?;
            Ok(Cancel::Cancelled)
        }
        Status::Running | Status::Cancelling => {
            let sql = "UPDATE jobs SET status = 'cancelling' WHERE id = ?1";
            transaction.prepare_cached(sql)?.execute([id])?;
            Ok(Cancel::Stopping { attempt: job.attempt })
        }
        finished => Ok(Cancel::Finished(finished)),
    }
}

/// Cancels all clips of the owner that wait, and returns their names in the order of the queue. What runs goes on.
///
/// # Errors
///
/// [`Error::Database`].
pub fn cancel_waiting(transaction: &Transaction<'_>, owner: &str, now: i64) -> Result<Vec<String>> {
    let sql = "SELECT id FROM jobs WHERE owner = ?1 AND status = 'queued' ORDER BY rank, id";
    let waiting = transaction
        .prepare_cached(sql)?
        .query_map([owner], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    for id in &waiting {
        worker::end(transaction, id, Status::Cancelled, None, now)?;
    }
    Ok(waiting)
}

/// Deletes a finished clip: its texts are erased, and it is not found any more. Its row stays for the accounts. Returns
/// the clip as it was, so that its files can be deleted.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::State`] when it is not finished, and [`Error::InUse`] when an unfinished clip needs it.
pub fn delete(transaction: &Transaction<'_>, owner: &str, id: &str, now: i64) -> Result<Job> {
    let job = row::find(transaction, owner, id)?;
    if !job.status.is_finished() {
        return Err(Error::State { id: id.into(), status: job.status, verb: "deleted" });
    }
    check_unused(transaction, id)?;
    let sql = "UPDATE jobs SET deleted_at = ?2, prompt = '', request = 'null', plan = 'null', stage = NULL, \
               seed = NULL, result = NULL, bytes = 0, error_message = NULL, external_id = NULL, callback_url = NULL, \
               starred = 0, expires_at = NULL WHERE id = ?1";
    transaction.prepare_cached(sql)?.execute(params![id, now])?;
    Ok(job)
}

/// Lets clips expire whose time has come, at most `limit` at once, and returns them as they were, so that their files
/// can be deleted. Those that an unfinished clip needs are kept until that one is finished.
///
/// # Errors
///
/// [`Error::Database`].
pub fn expire(transaction: &Transaction<'_>, now: i64, limit: u32) -> Result<Vec<Job>> {
    let sql = format!(
        "SELECT {} FROM jobs WHERE status = 'succeeded' AND expires_at IS NOT NULL AND expires_at <= ?1 \
         AND NOT EXISTS (SELECT 1 FROM inputs WHERE input = jobs.id) ORDER BY expires_at LIMIT ?2",
        row::COLUMNS
    );
    let mut statement = transaction.prepare_cached(&sql)?;
    let over = statement.query_map(params![now, limit], Job::read)?.collect::<rusqlite::Result<Vec<_>>>()?;
    for job in &over {
        let sql = "UPDATE jobs SET status = 'expired', bytes = 0 WHERE id = ?1";
        transaction.prepare_cached(sql)?.execute([&job.id])?;
    }
    Ok(over)
}

/// Checks that no unfinished clip needs the upload or clip.
pub(in crate::store) fn check_unused(connection: &Connection, id: &str) -> Result<()> {
    let sql = "SELECT job FROM inputs WHERE input = ?1 LIMIT 1";
    let job = connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?;
    job.map_or(Ok(()), |job| Err(Error::InUse { id: id.into(), job }))
}

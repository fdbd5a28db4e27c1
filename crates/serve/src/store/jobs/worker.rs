//! What workers report of clips that they have claimed, and what is done about workers that died.
//!
//! Every function takes the attempt and changes nothing, which it says, if the clip is not held by that attempt.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::Value;

use super::row::Status;
use crate::error::Result;
use crate::store::ledger;

/// A clip fails when this many of its workers have died.
pub const ATTEMPTS: i64 = 3;

/// What a worker has made.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// What is to be known of it.
    pub result: Value,
    /// The seed that was used; `None` leaves the one that was asked for.
    pub seed: Option<u64>,
    /// The bytes of its files.
    pub bytes: u64,
    /// When its file is deleted, in milliseconds since 1970.
    pub expires_at: Option<i64>,
}

/// How an attempt ended without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The worker died. After [`ATTEMPTS`] deaths, the clip is thought to be the reason.
    Died,
    /// The worker was stopped, because the server ends: that says nothing about the clip.
    Stopped,
}

/// Notes the progress of an attempt, in percent, and what is being done. The percentage never falls. Returns whether
/// the clip is held by the attempt.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn progress(connection: &Connection, id: &str, attempt: i64, percent: u8, stage: Option<&Value>) -> Result<bool> {
    let sql = "UPDATE jobs SET progress = max(progress, ?3), stage = ?4 \
               WHERE id = ?1 AND attempt = ?2 AND status IN ('running', 'cancelling')";
    let changed = connection.prepare_cached(sql)?.execute(params![id, attempt, percent.min(100), stage])?;
    Ok(changed == 1)
}

/// Prolongs the time for which the worker is believed to live. Returns whether the clip is held by the attempt.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn renew(connection: &Connection, id: &str, attempt: i64, lease_until: i64) -> Result<bool> {
    let sql = "UPDATE jobs SET lease_until = max(lease_until, ?3) \
               WHERE id = ?1 AND attempt = ?2 AND status IN ('running', 'cancelling')";
    Ok(connection.prepare_cached(sql)?.execute(params![id, attempt, lease_until])? == 1)
}

/// Ends a running clip with its result, and charges it. Returns whether it did: a clip that is being cancelled stays
/// so, and its result is not kept.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn succeed(transaction: &Transaction<'_>, id: &str, attempt: i64, done: &Done, now: i64) -> Result<bool> {
    let sql = "UPDATE jobs SET status = 'succeeded', progress = 100, stage = NULL, result = ?3, bytes = ?4, \
               seed = coalesce(?5, seed), expires_at = ?6, finished_at = ?7, charged = cost, worker = NULL, \
               lease_until = NULL WHERE id = ?1 AND attempt = ?2 AND status = 'running'";
    let seed = done.seed.map(|seed| seed.to_string());
    let values = params![id, attempt, done.result, done.bytes.cast_signed(), seed, done.expires_at, now];
    if transaction.prepare_cached(sql)?.execute(values)? == 0 {
        return Ok(false);
    }
    ledger::charge(transaction, id, now)?;
    needs_nothing(transaction, id)?;
    Ok(true)
}

/// Ends a clip with an error, and gives its credits back. One that is being cancelled becomes cancelled instead.
/// Returns its new state, or `None` if nothing has changed.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn fail(
    transaction: &Transaction<'_>,
    id: &str,
    attempt: i64,
    code: &str,
    message: &str,
    now: i64,
) -> Result<Option<Status>> {
    let (status, error) = match holding(transaction, id, attempt)? {
        None => return Ok(None),
        Some((Status::Cancelling, _)) => (Status::Cancelled, None),
        Some(_) => (Status::Failed, Some((code, message))),
    };
    end(transaction, id, status, error, now)?;
    Ok(Some(status))
}

/// Ends a clip that is being cancelled, and gives its credits back. Returns whether it did.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn cancelled(transaction: &Transaction<'_>, id: &str, attempt: i64, now: i64) -> Result<bool> {
    let held = holding(transaction, id, attempt)?;
    let is_cancelling = held.is_some_and(|(status, _)| status == Status::Cancelling);
    if is_cancelling {
        end(transaction, id, Status::Cancelled, None, now)?;
    }
    Ok(is_cancelling)
}

/// Puts a clip back to its old place in the queue. One that is being cancelled becomes cancelled, and one whose worker
/// died for the third time fails. Returns its new state, or `None` if nothing has changed.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn requeue(transaction: &Transaction<'_>, id: &str, attempt: i64, how: End, now: i64) -> Result<Option<Status>> {
    let Some((status, deaths)) = holding(transaction, id, attempt)? else { return Ok(None) };
    let deaths = deaths + i64::from(how == End::Died);
    transaction.prepare_cached("UPDATE jobs SET deaths = ?2 WHERE id = ?1")?.execute(params![id, deaths])?;
    if status == Status::Cancelling {
        end(transaction, id, Status::Cancelled, None, now)?;
        return Ok(Some(Status::Cancelled));
    }
    if deaths >= ATTEMPTS {
        let message = format!("the worker ended without an answer {deaths} times");
        end(transaction, id, Status::Failed, Some(("worker_died", &message)), now)?;
        return Ok(Some(Status::Failed));
    }
    let sql = "UPDATE jobs SET status = 'queued', worker = NULL, lease_until = NULL, progress = 0, stage = NULL \
               WHERE id = ?1";
    transaction.prepare_cached(sql)?.execute([id])?;
    Ok(Some(Status::Queued))
}

/// Requeues or ends all clips that are held, as [`requeue`] does when a worker was stopped. It is for the start of a
/// server that is the only one: its workers ended with its predecessor, which says nothing about their clips. Returns
/// the clips with their new states.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn recover(transaction: &Transaction<'_>, now: i64) -> Result<Vec<(String, Status)>> {
    release(transaction, i64::MAX, End::Stopped, now)
}

/// Requeues or ends the clips whose workers have not reported in time, as [`requeue`] does when a worker has died.
/// Returns them with their new states.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn lapse(transaction: &Transaction<'_>, now: i64) -> Result<Vec<(String, Status)>> {
    release(transaction, now, End::Died, now)
}

/// Releases the clips whose lease ends by that time.
fn release(transaction: &Transaction<'_>, before: i64, how: End, now: i64) -> Result<Vec<(String, Status)>> {
    let sql =
        "SELECT id, attempt FROM jobs WHERE status IN ('running', 'cancelling') AND lease_until <= ?1 ORDER BY id";
    let mut statement = transaction.prepare_cached(sql)?;
    let held = statement.query_map([before], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    let held: Vec<_> = held.collect::<rusqlite::Result<_>>()?;
    let mut released = Vec::with_capacity(held.len());
    for (id, attempt) in held {
        if let Some(status) = requeue(transaction, &id, attempt, how, now)? {
            released.push((id, status));
        }
    }
    Ok(released)
}

/// Returns the state and the deaths of a clip that is held by that attempt.
fn holding(connection: &Connection, id: &str, attempt: i64) -> Result<Option<(Status, i64)>> {
    let sql = "SELECT status, deaths FROM jobs WHERE id = ?1 AND attempt = ?2 AND status IN ('running', 'cancelling')";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(params![id, attempt], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// Ends an unfinished clip without a result.
pub(super) fn end(
    transaction: &Transaction<'_>,
    id: &str,
    status: Status,
    error: Option<(&str, &str)>,
    now: i64,
) -> Result<()> {
    let sql = "UPDATE jobs SET status = ?2, error_code = ?3, error_message = ?4, finished_at = ?5, charged = 0, \
               paused = 0, stage = NULL, worker = NULL, lease_until = NULL WHERE id = ?1 AND finished_at IS NULL";
    let (code, message) = error.unzip();
    transaction.prepare_cached(sql)?.execute(params![id, status, code, message, now])?;
    ledger::refund(transaction, id, now)?;
    needs_nothing(transaction, id)
}

fn needs_nothing(connection: &Connection, id: &str) -> Result<()> {
    connection.prepare_cached("DELETE FROM inputs WHERE job = ?1")?.execute([id])?;
    Ok(())
}

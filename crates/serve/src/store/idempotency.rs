//! Answers to requests that may come twice, by the key that the client gives them.
//!
//! A request begins here before anything else is done, and ends here in the transaction that does it, so that the
//! answer is kept exactly if the request was done.

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Result;

/// How long an answer is kept, in milliseconds: a day.
pub const KEPT: i64 = 86_400_000;

/// What is known of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// It is the first of its key and is to be done now.
    New,
    /// The first one is being done.
    Running,
    /// It was done before: this is the answer.
    Done(Answer),
    /// The key was used for another body.
    Other,
}

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status of HTTP.
    pub code: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Begins a request of the owner to a route. `hash` is the SHA-256 of its body. A key that is older than [`KEPT`] is as
/// good as new.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn begin(connection: &Connection, owner: &str, route: &str, key: &str, hash: &[u8; 32], now: i64) -> Result<Begin> {
    let sql = "DELETE FROM idempotency WHERE owner = ?1 AND route = ?2 AND key = ?3 AND created_at <= ?4";
    connection.prepare_cached(sql)?.execute(params![owner, route, key, now.saturating_sub(KEPT)])?;
    let sql = "INSERT OR IGNORE INTO idempotency (owner, route, key, hash, status, created_at) \
               VALUES (?1, ?2, ?3, ?4, 'running', ?5)";
    if connection.prepare_cached(sql)?.execute(params![owner, route, key, hash, now])? == 1 {
        return Ok(Begin::New);
    }
    let sql = "SELECT hash, code, body FROM idempotency WHERE owner = ?1 AND route = ?2 AND key = ?3";
    let (stored, answer) = connection.prepare_cached(sql)?.query_row([owner, route, key], |row| {
        Ok((row.get::<_, [u8; 32]>(0)?, (row.get::<_, Option<u16>>(1)?, row.get::<_, Option<Vec<u8>>>(2)?)))
    })?;
    Ok(match answer {
        _ if stored != *hash => Begin::Other,
        (Some(code), Some(body)) => Begin::Done(Answer { code, body }),
        _ => Begin::Running,
    })
}

/// Keeps the answer of a request that has begun. Returns whether it was still running.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn finish(connection: &Connection, owner: &str, route: &str, key: &str, answer: &Answer) -> Result<bool> {
    let sql = "UPDATE idempotency SET status = 'done', code = ?4, body = ?5 \
               WHERE owner = ?1 AND route = ?2 AND key = ?3 AND status = 'running'";
    Ok(connection.prepare_cached(sql)?.execute(params![owner, route, key, answer.code, answer.body])? == 1)
}

/// Forgets a request that has begun and was not done, so that it can be tried again.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn abandon(connection: &Connection, owner: &str, route: &str, key: &str) -> Result<()> {
    let sql = "DELETE FROM idempotency WHERE owner = ?1 AND route = ?2 AND key = ?3 AND status = 'running'";
    connection.prepare_cached(sql)?.execute([owner, route, key])?;
    Ok(())
}

/// Returns the answer to the last request of the owner with the same body, begun at `since` or later: for clients that
/// try again without giving a key.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn recent(connection: &Connection, owner: &str, route: &str, hash: &[u8; 32], since: i64) -> Result<Option<Begin>> {
    let sql = "SELECT code, body FROM idempotency WHERE owner = ?1 AND route = ?2 AND hash = ?3 AND created_at >= ?4 \
               ORDER BY created_at DESC LIMIT 1";
    let found = connection.prepare_cached(sql)?.query_row(params![owner, route, hash, since], |row| {
        let answer = row.get::<_, Option<u16>>(0)?.zip(row.get(1)?);
        Ok(answer.map_or(Begin::Running, |(code, body)| Begin::Done(Answer { code, body })))
    });
    Ok(found.optional()?)
}

/// Forgets requests that were running when a server ended: they were not done. It is for the start of a server that is
/// the only one. Returns how many there were.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn recover(connection: &Connection) -> Result<usize> {
    Ok(connection.execute("DELETE FROM idempotency WHERE status = 'running'", [])?)
}

/// Forgets requests that are older than [`KEPT`]. Returns how many there were.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn sweep(connection: &Connection, now: i64) -> Result<usize> {
    let sql = "DELETE FROM idempotency WHERE created_at <= ?1";
    Ok(connection.prepare_cached(sql)?.execute([now.saturating_sub(KEPT)])?)
}

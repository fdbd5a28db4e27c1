//! Events that others are to be told of. They are written in the transaction that changes the clip, so that none is
//! lost and none is made up; whoever delivers them may do it twice after a crash, with the same name.
//!
//! A lane tells an address one thing at a time, in order; after a failure, later events need not wait for the next attempt.

use rusqlite::{Connection, Row, Transaction, params};

use crate::error::Result;
use crate::id;

/// An event that is to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `evt_` and a ULID; the same in every attempt.
    pub id: String,
    /// The clip.
    pub job: String,
    /// What has happened, such as `video.completed`.
    pub event: String,
    /// The address that is told.
    pub url: String,
    /// Events of one lane wait for each other where there are many.
    pub lane: String,
    /// Whose secret signs it; `None` is the server's own.
    pub signer: Option<String>,
    /// What it is told.
    pub body: String,
    /// The number of attempts, with the one that begins.
    pub attempts: i64,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// An event that is added, beside its clip and its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct New<'a> {
    /// What has happened.
    pub event: &'a str,
    /// The address that is told.
    pub url: &'a str,
    /// Its lane.
    pub lane: &'a str,
    /// Whose secret signs it.
    pub signer: Option<&'a str>,
    /// Whether it says all that earlier ones of the same clip have said, so that those need not be delivered any more.
    pub replaces: bool,
}

/// The most events of a lane that are still to be delivered; of more, the oldest are given up.
pub const MOST_OPEN: u32 = 1000;

/// Why an event is not tried again that a newer one has replaced.
const REPLACED: &str = "a newer event has replaced it";

/// How many attempts may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Of one lane.
    pub lane: u32,
    /// New ones, of all lanes together.
    pub all: u32,
}

/// Adds an event, to be delivered from `now` on, unless its address is gone. `body` makes its body of its name. Returns
/// its name, or `None` if it is gone.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database) and [`Error::Random`](crate::Error::Random).
pub fn add(
    connection: &Connection,
    job: &str,
    new: &New<'_>,
    body: impl FnOnce(&str) -> String,
    now: i64,
) -> Result<Option<String>> {
    let sql = "SELECT EXISTS (SELECT 1 FROM gone WHERE lane = ?1 AND url = ?2)";
    if connection.prepare_cached(sql)?.query_row([new.lane, new.url], |row| row.get(0))? {
        return Ok(None);
    }
    let id = id::new(id::EVENT, now)?;
    let sql =
        "INSERT INTO outbox (id, job, event, url, lane, signer, body, next_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let body = body(&id);
    let values = params![id, job, new.event, new.url, new.lane, new.signer, body, now];
    connection.prepare_cached(sql)?.execute(values)?;
    if new.replaces {
        // One that is under way is not tried again.
        let sql = "UPDATE outbox SET replaced = 1 \
                   WHERE job = ?1 AND url = ?2 AND lane = ?3 AND id <> ?4 AND next_at IS NOT NULL";
        connection.prepare_cached(sql)?.execute([job, new.url, new.lane, &id])?;
        let sql = "UPDATE outbox SET next_at = NULL, last_error = ?2 \
                   WHERE job = ?1 AND replaced = 1 AND next_at IS NOT NULL AND in_flight = 0";
        connection.prepare_cached(sql)?.execute([job, REPLACED])?;
    }
    Ok(Some(id))
}

/// Takes events whose time has come, as many as there is room for, and counts an attempt of each. Until `again`
/// (milliseconds since 1970), nobody else takes them; then somebody does if they were not ended.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn take(transaction: &Transaction<'_>, now: i64, again: i64, room: Room) -> Result<Vec<Event>> {
    end_replaced(transaction, now)?;
    // The first event of each lane to each address to which it has none under way; of those, the first ones of each lane.
    let sql = "WITH flying AS (SELECT url, lane FROM outbox WHERE in_flight = 1 AND next_at > ?1), \
                    heads AS (SELECT id AS head, lane AS of, next_at AS due, \
                                     row_number() OVER (PARTITION BY url, lane ORDER BY next_at, id) AS place \
                              FROM outbox WHERE next_at <= ?1 \
                              AND NOT EXISTS (SELECT 1 FROM flying WHERE flying.url = outbox.url AND flying.lane = outbox.lane)), \
                    turns AS (SELECT head, due, row_number() OVER (PARTITION BY of ORDER BY due, head) \
                                     + (SELECT count(*) FROM flying WHERE flying.lane = heads.of) AS turn \
                              FROM heads WHERE place = 1) \
               SELECT id, job, event, url, lane, signer, body, attempts + 1 AS attempts, last_error \
               FROM turns JOIN outbox ON id = head WHERE turn <= ?2 ORDER BY due, id LIMIT ?3";
    let mut statement = transaction.prepare_cached(sql)?;
    let due = statement.query_map(params![now, room.lane, room.all], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
    for event in &due {
        let sql = "UPDATE outbox SET attempts = ?2, in_flight = 1, next_at = ?3 WHERE id = ?1";
        transaction.prepare_cached(sql)?.execute(params![event.id, event.attempts, again])?;
    }
    Ok(due)
}

/// Ends attempts that were lost before that time, of events that newer ones have replaced.
fn end_replaced(connection: &Connection, before: i64) -> Result<()> {
    let sql = "UPDATE outbox SET next_at = NULL, in_flight = 0, last_error = ?2 \
               WHERE in_flight = 1 AND replaced = 1 AND next_at <= ?1";
    connection.prepare_cached(sql)?.execute(params![before, REPLACED])?;
    Ok(())
}

/// Gives up the oldest events of the lane that are still to be delivered, down to `most`. Returns how many there were.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn trim(connection: &Connection, lane: &str, most: u32) -> Result<usize> {
    let sql = "SELECT count(*) FROM outbox WHERE lane = ?1 AND next_at IS NOT NULL";
    let open: i64 = connection.prepare_cached(sql)?.query_row([lane], |row| row.get(0))?;
    let over = open - i64::from(most);
    if over <= 0 {
        return Ok(0);
    }
    let sql = "UPDATE outbox SET next_at = NULL, last_error = 'too many events wait' WHERE rowid IN \
               (SELECT rowid FROM outbox WHERE lane = ?1 AND next_at IS NOT NULL AND in_flight = 0 \
                ORDER BY rowid LIMIT ?2)";
    Ok(connection.prepare_cached(sql)?.execute(params![lane, over])?)
}

/// Lets attempts that were under way when a server ended begin anew at once. It is for the start of a server that is the
/// only one.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn recover(connection: &Connection, now: i64) -> Result<usize> {
    end_replaced(connection, i64::MAX)?;
    Ok(connection.execute("UPDATE outbox SET in_flight = 0, next_at = ?1 WHERE in_flight = 1", [now])?)
}

/// Returns when the next event is to be delivered, in milliseconds since 1970.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn next(connection: &Connection) -> Result<Option<i64>> {
    let sql = "SELECT min(next_at) FROM outbox WHERE next_at IS NOT NULL";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Notes that an attempt has delivered its event.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn delivered(connection: &Connection, id: &str, now: i64) -> Result<()> {
    let sql = "UPDATE outbox SET done_at = ?2, next_at = NULL, in_flight = 0, last_error = NULL \
               WHERE id = ?1 AND done_at IS NULL";
    connection.prepare_cached(sql)?.execute(params![id, now])?;
    Ok(())
}

/// Notes that an attempt failed: the next one is at `next_at`, or there is none; nor is there if a newer event has replaced it. An event that another attempt has
/// delivered, or that a later attempt is delivering, stays as it is. Returns whether that was noted.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn failed(connection: &Connection, event: &Event, error: &str, next_at: Option<i64>) -> Result<bool> {
    let sql = "UPDATE outbox SET next_at = CASE replaced WHEN 0 THEN ?3 END, in_flight = 0, last_error = ?4 \
               WHERE id = ?1 AND attempts = ?2 AND next_at IS NOT NULL";
    Ok(connection.prepare_cached(sql)?.execute(params![event.id, event.attempts, next_at, error])? == 1)
}

/// Lets all events to the address wait until that time, in milliseconds since 1970: it has asked for it.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn hold(connection: &Connection, url: &str, until: i64) -> Result<()> {
    let sql = "UPDATE outbox SET next_at = max(next_at, ?2) WHERE url = ?1 AND next_at IS NOT NULL AND in_flight = 0";
    connection.prepare_cached(sql)?.execute(params![url, until])?;
    Ok(())
}

/// Gives up all events of the lane to the address, which is gone, and those to come.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn close(connection: &Connection, lane: &str, url: &str, error: &str, now: i64) -> Result<()> {
    let sql = "UPDATE outbox SET next_at = NULL, in_flight = 0, last_error = ?3 \
               WHERE lane = ?1 AND url = ?2 AND next_at IS NOT NULL";
    connection.prepare_cached(sql)?.execute(params![lane, url, error])?;
    let sql = "INSERT INTO gone (lane, url, at) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET at = excluded.at";
    connection.prepare_cached(sql)?.execute(params![lane, url, now])?;
    Ok(())
}

/// Tells the address again from now on: somebody has named it anew.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn open(connection: &Connection, lane: &str, url: &str) -> Result<()> {
    connection.prepare_cached("DELETE FROM gone WHERE lane = ?1 AND url = ?2")?.execute([lane, url])?;
    Ok(())
}

/// Forgets events of clips that ended before that time and that will not be tried again. Returns how many there were.
///
/// # Errors
///
/// [`Error::Database`](crate::Error::Database).
pub fn sweep(connection: &Connection, before: i64) -> Result<usize> {
    let sql = "DELETE FROM outbox WHERE next_at IS NULL \
               AND (SELECT finished_at FROM jobs WHERE jobs.id = outbox.job) < ?1";
    Ok(connection.prepare_cached(sql)?.execute([before])?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        id: row.get("id")?,
        job: row.get("job")?,
        event: row.get("event")?,
        url: row.get("url")?,
        lane: row.get("lane")?,
        signer: row.get("signer")?,
        body: row.get("body")?,
        attempts: row.get("attempts")?,
        last_error: row.get("last_error")?,
    })
}

//! The accounts: credits that are granted, reserved for clips, charged and given back.
//!
//! An owner's balance is the sum of the owner's rows, and never below 0. Rows are only added:
//!
//! - `grant` +N: the tier's credits, at the first use of a day; the difference if the tier becomes a better one on the
//!   same day.
//! - `expire` −rest: what is left of a day, written when the owner's next day begins.
//! - `reserve` −cost: when a clip is accepted. One that costs nothing has a row of 0.
//! - `charge` 0: the clip is made, and the reservation is spent.
//! - `refund` +cost: the clip is not made, or its price has changed before it was begun. It goes to the day of the
//!   reservation; if that is over, an equal `expire` follows.
//!
//! So the rows of every day but an owner's last add up to 0, and every clip has one more reservation than refunds
//! while it is waiting, running or made, and as many when it has failed or was cancelled. [`check`] verifies it.

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::{Error, Result};
use crate::zone::Day;

pub use super::terms::Terms;

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The row's number; rows are written in this order.
    pub number: i64,
    /// The day that the credits belong to.
    pub day: Day,
    /// The clip, if the row is of one.
    pub job: Option<String>,
    /// `grant`, `expire`, `reserve`, `charge` or `refund`.
    pub kind: String,
    /// What is added to the balance.
    pub credits: i64,
    /// When it was written, in milliseconds since 1970.
    pub at: i64,
}

/// Returns the owner's balance: the credits that were left when the ledger was last written.
///
/// # Errors
///
/// [`Error::Database`].
pub fn balance(connection: &Connection, owner: &str) -> Result<i64> {
    // Earlier days add up to 0.
    match last_day(connection, owner)? {
        Some(day) => sum(connection, owner, day),
        None => Ok(0),
    }
}

/// Returns the credits that the owner could spend today, or `None` without a limit. It writes nothing: credits of a
/// day that the ledger has not seen yet are counted, those of the day before are not.
///
/// # Errors
///
/// [`Error::Database`].
pub fn left(connection: &Connection, owner: &str, terms: &Terms) -> Result<Option<i64>> {
    let Some(credits) = terms.credits else { return Ok(None) };
    let Some(last) = last_day(connection, owner)?.filter(|last| *last >= terms.day) else { return Ok(Some(credits)) };
    let missing = (credits - granted(connection, owner, last)?).max(0);
    Ok(Some(sum(connection, owner, last)? + missing))
}

/// Returns rows of the owner, the newest first, from before the row number `before`.
///
/// # Errors
///
/// [`Error::Database`].
pub fn entries(connection: &Connection, owner: &str, before: Option<i64>, limit: u32) -> Result<Vec<Entry>> {
    let sql = "SELECT number, day, job, kind, credits, at FROM ledger \
               WHERE owner = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![owner, before.unwrap_or(i64::MAX), limit], |row| {
        Ok(Entry {
            number: row.get(0)?,
            day: Day(row.get(1)?),
            job: row.get(2)?,
            kind: row.get(3)?,
            credits: row.get(4)?,
            at: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Reserves the credits of a clip and returns how many those are: 0 without a limit.
pub(super) fn reserve(
    connection: &Connection,
    owner: &str,
    job: &str,
    cost: i64,
    terms: &Terms,
    now: i64,
) -> Result<i64> {
    let cost = price(cost, terms)?;
    let today = begin_day(connection, owner, terms, now)?;
    let left = sum(connection, owner, today)?;
    if cost > left {
        return Err(Error::Credits { needed: cost, left });
    }
    add(connection, owner, today, Some(job), "reserve", -cost, now)?;
    Ok(cost)
}

/// Reserves another number of credits for a clip that has a reservation, and returns how many those are.
pub(super) fn reserve_again(
    connection: &Connection,
    owner: &str,
    job: &str,
    cost: i64,
    terms: &Terms,
    now: i64,
) -> Result<i64> {
    let cost = price(cost, terms)?;
    let (_, day, reserved) = reservation(connection, job)?;
    if cost == reserved {
        return Ok(cost);
    }
    let today = begin_day(connection, owner, terms, now)?;
    let back = if day == today { reserved } else { 0 };
    let left = sum(connection, owner, today)? + back;
    if cost > left {
        return Err(Error::Credits { needed: cost, left });
    }
    refund(connection, job, now)?;
    add(connection, owner, today, Some(job), "reserve", -cost, now)?;
    Ok(cost)
}

/// Ends a clip's reservation: its credits are spent.
pub(super) fn charge(connection: &Connection, job: &str, now: i64) -> Result<()> {
    let (owner, day, _) = reservation(connection, job)?;
    add(connection, &owner, day, Some(job), "charge", 0, now)
}

/// Ends a clip's reservation: its credits go back to their day.
pub(super) fn refund(connection: &Connection, job: &str, now: i64) -> Result<()> {
    let (owner, day, credits) = reservation(connection, job)?;
    add(connection, &owner, day, Some(job), "refund", credits, now)?;
    let is_over = last_day(connection, &owner)?.is_some_and(|last| last > day);
    if is_over && credits > 0 {
        add(connection, &owner, day, Some(job), "expire", -credits, now)?;
    }
    Ok(())
}

fn price(cost: i64, terms: &Terms) -> Result<i64> {
    if cost < 0 {
        return Err(Error::Invalid { what: "the price".into(), problem: format!("is {cost}") });
    }
    Ok(if terms.credits.is_some() { cost } else { 0 })
}

/// Begins the day of `terms` if the owner's last one was earlier, and returns the owner's day: the later one, so that a
/// clock that is set back grants nothing.
fn begin_day(connection: &Connection, owner: &str, terms: &Terms, now: i64) -> Result<Day> {
    let last = last_day(connection, owner)?;
    let today = last.map_or(terms.day, |last| last.max(terms.day));
    if let Some(last) = last.filter(|last| *last < today) {
        let rest = sum(connection, owner, last)?;
        if rest > 0 {
            add(connection, owner, last, None, "expire", -rest, now)?;
        }
    }
    if let Some(credits) = terms.credits {
        let missing = credits - granted(connection, owner, today)?;
        if missing > 0 {
            add(connection, owner, today, None, "grant", missing, now)?;
        }
    }
    Ok(today)
}

fn last_day(connection: &Connection, owner: &str) -> Result<Option<Day>> {
    let mut statement = connection.prepare_cached("SELECT max(day) FROM ledger WHERE owner = ?1")?;
    Ok(statement.query_row([owner], |row| Ok(row.get::<_, Option<i64>>(0)?.map(Day)))?)
}

fn sum(connection: &Connection, owner: &str, day: Day) -> Result<i64> {
    let sql = "SELECT coalesce(sum(credits), 0) FROM ledger WHERE owner = ?1 AND day = ?2";
    Ok(connection.prepare_cached(sql)?.query_row(params![owner, day.0], |row| row.get(0))?)
}

fn granted(connection: &Connection, owner: &str, day: Day) -> Result<i64> {
    let sql = "SELECT coalesce(sum(credits), 0) FROM ledger WHERE owner = ?1 AND day = ?2 AND kind = 'grant'";
    Ok(connection.prepare_cached(sql)?.query_row(params![owner, day.0], |row| row.get(0))?)
}

/// Returns owner, day and credits of a clip's last reservation.
fn reservation(connection: &Connection, job: &str) -> Result<(String, Day, i64)> {
    let sql =
        "SELECT owner, day, -credits FROM ledger WHERE job = ?1 AND kind = 'reserve' ORDER BY number DESC LIMIT 1";
    let found =
        connection.prepare_cached(sql)?.query_row([job], |row| Ok((row.get(0)?, Day(row.get(1)?), row.get(2)?)));
    found.optional()?.ok_or_else(|| Error::Ledger { problem: format!("the clip `{job}` has no reservation") })
}

fn add(
    connection: &Connection,
    owner: &str,
    day: Day,
    job: Option<&str>,
    kind: &str,
    credits: i64,
    at: i64,
) -> Result<()> {
    let sql = "INSERT INTO ledger (owner, day, job, kind, credits, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    connection.prepare_cached(sql)?.execute(params![owner, day.0, job, kind, credits, at])?;
    Ok(())
}

/// Rules as queries of what breaks them; the first column says where.
const RULES: &[(&str, &str)] = &[
    (
        "the balance of an owner was below 0",
        "SELECT owner FROM (SELECT owner, sum(credits) OVER (PARTITION BY owner ORDER BY number) AS balance FROM ledger) \
         WHERE balance < 0 LIMIT 1",
    ),
    (
        "an earlier day of an owner does not add up to 0",
        "SELECT owner || ' on day ' || day FROM \
             (SELECT owner, day, sum(credits) AS rest, max(day) OVER (PARTITION BY owner) AS last \
              FROM ledger GROUP BY owner, day) \
         WHERE rest <> 0 AND day < last LIMIT 1",
    ),
    (
        "a row of a clip is another owner's",
        "SELECT ledger.job FROM ledger JOIN jobs ON jobs.id = ledger.job WHERE ledger.owner <> jobs.owner LIMIT 1",
    ),
    (
        "the reservations of a clip do not fit its state",
        "SELECT id FROM jobs LEFT JOIN \
             (SELECT job, sum(kind = 'reserve') AS reserved, sum(kind = 'refund') AS refunded, \
                     sum(kind = 'charge') AS charges, sum(iif(kind = 'expire', 0, credits)) AS net \
              FROM ledger WHERE job IS NOT NULL GROUP BY job) ON job = id \
         WHERE NOT coalesce(CASE \
             WHEN finished_at IS NULL \
                 THEN reserved - refunded = 1 AND charges = 0 AND net = -cost AND charged IS NULL \
             WHEN status IN ('succeeded', 'expired') \
                 THEN reserved - refunded = 1 AND charges = 1 AND net = -cost AND charged = cost \
             ELSE reserved = refunded AND charges = 0 AND net = 0 AND charged = 0 END, 0) \
         LIMIT 1",
    ),
    (
        "a day of an owner has ended twice",
        "SELECT owner || ' on day ' || day FROM ledger WHERE kind = 'expire' AND job IS NULL \
         GROUP BY owner, day HAVING count(*) > 1 LIMIT 1",
    ),
];

/// Verifies the rules of the accounts over the whole store.
///
/// # Errors
///
/// [`Error::Ledger`] with the first rule that is broken, and [`Error::Database`].
pub fn check(connection: &Connection) -> Result<()> {
    for (rule, sql) in RULES {
        let broken: Option<String> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
        if let Some(place) = broken {
            return Err(Error::Ledger { problem: format!("{rule}: {place}") });
        }
    }
    Ok(())
}

//! Clips are accepted: limits, inputs, price, and a place in the queue.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::Value;

use super::list;
use super::row::{self, Api, Job, Kind};
use crate::error::{Error, Result};
use crate::id;
use crate::store::ledger;
use crate::store::terms::Terms;

/// A clip that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Whose it is.
    pub owner: String,
    /// The interface by which it is asked for.
    pub api: Api,
    /// What it is made of.
    pub kind: Kind,
    /// The clip that it is made from.
    pub parent: Option<String>,
    /// The name that the client gives it; an owner's are all different.
    pub external_id: Option<String>,
    /// Its prompt, for lists and searches.
    pub prompt: String,
    /// What is asked for.
    pub request: Value,
    /// What it will take.
    pub plan: Value,
    /// The seed, if it is known already.
    pub seed: Option<u64>,
    /// Names of uploads and clips of the owner that it needs: they cannot be deleted until it is finished.
    pub inputs: Vec<String>,
    /// The address that is told of its end.
    pub callback_url: Option<String>,
    /// Whether it stays in the queue until the owner lets it go on.
    pub paused: bool,
    /// What it costs. Without a limit of credits, nothing is reserved.
    pub cost: i64,
}

/// Accepts a clip at the end of the owner's queue, and reserves its credits.
///
/// # Errors
///
/// [`Error::Duplicate`], [`Error::Concurrency`], [`Error::QueueFull`], [`Error::StorageQuota`], [`Error::Credits`], and
/// [`Error::NotFound`] for inputs and a parent that are not the owner's.
pub fn insert(transaction: &Transaction<'_>, new: &NewJob, terms: &Terms, now: i64) -> Result<Job> {
    if let Some(external_id) = &new.external_id
        && let Some(job) = list::by_external(transaction, &new.owner, external_id)?
    {
        return Err(Error::Duplicate { external_id: external_id.clone(), id: job.id });
    }
    check_limits(transaction, &new.owner, terms)?;
    check_inputs(transaction, &new.owner, &new.inputs)?;
    if let Some(parent) = &new.parent {
        row::find(transaction, &new.owner, parent)?;
    }
    let id = id::new(id::CLIP, now)?;
    // Credits may be missing after the row is written, to which the ledger refers.
    transaction.execute_batch("SAVEPOINT accept")?;
    let accepted = accept(transaction, &id, new, terms, now);
    let end = if accepted.is_ok() { "RELEASE accept" } else { "ROLLBACK TO accept; RELEASE accept" };
    transaction.execute_batch(end)?;
    accepted?;
    row::load(transaction, &id)
}

fn accept(transaction: &Transaction<'_>, id: &str, new: &NewJob, terms: &Terms, now: i64) -> Result<()> {
    let sql = "INSERT INTO jobs (id, owner, status, rank, paused, created_at, api, kind, parent, external_id, prompt, \
               request, plan, seed, callback_url, cost) VALUES (?1, ?2, 'queued', (SELECT coalesce(max(rank), 0) + 1 \
               FROM jobs WHERE owner = ?2 AND status IN ('queued', 'running', 'cancelling')), \
               ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0)";
    transaction.prepare_cached(sql)?.execute(params![
        id,
        new.owner,
        new.paused,
        now,
        new.api,
        new.kind,
        new.parent,
        new.external_id,
        new.prompt,
        new.request,
        new.plan,
        new.seed.map(|seed| seed.to_string()),
        new.callback_url,
    ])?;
    let cost = ledger::reserve(transaction, &new.owner, id, new.cost, terms, now)?;
    transaction.prepare_cached("UPDATE jobs SET cost = ?2 WHERE id = ?1")?.execute(params![id, cost])?;
    set_inputs(transaction, id, &new.inputs)?;
    transaction.prepare_cached("INSERT OR IGNORE INTO turns (owner) VALUES (?1)")?.execute([&new.owner])?;
    Ok(())
}

fn check_limits(connection: &Connection, owner: &str, terms: &Terms) -> Result<()> {
    let number = |sql: &str, owner: &[&str]| -> Result<u64> {
        let mut statement = connection.prepare_cached(sql)?;
        let count: i64 = statement.query_row(rusqlite::params_from_iter(owner), |row| row.get(0))?;
        Ok(count.cast_unsigned())
    };
    if let Some(limit) = terms.active {
        let active = "SELECT count(*) FROM jobs WHERE owner = ?1 AND status IN ('queued', 'running', 'cancelling')";
        if number(active, &[owner])? >= limit {
            return Err(Error::Concurrency { limit });
        }
    }
    if let Some(limit) = terms.queue
        && number("SELECT count(*) FROM jobs WHERE status = 'queued'", &[])? >= limit
    {
        return Err(Error::QueueFull { limit });
    }
    list::check_storage(connection, owner, terms.storage, 1)
}

/// Checks that the owner has the uploads and clips.
pub(super) fn check_inputs(connection: &Connection, owner: &str, inputs: &[String]) -> Result<()> {
    for input in inputs {
        let (what, sql) = if input.starts_with(id::CLIP) {
            ("clip", "SELECT 1 FROM jobs WHERE id = ?1 AND owner = ?2 AND deleted_at IS NULL")
        } else {
            ("upload", "SELECT 1 FROM assets WHERE id = ?1 AND owner = ?2")
        };
        let found = connection.prepare_cached(sql)?.query_row(params![input, owner], |_| Ok(())).optional()?;
        found.ok_or_else(|| Error::NotFound { what, id: input.clone() })?;
    }
    Ok(())
}

/// Replaces what the clip needs.
pub(super) fn set_inputs(connection: &Connection, id: &str, inputs: &[String]) -> Result<()> {
    connection.prepare_cached("DELETE FROM inputs WHERE job = ?1")?.execute([id])?;
    for input in inputs {
        let mut statement = connection.prepare_cached("INSERT OR IGNORE INTO inputs (job, input) VALUES (?1, ?2)")?;
        statement.execute(params![id, input])?;
    }
    Ok(())
}

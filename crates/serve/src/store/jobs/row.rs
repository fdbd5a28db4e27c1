//! [`Job`]: a row of the table, and the words in it.

use std::fmt;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// Declares an enum whose values are words, in the store as in JSON.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $value:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $value,)*
        }

        impl $name {
            /// All values.
            pub const ALL: &[Self] = &[$(Self::$value,)*];

            /// Returns the word.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                self.word().to_sql()
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let word = value.as_str()?;
                let found = Self::ALL.iter().find(|value| value.word() == word);
                found.copied().ok_or(FromSqlError::InvalidType)
            }
        }
    };
}

words! {
    /// The state of a clip.
    Status {
        /// It waits.
        Queued = "queued",
        /// A worker makes it.
        Running = "running",
        /// It is made, and its file is there.
        Succeeded = "succeeded",
        /// It could not be made.
        Failed = "failed",
        /// A worker has been told to stop.
        Cancelling = "cancelling",
        /// It was stopped, or taken from the queue.
        Cancelled = "cancelled",
        /// It was made, and its file has been deleted since.
        Expired = "expired",
    }
}

words! {
    /// The interface by which a clip was asked for.
    Api {
        /// The server's own, which its page uses.
        Own = "own",
        /// OpenAI's.
        OpenAi = "openai",
        /// Kling's.
        Kling = "kling",
    }
}

words! {
    /// What a clip is made of.
    Kind {
        /// A prompt, and perhaps pictures or clips.
        Clip = "clip",
        /// The settings of an earlier clip, with another prompt.
        Remix = "remix",
        /// An earlier clip that goes on.
        Extend = "extend",
        /// An earlier clip that is changed.
        Edit = "edit",
    }
}

impl Status {
    /// Whether nothing more will happen to the clip by itself, other than that it expires.
    pub const fn is_finished(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Cancelling)
    }
}

/// A clip. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// `video_` and a ULID.
    pub id: String,
    /// Whose it is.
    pub owner: String,
    /// Its state.
    pub status: Status,
    /// How often it was claimed.
    pub attempt: i64,
    /// How often its worker died.
    pub deaths: i64,
    /// Its place among the owner's clips: smaller ones come first.
    pub rank: f64,
    /// Whether it stays in the queue until somebody lets it go on.
    pub paused: bool,
    /// When it was accepted.
    pub created_at: i64,
    /// When its last attempt began.
    pub started_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// When its file is deleted.
    pub expires_at: Option<i64>,
    /// The interface by which it was asked for.
    pub api: Api,
    /// What it is made of.
    pub kind: Kind,
    /// The clip that it was made from.
    pub parent: Option<String>,
    /// The name that the client gave it.
    pub external_id: Option<String>,
    /// Its prompt, for lists and searches; empty when it is deleted.
    pub prompt: String,
    /// What was asked for; `null` when it is deleted.
    pub request: Value,
    /// What it will take; `null` when it is deleted.
    pub plan: Value,
    /// How much is done, in percent. It never falls within an attempt.
    pub progress: u8,
    /// What is being done.
    pub stage: Option<Value>,
    /// The seed of its noise.
    pub seed: Option<u64>,
    /// What was made.
    pub result: Option<Value>,
    /// The bytes of its files.
    pub bytes: u64,
    /// Why it failed, as a word for programs.
    pub error_code: Option<String>,
    /// Why it failed, as a sentence.
    pub error_message: Option<String>,
    /// The credits that are reserved for it.
    pub cost: i64,
    /// The credits that were spent in the end.
    pub charged: Option<i64>,
    /// Whether the owner has marked it.
    pub starred: bool,
    /// When the owner deleted it.
    pub deleted_at: Option<i64>,
    /// The worker that makes it.
    pub worker: Option<String>,
    /// Until when the worker is believed to live without a report.
    pub lease_until: Option<i64>,
    /// The address that is told of its end.
    pub callback_url: Option<String>,
}

/// The columns of [`Job::read`].
pub(super) const COLUMNS: &str = "id, owner, status, attempt, deaths, rank, paused, created_at, started_at, finished_at, \
    expires_at, api, kind, parent, external_id, prompt, request, plan, progress, stage, seed, result, bytes, error_code, \
    error_message, cost, charged, starred, deleted_at, worker, lease_until, callback_url";

impl Job {
    /// Reads a row of [`COLUMNS`].
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let seed: Option<String> = row.get("seed")?;
        Ok(Self {
            id: row.get("id")?,
            owner: row.get("owner")?,
            status: row.get("status")?,
            attempt: row.get("attempt")?,
            deaths: row.get("deaths")?,
            rank: row.get("rank")?,
            paused: row.get("paused")?,
            created_at: row.get("created_at")?,
            started_at: row.get("started_at")?,
            finished_at: row.get("finished_at")?,
            expires_at: row.get("expires_at")?,
            api: row.get("api")?,
            kind: row.get("kind")?,
            parent: row.get("parent")?,
            external_id: row.get("external_id")?,
            prompt: row.get("prompt")?,
            request: row.get("request")?,
            plan: row.get("plan")?,
            progress: row.get("progress")?,
            stage: row.get("stage")?,
            seed: seed.and_then(|seed| seed.parse().ok()),
            result: row.get("result")?,
            bytes: row.get::<_, i64>("bytes")?.cast_unsigned(),
            error_code: row.get("error_code")?,
            error_message: row.get("error_message")?,
            cost: row.get("cost")?,
            charged: row.get("charged")?,
            starred: row.get("starred")?,
            deleted_at: row.get("deleted_at")?,
            worker: row.get("worker")?,
            lease_until: row.get("lease_until")?,
            callback_url: row.get("callback_url")?,
        })
    }
}

/// Returns a clip of the owner that is not deleted.
pub(super) fn find(connection: &Connection, owner: &str, id: &str) -> Result<Job> {
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1 AND owner = ?2 AND deleted_at IS NULL");
    let found = connection.prepare_cached(&sql)?.query_row(params![id, owner], Job::read).optional()?;
    found.ok_or_else(|| Error::NotFound { what: "clip", id: id.into() })
}

/// Returns a clip that is there, whoever's it is.
pub(super) fn load(connection: &Connection, id: &str) -> Result<Job> {
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1");
    Ok(connection.prepare_cached(&sql)?.query_row([id], Job::read)?)
}

/// Checks that a clip of the owner is queued.
pub(super) fn find_queued(connection: &Connection, owner: &str, id: &str, verb: &'static str) -> Result<Job> {
    let job = find(connection, owner, id)?;
    if job.status != Status::Queued {
        return Err(Error::State { id: id.into(), status: job.status, verb });
    }
    Ok(job)
}

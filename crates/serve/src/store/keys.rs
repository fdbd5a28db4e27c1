//! Keys: whose requests are answered. Of a key itself, only its SHA-256 and its first letters are kept.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use subtle::ConstantTimeEq;

use crate::error::{Error, Result};
use crate::id;

/// What every key begins with.
pub const PREFIX: &str = "kin_";
/// Letters of a key that are kept, so that people can tell their keys apart.
const SHOWN: usize = 11;
/// 256 bits in base64.
const LENGTH: usize = PREFIX.len() + 43;
/// The last use of a key is noted once in this many milliseconds.
const TOUCH: i64 = 60_000;

/// A key as it is kept. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// `key_` and a ULID.
    pub id: String,
    /// Whose it is.
    pub owner: String,
    /// What its owner calls it.
    pub name: String,
    /// The tier of what is asked for with it.
    pub tier: String,
    /// Its first letters.
    pub prefix: String,
    /// The name under which it signs requests, `ak_` and a ULID. It is no secret.
    pub access_key: String,
    /// Which of the secrets of the access key is in force: the secret is derived from both.
    pub version: i64,
    /// When it was made.
    pub created_at: i64,
    /// When it was last used, to the minute.
    pub last_used_at: Option<i64>,
    /// When it ceases to be valid.
    pub expires_at: Option<i64>,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
}

/// What came of a key that was presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// It is valid.
    Valid(Key),
    /// There is no such key.
    Unknown,
    /// It was valid until then.
    Expired(Key),
    /// It has been revoked.
    Revoked(Key),
}

/// What is in force of all keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Grants(HashMap<String, Grant>);

/// What is in force of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grant {
    /// The version of the secret with which it signs.
    version: i64,
    revoked: bool,
}

impl Grants {
    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the key with that id has been revoked, or, of a token, the secret replaced whose version has `signed` it. A key or
    /// a secret that is newer than what is known here is in force.
    pub fn are_over(&self, id: &str, signed: Option<i64>) -> bool {
        let is_over = |grant: &Grant| grant.revoked || signed.is_some_and(|version| version < grant.version);
        self.0.get(id).is_some_and(is_over)
    }
}

const COLUMNS: &str =
    "id, owner, name, tier, prefix, access_key, version, created_at, last_used_at, expires_at, revoked_at";

/// Makes a key. Returns its text, which is not kept and cannot be had again, and its row.
///
/// # Errors
///
/// [`Error::Random`] and [`Error::Database`].
pub fn create(
    connection: &Connection,
    owner: &str,
    name: &str,
    tier: &str,
    expires_at: Option<i64>,
    now: i64,
) -> Result<(String, Key)> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(Error::Random)?;
    let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let key_id = id::new(id::KEY, now)?;
    let sql = "INSERT INTO keys (id, owner, name, tier, prefix, hash, access_key, created_at, expires_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    connection.prepare_cached(sql)?.execute(params![
        key_id,
        owner,
        name,
        tier,
        &text[..SHOWN],
        hash(&text),
        id::new(id::ACCESS_KEY, now)?,
        now,
        expires_at,
    ])?;
    Ok((text, get(connection, &key_id)?))
}

/// Looks a key up by its text.
///
/// # Errors
///
/// [`Error::Database`].
pub fn find(connection: &Connection, text: &str, now: i64) -> Result<Access> {
    if text.len() != LENGTH || !text.starts_with(PREFIX) {
        return Ok(Access::Unknown);
    }
    let hash = hash(text);
    let sql = format!("SELECT {COLUMNS}, hash FROM keys WHERE hash = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row([hash], |row| Ok((read(row)?, row.get::<_, [u8; 32]>("hash")?))).optional()?;
    // The index compares hashes letter by letter, whose timing tells nothing of a key; the decision is not its.
    let same = found.filter(|(_, stored)| bool::from(stored.ct_eq(&hash)));
    Ok(same.map_or(Access::Unknown, |(key, _)| judge(key, now)))
}

/// Looks a key up by the name under which it signs requests.
///
/// # Errors
///
/// [`Error::Database`].
pub fn find_access_key(connection: &Connection, access_key: &str, now: i64) -> Result<Access> {
    let sql = format!("SELECT {COLUMNS} FROM keys WHERE access_key = ?1");
    let found = connection.prepare_cached(&sql)?.query_row([access_key], read).optional()?;
    Ok(found.map_or(Access::Unknown, |key| judge(key, now)))
}

/// Returns a key by the name of its row.
///
/// # Errors
///
/// [`Error::NotFound`].
pub fn get(connection: &Connection, id: &str) -> Result<Key> {
    let sql = format!("SELECT {COLUMNS} FROM keys WHERE id = ?1");
    let found = connection.prepare_cached(&sql)?.query_row([id], read).optional()?;
    found.ok_or_else(|| Error::NotFound { what: "key", id: id.into() })
}

/// Returns the keys of an owner, or of all, the oldest first.
///
/// # Errors
///
/// [`Error::Database`].
pub fn list(connection: &Connection, owner: Option<&str>) -> Result<Vec<Key>> {
    let sql = format!("SELECT {COLUMNS} FROM keys WHERE ?1 IS NULL OR owner = ?1 ORDER BY id");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_map([owner], read)?.collect::<rusqlite::Result<_>>()?)
}

/// Returns what is in force of all keys.
///
/// # Errors
///
/// [`Error::Database`].
pub fn grants(connection: &Connection) -> Result<Grants> {
    let mut statement = connection.prepare_cached("SELECT id, version, revoked_at IS NOT NULL FROM keys")?;
    let grant = |row: &Row<'_>| Ok((row.get(0)?, Grant { version: row.get(1)?, revoked: row.get(2)? }));
    Ok(Grants(statement.query_map([], grant)?.collect::<rusqlite::Result<_>>()?))
}

/// Whether any key exists, valid or not: without one, only this machine itself is answered.
///
/// # Errors
///
/// [`Error::Database`].
pub fn any(connection: &Connection) -> Result<bool> {
    Ok(connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM keys)")?.query_row([], |row| row.get(0))?)
}

/// Notes that a key is used. Returns whether that was written: a use within a minute of the last one is not.
///
/// # Errors
///
/// [`Error::Database`].
pub fn touch(connection: &Connection, id: &str, now: i64) -> Result<bool> {
    let sql = "UPDATE keys SET last_used_at = ?2 WHERE id = ?1 AND (last_used_at IS NULL OR last_used_at <= ?3)";
    Ok(connection.prepare_cached(sql)?.execute(params![id, now, now.saturating_sub(TOUCH)])? == 1)
}

/// Revokes a key for ever. Returns whether it was in force.
///
/// # Errors
///
/// [`Error::NotFound`].
pub fn revoke(connection: &Connection, id: &str, now: i64) -> Result<bool> {
    get(connection, id)?;
    let sql = "UPDATE keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";
    Ok(connection.prepare_cached(sql)?.execute(params![id, now])? == 1)
}

/// Puts the next secret of the access key in force, so that what was signed with the one before is refused. Returns
/// its version.
///
/// # Errors
///
/// [`Error::NotFound`].
pub fn renew_secret(connection: &Connection, id: &str) -> Result<i64> {
    connection.prepare_cached("UPDATE keys SET version = version + 1 WHERE id = ?1")?.execute([id])?;
    Ok(get(connection, id)?.version)
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn judge(key: Key, now: i64) -> Access {
    if key.revoked_at.is_some() {
        Access::Revoked(key)
    } else if key.expires_at.is_some_and(|end| end <= now) {
        Access::Expired(key)
    } else {
        Access::Valid(key)
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Key> {
    Ok(Key {
        id: row.get("id")?,
        owner: row.get("owner")?,
        name: row.get("name")?,
        tier: row.get("tier")?,
        prefix: row.get("prefix")?,
        access_key: row.get("access_key")?,
        version: row.get("version")?,
        created_at: row.get("created_at")?,
        last_used_at: row.get("last_used_at")?,
        expires_at: row.get("expires_at")?,
        revoked_at: row.get("revoked_at")?,
    })
}

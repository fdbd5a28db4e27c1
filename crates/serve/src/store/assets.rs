//! Uploads: pictures and clips that owners have sent, for use in their clips.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::jobs;
use crate::error::{Error, Result};
use crate::id;

/// What an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Media {
    /// A picture.
    Image,
    /// A clip.
    Video,
}

/// An upload that is about to be kept; what its file is, was found out before.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAsset {
    /// Whose it is.
    pub owner: String,
    /// What it is.
    pub media: Media,
    /// The type of its file, such as `image/png`, as its content says.
    pub mime: String,
    /// The length of its file.
    pub bytes: u64,
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
    /// The number of its frames; 1 for a picture.
    pub frames: u32,
    /// Frames per second, of a clip.
    pub fps: Option<f64>,
    /// What the client calls it. It is shown, and never used as a path.
    pub name: String,
    /// The SHA-256 of its file.
    pub sha256: [u8; 32],
}

/// An upload. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq)]
pub struct Asset {
    /// `file_` and a ULID.
    pub id: String,
    /// What is known of it.
    pub facts: NewAsset,
    /// When it came.
    pub created_at: i64,
    /// When it was last used.
    pub used_at: i64,
}

const COLUMNS: &str = "id, owner, media, mime, bytes, width, height, frames, fps, name, sha256, created_at, used_at";

/// Keeps an upload, if it fits into the owner's quota of `storage` bytes.
///
/// # Errors
///
/// [`Error::StorageQuota`].
pub fn insert(transaction: &Transaction<'_>, new: &NewAsset, storage: Option<u64>, now: i64) -> Result<Asset> {
    jobs::check_storage(transaction, &new.owner, storage, new.bytes)?;
    let id = id::new(id::UPLOAD, now)?;
    let sql = format!("INSERT INTO assets ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12)");
    transaction.prepare_cached(&sql)?.execute(params![
        id,
        new.owner,
        match new.media {
            Media::Image => "image",
            Media::Video => "video",
        },
        new.mime,
        new.bytes.cast_signed(),
        new.width,
        new.height,
        new.frames,
        new.fps,
        new.name,
        new.sha256,
        now,
    ])?;
    get(transaction, &new.owner, &id)
}

/// Returns an upload of the owner.
///
/// # Errors
///
/// [`Error::NotFound`].
pub fn get(connection: &Connection, owner: &str, id: &str) -> Result<Asset> {
    let sql = format!("SELECT {COLUMNS} FROM assets WHERE id = ?1 AND owner = ?2");
    let found = connection.prepare_cached(&sql)?.query_row([id, owner], read).optional()?;
    found.ok_or_else(|| Error::NotFound { what: "upload", id: id.into() })
}

/// Returns at most `limit` of the owner's uploads from before the one named `before`, the newest first.
///
/// # Errors
///
/// [`Error::Database`].
pub fn list(connection: &Connection, owner: &str, before: Option<&str>, limit: u32) -> Result<Vec<Asset>> {
    // No name is greater than a letter that no name has.
    let before = before.unwrap_or("~");
    let sql = format!("SELECT {COLUMNS} FROM assets WHERE owner = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_map(params![owner, before, limit], read)?.collect::<rusqlite::Result<_>>()?)
}

/// Notes that an upload of the owner is used.
///
/// # Errors
///
/// [`Error::NotFound`].
pub fn touch(connection: &Connection, owner: &str, id: &str, now: i64) -> Result<()> {
    let sql = "UPDATE assets SET used_at = max(used_at, ?3) WHERE id = ?1 AND owner = ?2";
    match connection.prepare_cached(sql)?.execute(params![id, owner, now])? {
        0 => Err(Error::NotFound { what: "upload", id: id.into() }),
        _ => Ok(()),
    }
}

/// Deletes an upload of the owner and returns it, so that its file can be deleted.
///
/// # Errors
///
/// [`Error::NotFound`], and [`Error::InUse`] when an unfinished clip needs it.
pub fn delete(transaction: &Transaction<'_>, owner: &str, id: &str) -> Result<Asset> {
    let asset = get(transaction, owner, id)?;
    jobs::check_unused(transaction, id)?;
    transaction.prepare_cached("DELETE FROM assets WHERE id = ?1")?.execute([id])?;
    Ok(asset)
}

/// Deletes uploads that were last used before that time and that no unfinished clip needs, at most `limit` at once.
/// Returns them, so that their files can be deleted.
///
/// # Errors
///
/// [`Error::Database`].
pub fn sweep(transaction: &Transaction<'_>, before: i64, limit: u32) -> Result<Vec<Asset>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM assets WHERE used_at < ?1 AND NOT EXISTS (SELECT 1 FROM inputs WHERE input = assets.id) \
         ORDER BY used_at LIMIT ?2"
    );
    let mut statement = transaction.prepare_cached(&sql)?;
    let unused = statement.query_map(params![before, limit], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
    for asset in &unused {
        transaction.prepare_cached("DELETE FROM assets WHERE id = ?1")?.execute([&asset.id])?;
    }
    Ok(unused)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Asset> {
    let media: String = row.get("media")?;
    let facts = NewAsset {
        owner: row.get("owner")?,
        media: if media == "image" { Media::Image } else { Media::Video },
        mime: row.get("mime")?,
        bytes: row.get::<_, i64>("bytes")?.cast_unsigned(),
        width: row.get("width")?,
        height: row.get("height")?,
        frames: row.get("frames")?,
        fps: row.get("fps")?,
        name: row.get("name")?,
        sha256: row.get("sha256")?,
    };
    Ok(Asset { id: row.get("id")?, facts, created_at: row.get("created_at")?, used_at: row.get("used_at")? })
}

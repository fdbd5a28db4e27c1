//! [`Fields`]: the one reader of bodies, JSON or multipart. Clients send either, with the same meaning: text is coerced where it
//! is used, `a[b]` is the field `b` of `a`, and `a[]` is a list.

use crate::app::App;
use crate::body::{self, Cut, unreadable};
use crate::disk;
use crate::fault::{Answer, Fault, is_full};
use crate::guard::Caller;
use crate::slots::{Reserved, Slot};
use crate::store::jobs;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tokio::io::AsyncWriteExt;

/// The longest JSON body, in bytes: pictures may be in it as data URLs.
pub const MOST_JSON: u64 = 32 << 20;
/// The longest multipart body, in bytes.
pub const MOST_MULTIPART: u64 = 256 << 20;
/// The longest body that needs no turn, in bytes.
const SHORT: u64 = 1 << 20;
/// The bytes of a form that are not its file's.
const FORM: u64 = 1024;
/// The most fields.
pub const MOST_FIELDS: usize = 64;
/// The most levels of a field's name.
const DEEPEST: usize = 8;
/// The longest text of all fields together, in bytes; data URLs come as text, too.
const MOST_TEXT: u64 = MOST_JSON;

/// A body, taken apart.
pub struct Fields {
    /// Values by name.
    pub values: Map<String, Value>,
    /// Uploaded files by the field's name.
    pub files: BTreeMap<String, Upload>,
    /// The SHA-256 of everything in it.
    pub hash: [u8; 32],
    /// The storage that its files will take.
    room: Room,
    /// Its turn, if it is long.
    _slot: Option<Slot>,
}

/// The storage that the files of a body may take.
struct Room {
    app: App,
    caller: Caller,
    /// The length that the body says it has.
    told: Option<u64>,
    bytes: u64,
    reserved: Option<Reserved>,
}

/// A file on its way into the store. It is removed unless it is kept.
pub struct Upload {
    /// Where it lies.
    pub file: disk::Upload,
    /// The client's name for it; only shown.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 of its content.
    pub hash: [u8; 32],
}

impl Fields {
    /// Reads the body of a request; files go to the disk as they come, as far as the caller's storage has room for them.
    ///
    /// # Errors
    /// A body that is no JSON object or multipart, is too long or slow, or has too many fields; a full quota or disk.
    pub async fn read(app: &App, caller: &Caller, request: Request) -> Answer<Self> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let told = body::length(request.headers());
        let slot = match told {
            Some(..=SHORT) => None,
            _ => Some(app.slots.turn(&caller.owner).await?),
        };
        let room = Room { app: app.clone(), caller: caller.clone(), told, bytes: 0, reserved: None };
        let mut fields = Self { values: Map::new(), files: BTreeMap::new(), hash: [0; 32], room, _slot: slot };
        match kind.as_str() {
            "multipart/form-data" => {
                let multipart = Multipart::from_request(request, &());
                fields.multipart(multipart.await.map_err(|error| Fault::invalid("", error.body_text()))?).await?;
            }
            "application/json" => fields.json(request).await?,
            _ => {
                let what = "the body is `application/json` or `multipart/form-data`, and its header says so";
                return Err(Fault::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", what));
            }
        }
        Ok(fields)
    }

    async fn json(&mut self, request: Request) -> Answer<()> {
        let body = body::whole(request.into_body(), MOST_JSON).await?;
        let value: Value = serde_json::from_slice(if body.is_empty() { b"{}" } else { &body[..] })
            .map_err(|error| Fault::invalid("", format!("the body is no JSON: {error}")))?;
        let Value::Object(values) = value else { return Err(Fault::invalid("", "the body is no JSON object")) };
        if values.len() > MOST_FIELDS {
            return Err(Fault::invalid("", format!("at most {MOST_FIELDS} fields are read")));
        }
        (self.values, self.hash) = (values, Sha256::digest(&body).into());
        Ok(())
    }

    async fn multipart(&mut self, mut multipart: Multipart) -> Answer<()> {
        let mut hash = Sha256::new();
        let (mut count, mut left) = (0, MOST_TEXT);
        while let Some(field) = multipart.next_field().await.map_err(|error| broken(&error))? {
            count += 1;
            if count > MOST_FIELDS {
                return Err(Fault::invalid("", format!("at most {MOST_FIELDS} fields are read")));
            }
            let name = field.name().unwrap_or_default().to_string();
            if field.file_name().is_some() {
                let upload = self.room.receive(field).await?;
                hash.update(name.as_bytes());
                hash.update(upload.hash);
                if self.files.insert(name.clone(), upload).is_some() {
                    return Err(Fault::invalid(&name, format!("the file `{name}` is given twice")));
                }
            } else {
                let text = text(&name, field, &mut left).await?;
                hash.update((name.len() as u64).to_le_bytes());
                hash.update(name.as_bytes());
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text.as_bytes());
                put(&mut self.values, &name, text)?;
            }
        }
        self.hash = hash.finalize().into();
        Ok(())
    }

    /// Keeps bytes that came in another way.
    ///
    /// # Errors
    /// A full quota or disk.
    pub async fn upload(&mut self, bytes: &[u8]) -> Answer<Upload> {
        self.room.told = None; // the body is longer than what is in it
        let mut writing = self.room.write().await?;
        self.room.add(&mut writing, bytes).await?;
        writing.finish(String::new()).await
    }

    /// Refuses what is left in it: nothing that is given is ignored.
    ///
    /// # Errors
    /// The name of something that was not used.
    pub fn used_up(&self) -> Answer<()> {
        match self.values.keys().chain(self.files.keys()).next() {
            None => Ok(()),
            Some(name) => Err(unknown(name)),
        }
    }
}

/// A field that nobody knows.
pub fn unknown(name: &str) -> Fault {
    Fault { code: "unknown_parameter".into(), ..Fault::invalid(name, format!("`{name}` is not known")) }
}

async fn text(name: &str, mut field: Field<'_>, left: &mut u64) -> Answer<String> {
    let mut bytes = Vec::new();
    while let Some(piece) = field.chunk().await.map_err(|error| broken(&error))? {
        *left = left.checked_sub(piece.len() as u64).ok_or(Cut::TooLong(MOST_TEXT))?;
        bytes.extend_from_slice(&piece);
    }
    String::from_utf8(bytes).map_err(|_| Fault::invalid(name, format!("`{name}` is no text in UTF-8")))
}

impl Room {
    /// Writes the field to a file in the data directory.
    async fn receive(&mut self, mut field: Field<'_>) -> Answer<Upload> {
        let label =
            field.file_name().unwrap_or_default().chars().filter(|letter| !letter.is_control()).take(100).collect();
        let mut writing = self.write().await?;
        while let Some(piece) = field.chunk().await.map_err(|error| broken(&error))? {
            self.add(&mut writing, &piece).await?;
        }
        writing.finish(label).await
    }

    /// Begins a file, if there is room for what the body says that it has.
    async fn write(&mut self) -> Answer<Writing> {
        if self.reserved.is_none() {
            let quota = match self.app.tier(&self.caller.tier).storage.get() {
                None => None,
                Some(limit) => {
                    let owner = self.caller.owner.clone();
                    let stored = self.app.store.read(move |connection| jobs::storage(connection, &owner)).await?;
                    Some((limit, stored))
                }
            };
            self.reserved = Some(Reserved::none(&self.app.slots, &self.caller.owner, quota));
        }
        self.cover(self.told.unwrap_or_default().saturating_sub(FORM))?;
        let (file, upload) =
            disk::new_upload(self.app.config.data.join("uploads")).await.map_err(|error| full(&error))?;
        Ok(Writing { upload, file, hash: Sha256::new(), bytes: 0 })
    }

    fn cover(&mut self, bytes: u64) -> Answer<()> {
        Ok(self.reserved.as_mut().map_or(Ok(()), |reserved| reserved.cover(bytes))?)
    }

    async fn add(&mut self, writing: &mut Writing, piece: &[u8]) -> Answer<()> {
        self.bytes += piece.len() as u64;
        self.cover(self.bytes)?;
        writing.hash.update(piece);
        writing.bytes += piece.len() as u64;
        writing.file.write_all(piece).await.map_err(|error| full(&error))
    }
}

/// An upload that is being written.
struct Writing {
    upload: disk::Upload,
    file: tokio::fs::File,
    hash: Sha256,
    bytes: u64,
}

impl Writing {
    async fn finish(mut self, name: String) -> Answer<Upload> {
        self.file.flush().await.map_err(|error| full(&error))?;
        self.file.sync_all().await.map_err(|error| full(&error))?;
        Ok(Upload { file: self.upload, name, bytes: self.bytes, hash: self.hash.finalize().into() })
    }
}

/// Puts a field of a form where its name says: `a`, `a[b][c]` or `a[]`.
fn put(values: &mut Map<String, Value>, name: &str, text: String) -> Answer<()> {
    let wrong = || Fault::invalid(name, format!("the field `{name}` is given twice, or its name is not understood"));
    let (first, rest) = name.split_once('[').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let mut keys = vec![first];
    if let Some(rest) = rest {
        keys.extend(rest.strip_suffix(']').ok_or_else(wrong)?.split("]["));
    }
    if keys.len() > DEEPEST {
        return Err(wrong());
    }
    let mut map = values;
    let (last, before) = keys.split_last().ok_or_else(wrong)?;
    let (last, before, is_list) = match (*last, before) {
        ("", [before @ .., last]) => (*last, before, true),
        (last, before) => (last, before, false),
    };
    for key in before {
        let inner = map.entry(*key).or_insert_with(|| Value::Object(Map::new()));
        map = inner.as_object_mut().ok_or_else(wrong)?;
    }
    if is_list {
        let list = map.entry(last).or_insert_with(|| Value::Array(Vec::new()));
        list.as_array_mut().ok_or_else(wrong)?.push(text.into());
        return Ok(());
    }
    if map.insert(last.to_string(), text.into()).is_some() { Err(wrong()) } else { Ok(()) }
}

fn broken(error: &MultipartError) -> Fault {
    let fault = unreadable(error);
    let is_cut = fault.status != StatusCode::BAD_REQUEST;
    if is_cut { fault } else { Fault::invalid("", format!("the form cannot be read: {}", error.body_text())) }
}

fn full(error: &std::io::Error) -> Fault {
    if is_full(error) { Fault::storage_full() } else { Fault::internal() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_forms_are_unfolded() {
        let mut values = Map::new();
        let fields =
            [("a", "1"), ("b[c][d]", "x"), ("b[c][e]", "y"), ("refs[]", "1"), ("refs[]", "2"), ("b[l][]", "z")];
        for (name, text) in fields {
            put(&mut values, name, text.into()).expect("a field");
        }
        let expected = serde_json::json!({"a": "1", "b": {"c": {"d": "x", "e": "y"}, "l": ["z"]}, "refs": ["1", "2"]});
        assert_eq!(Value::Object(values.clone()), expected);
        let deep = format!("x{}", "[y]".repeat(100_000));
        for wrong in [deep.as_str(), "a", "a[b]", "refs[x]", "b[c", "b[c]d", "refs"] {
            assert!(put(&mut values, wrong, "1".into()).is_err(), "{wrong}");
        }
    }
}

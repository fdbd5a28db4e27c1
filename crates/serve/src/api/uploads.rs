//! Pictures and clips that clients send.

use crate::app::{App, now};
use crate::config::host_of;
use crate::decode::{Fields, Upload};
use crate::disk;
use crate::error::Error;
use crate::fault::{Answer, Fault};
use crate::guard::Caller;
use crate::outgoing::Trouble;
use crate::sent::Named;
use crate::store::assets::{self, Asset, Media, NewAsset};
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The uploads that a request has brought. They go with it, unless it is accepted.
pub struct Brought {
    /// The server.
    pub app: App,
    /// Whose they are.
    pub caller: Caller,
    /// Also known to the store's thread, on which an upload is kept even if the client is gone by then.
    ids: Arc<Mutex<Vec<String>>>,
}

impl Brought {
    /// None yet.
    pub fn new(app: &App, caller: &Caller) -> Self {
        Self { app: app.clone(), caller: caller.clone(), ids: Arc::default() }
    }

    /// Keeps an upload, after a worker has looked at it.
    ///
    /// # Errors
    /// A file that is neither a picture nor a clip, or larger than those that are read; a full quota.
    pub async fn keep(&self, upload: Upload) -> Answer<Asset> {
        let app = &self.app;
        let facts = app.files.probe(upload.file.path()).await?;
        let whole = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let new = NewAsset {
            owner: self.caller.owner.clone(),
            media: if facts.media == "video" { Media::Video } else { Media::Image },
            mime: mime(&disk::start_of(upload.file.path()).await).to_string(),
            bytes: upload.bytes,
            width: whole(facts.width),
            height: whole(facts.height),
            frames: whole(facts.frames.unwrap_or(1)),
            fps: facts.fps,
            name: upload.name.clone(),
            sha256: upload.hash,
        };
        let (storage, shared, ids) = (app.tier(&self.caller.tier).storage.get(), app.clone(), Arc::clone(&self.ids));
        let kept = app.store.write(move |transaction| {
            let asset = assets::insert(transaction, &new, storage, now())?;
            let path = shared.upload_file(&asset.id);
            upload.file.keep(&path).map_err(|source| Error::Io { path, source })?;
            names(&ids).push(asset.id.clone());
            Ok(asset)
        });
        Ok(kept.await?)
    }

    /// Keeps the picture of a `data:` URL. Other addresses are followed only where the operator allows it, and then to public ones.
    ///
    /// # Errors
    /// An address that is no `data:` URL in base64 or cannot be fetched, and those of [`Self::keep`].
    pub async fn keep_url(&self, fields: &mut Fields, field: &str, url: &str) -> Answer<Asset> {
        let wrong = |what: String| Fault::invalid(field, format!("`{field}`: {what}"));
        let outgoing = &self.app.config.outgoing;
        let bytes = if let Some(data) = url.strip_prefix("data:") {
            let text = data.split_once(',').filter(|(head, _)| head.ends_with(";base64")).map(|(_, text)| text);
            decoded(field, text.ok_or_else(|| wrong("a `data:` URL is in base64".into()))?)?
        } else if outgoing.fetch_pictures {
            outgoing.check(url).map_err(wrong)?;
            let turn = self.app.fetches.turn(&self.caller.owner).await?;
            self.app.outgoing.picture(url.to_string(), turn).await.map_err(|trouble| match trouble {
                Trouble::Refused(what) => {
                    // Where a name leads in the operator's network is not the client's to know.
                    (self.app.log)(&format!("a picture was not fetched from {}: {what}", host_of(url)));
                    wrong("it leads to an address that is not public, and the server does not connect there".into())
                }
                Trouble::Failed(what) => wrong(what),
            })?
        } else {
            let what = "only `data:` URLs are read: send the file itself, or upload it first; the operator can allow other \
                        addresses with `outgoing.fetch_pictures`";
            return Err(wrong(what.into()));
        };
        self.keep(fields.upload(&bytes).await?).await
    }

    /// Keeps a picture that is an address or base64 without anything before it, and returns its id.
    ///
    /// # Errors
    /// Text that is neither, and those of [`Self::keep_url`].
    pub async fn keep_picture(&self, fields: &mut Fields, field: &str, text: Option<String>) -> Answer<Option<String>> {
        let Some(text) = text else { return Ok(None) };
        let asset = if ["data:", "http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) {
            self.keep_url(fields, field, &text).await
        } else {
            self.keep(fields.upload(&decoded(field, &text)?).await?).await
        };
        asset.map(|asset| Some(asset.id)).map_err(|fault| Fault { param: fault.param.or(Some(field.into())), ..fault })
    }

    /// The request is accepted: they stay.
    pub fn stay(self) {
        names(&self.ids).clear();
    }
}

impl Drop for Brought {
    fn drop(&mut self) {
        let (app, owner, ids) = (self.app.clone(), self.caller.owner.clone(), Arc::clone(&self.ids));
        // One that is being kept right now is in the list when the store comes to this.
        if Arc::strong_count(&ids) == 2 && names(&ids).is_empty() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let gone = app.store.write(move |transaction| {
                    // One that is gone or needed by now keeps no other from going.
                    let delete = |id: String| match assets::delete(transaction, &owner, &id) {
                        Err(Error::NotFound { .. } | Error::InUse { .. }) => None,
                        deleted => Some(deleted),
                    };
                    names(&ids).clone().into_iter().filter_map(delete).collect::<crate::Result<Vec<_>>>()
                });
                let gone = gone.await.unwrap_or_default();
                disk::remove(gone.iter().map(|asset| app.upload_file(&asset.id))).await;
            });
        }
    }
}

fn names(ids: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    // A list is whole after every change.
    ids.lock().unwrap_or_else(PoisonError::into_inner)
}

fn decoded(field: &str, text: &str) -> Answer<Vec<u8>> {
    STANDARD.decode(text.trim()).map_err(|_| Fault::invalid(field, format!("`{field}` is no base64")))
}

/// The type of a file by its first bytes; of what was probed, there are only these.
fn mime(start: &[u8]) -> &'static str {
    match start {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, ..] => "image/jpeg",
        [b'R', b'I', b'F', b'F', ..] => "image/webp",
        [b'G', b'I', b'F', ..] => "image/gif",
        [b'B', b'M', ..] => "image/bmp",
        [b'I', b'I', ..] | [b'M', b'M', ..] => "image/tiff",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "video/mp4",
        _ => "application/octet-stream",
    }
}

/// An upload.
#[derive(Debug, Serialize, JsonSchema)]
pub struct File {
    /// `file_` and a ULID.
    id: String,
    media: Media,
    /// In pixels.
    width: u32,
    /// In pixels.
    height: u32,
    /// 1 for a picture.
    frames: u32,
    /// Of a clip.
    fps: Option<f64>,
    /// What the client called it.
    name: String,
    bytes: u64,
    /// In milliseconds since 1970.
    created_at: i64,
}

/// A list of uploads, the newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Files {
    files: Vec<File>,
}

/// A form with a picture or clip.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "it is read by hand, while it comes")]
pub struct Form {
    #[schemars(extend("format" = "binary"))]
    file: String,
}

fn view(asset: &Asset) -> File {
    let facts = asset.facts.clone();
    File {
        id: asset.id.clone(),
        media: facts.media,
        width: facts.width,
        height: facts.height,
        frames: facts.frames,
        fps: facts.fps,
        name: facts.name,
        bytes: facts.bytes,
        created_at: asset.created_at,
    }
}

/// `POST /api/files`.
pub async fn create(State(app): State<App>, Extension(caller): Extension<Caller>, request: Request) -> Answer {
    let mut fields = Fields::read(&app, &caller, request).await?;
    let upload = fields.files.remove("file");
    let upload = upload.ok_or_else(|| Fault::invalid("file", "the form has a file in its field `file`"))?;
    fields.used_up()?;
    let brought = Brought::new(&app, &caller);
    let asset = brought.keep(upload).await?;
    brought.stay();
    Ok(super::media::json(StatusCode::CREATED, &view(&asset)))
}

/// `GET /api/files`.
pub async fn list(State(app): State<App>, Extension(caller): Extension<Caller>) -> Answer {
    let found = app.store.read(move |connection| assets::list(connection, &caller.owner, None, 200)).await?;
    let files = found.iter().map(view).collect();
    Ok(super::media::json(StatusCode::OK, &Files { files }))
}

/// `GET /api/files/{id}`.
pub async fn content(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(id): Named<String>,
    request: Request,
) -> Answer {
    let asset = app.store.read(move |connection| assets::get(connection, &caller.owner, &id)).await?;
    let kind = match asset.facts.mime.as_str() {
        "image/png" => "image/png",
        "image/jpeg" => "image/jpeg",
        "image/webp" => "image/webp",
        "image/gif" => "image/gif",
        "video/mp4" => "video/mp4",
        _ => "application/octet-stream",
    };
    super::media::file(&app.upload_file(&asset.id), kind, &format!("\"{}\"", asset.id), None, request).await
}

/// `DELETE /api/files/{id}`.
pub async fn delete(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(id): Named<String>,
) -> Answer<Response> {
    let asset = app.store.write(move |transaction| assets::delete(transaction, &caller.owner, &id)).await?;
    disk::remove([app.upload_file(&asset.id)]).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

//! Files of clips, with ranges.

use crate::app::{App, is_there};
use crate::disk;
use crate::fault::{Answer, Fault};
use crate::store::jobs::{self, Job, Status};
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::path::{Path, PathBuf};
use tower::ServiceExt;
use tower_http::services::ServeFile;

/// A file of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The clip.
    Video,
    /// Its first frame, small.
    Thumbnail,
    /// Its last frame.
    Last,
    /// Frames of the whole clip.
    Sheet,
}

impl Part {
    /// The file's name in the clip's folder; that of the clip is in its result.
    fn file(self) -> Option<&'static str> {
        match self {
            Self::Video => None,
            Self::Thumbnail => Some("thumbnail.png"),
            Self::Last => Some("last.png"),
            Self::Sheet => Some("sheet.png"),
        }
    }
}

/// The clip `id` of the owner.
///
/// # Errors
/// It is not there, or another's.
pub async fn job(app: &App, owner: &str, id: &str) -> Answer<Job> {
    let (owner, id) = (owner.to_string(), id.to_string());
    Ok(app.store.read(move |connection| jobs::get(connection, &owner, &id)).await?)
}

/// The path of a clip that is made.
///
/// # Errors
/// It is not made yet, never will be, or is not kept any more.
pub fn clip_path(app: &App, job: &Job) -> Answer<PathBuf> {
    let file = job.result.as_ref().and_then(|result| result["file"].as_str()).filter(|_| is_there(job));
    let file = file.ok_or_else(|| match job.status {
        Status::Expired => Fault::not_found("video_expired", "the clip is not kept any more"),
        Status::Failed | Status::Cancelled => Fault::not_found("video_failed", "the clip was not made"),
        _ => Fault::not_found("video_not_ready", "the clip is not made yet"),
    })?;
    Ok(app.clip_folder(&job.id).join(file))
}

/// Answers with a file of the clip.
///
/// # Errors
/// As of [`clip_path`], and pictures that cannot be made.
pub async fn serve(app: &App, job: &Job, part: Part, download: bool, request: Request) -> Answer {
    let clip = clip_path(app, job)?;
    let folder = app.clip_folder(&job.id);
    let path = match part.file() {
        None => clip.clone(),
        Some(name) => {
            let path = folder.join(name);
            if !disk::is_file(&path).await {
                app.files.pictures(clip, folder).await?;
            }
            path
        }
    };
    let tag = format!("\"{}-{}-{part:?}\"", job.id, job.attempt).to_lowercase();
    let kind = if part == Part::Video { "video/mp4" } else { "image/png" };
    let name = format!("{}.{}", job.id, if part == Part::Video { "mp4" } else { "png" });
    file(&path, kind, &tag, Some(name).filter(|_| download), request).await
}

/// Answers with a file: ranges, and nothing at all to who has it already.
///
/// # Errors
/// A file that is not there.
pub async fn file(path: &Path, kind: &'static str, tag: &str, download: Option<String>, request: Request) -> Answer {
    let has = |value: &HeaderValue| {
        value.to_str().is_ok_and(|tags| tags.split(',').any(|own| own.trim().trim_start_matches("W/") == tag))
    };
    let tag = HeaderValue::from_str(tag).map_err(|_| Fault::not_found("video_not_found", "the file is not there"))?;
    let mut response = if request.headers().get(IF_NONE_MATCH).is_some_and(has) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let kind = kind.parse().map_err(|_| Fault::not_found("video_not_found", "the file has no type"))?;
        let served = ServeFile::new_with_mime(path, &kind).oneshot(request).await;
        let Ok(served) = served;
        served.map(Body::new)
    };
    if response.status() == StatusCode::NOT_FOUND {
        return Err(Fault::not_found("video_not_found", "the file is not there"));
    }
    let headers = response.headers_mut();
    headers.insert(ETAG, tag);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Some(name) = download {
        let value = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""));
        headers.extend(value.ok().map(|value| (CONTENT_DISPOSITION, value)));
    }
    Ok(response)
}

/// Deletes the files of a clip.
pub async fn remove(app: &App, id: &str) {
    disk::remove([app.clip_folder(id), app.state_folder(id)]).await;
}

/// A response of JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    (status, axum::Json(value)).into_response()
}

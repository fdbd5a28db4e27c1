//! The files of a clip, and what is in them.

use super::media::{self, Part, job, json};
use crate::app::{App, is_there, now};
use crate::fault::{Answer, Fault};
use crate::guard::Caller;
use crate::sent::{Asked, Named};
use crate::store::jobs::Job;
use crate::{disk, link};
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a link to a clip may be used, in milliseconds.
const SHARED: i64 = 7 * 86_400_000;

/// The names of the parts.
pub const PARTS: [&str; 7] = ["video", "thumbnail", "last", "sheet", "preview", "recipe", "link"];

/// The query of a file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// Anything: browsers then save the file.
    download: Option<String>,
    /// Any number: tells the addresses of previews apart.
    #[serde(rename = "n")]
    _number: Option<String>,
}

/// `GET /api/clips/{id}/{file}`.
pub async fn file(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named((id, name)): Named<(String, String)>,
    Asked(query): Asked<Download>,
    request: Request,
) -> Answer {
    let job: Job = job(&app, &caller.owner, &id).await?;
    let part = match name.as_str() {
        "video" => Part::Video,
        "thumbnail" => Part::Thumbnail,
        "last" => Part::Last,
        "sheet" => Part::Sheet,
        "preview" => return preview(&app, &job, request).await,
        "recipe" => return recipe(&app, &job).await,
        "link" => return share(&app, &job),
        _ => return Err(Fault::not_found("not_found", format!("a clip has no `{name}`"))),
    };
    media::serve(&app, &job, part, query.download.is_some(), request).await
}

/// A link with which anyone may read the clip for a time.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Link {
    /// The address; without a public address of the server, its path.
    url: String,
    /// In milliseconds since 1970.
    expires_at: i64,
}

fn share(app: &App, job: &Job) -> Answer {
    media::clip_path(app, job)?;
    let (path, expires) = (format!("/v1/videos/{}/content", job.id), now() + SHARED);
    let query = link::query(&app.secret, &path, &job.owner, expires);
    let begin = app.config.public_url.clone().unwrap_or_default();
    Ok(json(StatusCode::OK, &Link { url: format!("{begin}{path}?{query}"), expires_at: expires }))
}

/// The newest preview of a clip that is being made. Of one that is made, it is its first frame: who saw the clip run may ask late.
async fn preview(app: &App, job: &Job, request: Request) -> Answer {
    if let Ok(bytes) = tokio::fs::read(app.preview_file(&job.id)).await {
        return Ok(([(CONTENT_TYPE, "image/webp"), (CACHE_CONTROL, "no-store")], bytes).into_response());
    }
    // It may have been made since the job was read.
    let job = media::job(app, &job.owner, &job.id).await?;
    if is_there(&job) {
        return media::serve(app, &job, Part::Thumbnail, false, request).await;
    }
    Err(Fault::not_found("no_preview", "there is no preview now"))
}

/// The settings in the clip, with ids in the places of files.
async fn recipe(app: &App, job: &Job) -> Answer {
    let recipe = disk::recipe(media::clip_path(app, job)?).await;
    let recipe = recipe.map_err(|_| Fault::not_found("no_recipe", "the clip has no recipe"))?;
    let recipe = serde_json::to_value(&recipe).map_err(|_| Fault::not_found("no_recipe", "the clip has no recipe"))?;
    Ok(json(StatusCode::OK, &recipe))
}

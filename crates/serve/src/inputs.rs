//! The files of a request's ids: uploads, and clips that were made. What belongs to others is not there.

use crate::app::{App, is_there};
use crate::disk;
use crate::dto::ClipRequest;
use crate::id;
use crate::protocol::Problem;
use crate::store::{assets, jobs};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Finds the files of the ids in `request`. Where a picture is wanted, a clip stands for its last frame.
///
/// # Errors
/// An id that is not the owner's, or a clip that is not finished.
pub async fn files(app: &App, owner: &str, request: &ClipRequest) -> Result<BTreeMap<String, PathBuf>, Problem> {
    let pictures = request.pictures();
    let mut files = BTreeMap::new();
    for own in request.files() {
        let found = if id::is(id::UPLOAD, own) {
            upload(app, owner, own).await
        } else {
            clip(app, owner, own, pictures.contains(own)).await
        };
        files.insert(own.to_string(), found?);
    }
    Ok(files)
}

async fn upload(app: &App, owner: &str, own: &str) -> Result<PathBuf, Problem> {
    let (owner, name) = (owner.to_string(), own.to_string());
    let found = app.store.read(move |connection| assets::get(connection, &owner, &name)).await;
    found.map(|asset| app.upload_file(&asset.id)).map_err(|_| missing(own))
}

async fn clip(app: &App, owner: &str, own: &str, as_picture: bool) -> Result<PathBuf, Problem> {
    let (owner, name) = (owner.to_string(), own.to_string());
    let found = app.store.read(move |connection| jobs::get(connection, &owner, &name)).await;
    let job = found.ok().filter(is_there).ok_or_else(|| missing(own))?;
    let folder = app.clip_folder(&job.id);
    let file = job.result.as_ref().and_then(|result| result["file"].as_str()).unwrap_or_default().to_string();
    if !as_picture {
        return Ok(folder.join(file));
    }
    let last = folder.join("last.png");
    if !disk::is_file(&last).await {
        app.files.pictures(folder.join(file), folder).await?;
    }
    Ok(last)
}

fn missing(own: &str) -> Problem {
    let message = format!("there is no file or finished clip `{own}`");
    Problem { code: "invalid_value".into(), field: None, message }
}

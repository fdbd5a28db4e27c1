//! The known models on the Hugging Face hub: which are in the hub cache, and downloads of others.

use crate::model::repository;
use crate::{Error, Manifest, Result};
use kinora_hub::Hub;
pub use kinora_hub::{Error as HubError, Progress};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Returns the directory of `repository` in the hub cache, if every file that a model needs is there.
pub fn cached(repository: &str) -> Option<PathBuf> {
    let snapshot = Hub::from_environment().ok()?.snapshot(repository)?;
    repository::missing(&snapshot).is_none().then_some(snapshot)
}

/// Downloads the known model `name` and returns its directory, which [`cached`] finds from then on.
///
/// Files that are in the hub cache are not downloaded again, incomplete ones are continued, and a file counts only when
/// its size and hash are those that the hub says. `on_progress` is called every few hundred kilobytes and stops the
/// download with [`ControlFlow::Break`]; the same call continues it.
///
/// # Errors
/// [`Error::UnknownModel`], or [`Error::Hub`] with the error of the hub, the network or the disk.
pub fn pull(name: &str, on_progress: impl FnMut(Progress) -> ControlFlow<()>) -> Result<PathBuf> {
    let manifest = Manifest::known().into_iter().find(|manifest| manifest.name == name);
    let manifest = manifest.ok_or_else(|| Error::UnknownModel {
        name: name.to_string(),
        hint: "`kinora models` lists those that can be downloaded".into(),
    })?;
    let repository = manifest.repository.ok_or_else(|| {
        let page = manifest.page.unwrap_or_default();
        let hint = format!("download the files of {page} and give their directory to --model");
        Error::request(format!("`{name}` is published in another layout, which is not downloaded"), hint)
    })?;
    download(&repository, on_progress)
}

#[cfg(feature = "hub")]
fn download(repository: &str, mut on_progress: impl FnMut(Progress) -> ControlFlow<()>) -> Result<PathBuf> {
    let wanted = kinora_hub::Wanted { select: &repository::select, missing: &repository::missing };
    Ok(Hub::from_environment()?.download(repository, &wanted, &mut on_progress)?)
}

#[cfg(not(feature = "hub"))]
fn download(_repository: &str, _on_progress: impl FnMut(Progress) -> ControlFlow<()>) -> Result<PathBuf> {
    Err(Error::request("this build cannot download", "build it with the feature `hub`"))
}

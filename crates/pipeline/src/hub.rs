//! The known models on the Hugging Face hub: which are in the hub cache, and downloads of others.

use crate::model::given::known_manifest;
use crate::model::repository;
use crate::{Error, Result, families};
use kinora_hub::Hub;
pub use kinora_hub::Progress;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Returns the directory of `repository` in the hub cache, if every file that a model needs is there.
pub fn cached(repository: &str) -> Option<PathBuf> {
    complete(repository).ok()
}

/// Returns the first complete snapshot of `repository` in the hub cache, or what the first of several that are not lacks.
pub(crate) fn complete(repository: &str) -> std::result::Result<PathBuf, Option<String>> {
    let snapshots = Hub::from_environment().map_or(Vec::new(), |hub| hub.snapshots(repository));
    let mut lacking = None;
    for snapshot in snapshots {
        match repository::missing(&snapshot, &families::files()) {
            None => return Ok(snapshot),
            Some(missing) => lacking = lacking.or(Some(missing)),
        }
    }
    Err(lacking)
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
    let manifest = known_manifest(name)?;
    let repository = manifest.repository.ok_or_else(|| {
        let page = manifest.page.unwrap_or_default();
        let hint = format!("download the files of {page}, and give their directory");
        Error::request(format!("`{name}` is published in another layout, which is not downloaded"), hint)
    })?;
    let downloaded = download(&repository, &manifest.family, on_progress);
    // Without the network, the files that are here have to do.
    let here = downloaded.as_ref().err().filter(|error| error.is_offline()).and_then(|_| cached(&repository));
    here.map_or(downloaded, Ok)
}

/// Deletes the known model `name` from the hub cache, where other programs may use it too, and returns the directory and its bytes;
/// `None` if it is not there. `only_tell` deletes nothing.
///
/// # Errors
/// [`Error::UnknownModel`], and a directory that cannot be deleted.
pub fn remove(name: &str, only_tell: bool) -> Result<Option<(PathBuf, u64)>> {
    let manifest = known_manifest(name)?;
    let Some(repository) = manifest.repository else { return Ok(None) };
    Ok(Hub::from_environment()?.remove(&repository, only_tell)?)
}

#[cfg(feature = "hub")]
fn download(
    repository: &str,
    family: &str,
    mut on_progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<PathBuf> {
    let families = families::files();
    let family = families.iter().find(|known| known.name() == family);
    let roles = family.map(|family| family.needs(&[], None)).unwrap_or_default();
    let wanted = kinora_hub::Wanted {
        select: &|names| repository::select(names, &roles),
        missing: &|path| repository::missing(path, &families),
    };
    Ok(Hub::from_environment()?.download(repository, &wanted, &mut on_progress)?)
}

#[cfg(not(feature = "hub"))]
fn download(
    _repository: &str,
    _family: &str,
    _on_progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<PathBuf> {
    Err(Error::request("this build cannot download", "build it with the feature `hub`"))
}

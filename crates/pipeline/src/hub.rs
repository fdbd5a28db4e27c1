//! The known models on the Hugging Face hub: which are in the hub cache, and downloads of others.

use crate::model::given::known_manifest;
use crate::model::manifest::Manifest;
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

/// A licence that has to be accepted before a model is downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Licence {
    /// Its name.
    pub name: String,
    /// What it forbids or wants to be paid for, in one sentence.
    pub limits: Option<String>,
    /// The web page with its text.
    pub page: String,
}

impl Licence {
    /// The licence called `name`, with the sentence about its limits and the page with its text.
    pub fn new(name: impl Into<String>, limits: Option<String>, page: impl Into<String>) -> Self {
        Self { name: name.into(), limits, page: page.into() }
    }

    /// The licence of a gated model, and the repository that it is asked for.
    fn of(manifest: &Manifest) -> Option<(&str, Self)> {
        let repository = manifest.repository.as_deref().filter(|_| manifest.gated)?;
        let (name, limits) = (manifest.licence.clone(), manifest.licence_limits.clone());
        let page = manifest.licence_page.clone().unwrap_or_else(|| format!("https://huggingface.co/{repository}"));
        Some((repository, Self { name, limits, page }))
    }

    fn not_accepted(self, name: &str) -> Error {
        let limits = self.limits.map(|limits| format!(": {limits}")).unwrap_or_default();
        let what = format!("the licence of `{name}` ({}) was not accepted{limits}", self.name);
        let hint = format!("read {}, and accept it if you agree", self.page);
        Error::request(what, hint).about(&["accept_licence"])
    }
}

/// Returns the licence that [`pull`] wants to be accepted before it downloads the known model `name`; `None` if there is none, or
/// it was accepted on this machine.
///
/// # Errors
/// [`Error::UnknownModel`], and a cache of the hub that is not known.
pub fn licence_to_accept(name: &str) -> Result<Option<Licence>> {
    let manifest = known_manifest(name)?;
    let Some((repository, licence)) = Licence::of(&manifest) else { return Ok(None) };
    let accepted = Hub::from_environment()?.has_accepted(repository, &licence.name);
    Ok((!accepted).then_some(licence))
}

/// Writes down in the hub cache that the licence of the known model `name` is accepted.
///
/// # Errors
/// [`Error::UnknownModel`], and a cache that cannot be written.
pub fn accept_licence(name: &str) -> Result<()> {
    let manifest = known_manifest(name)?;
    match Licence::of(&manifest) {
        Some((repository, licence)) => Ok(Hub::from_environment()?.accept(repository, &licence.name)?),
        None => Ok(()),
    }
}

/// Downloads the known model `name` and returns its directory, which [`cached`] finds from then on.
///
/// Files that are in the hub cache are not downloaded again, incomplete ones are continued, and a file counts only when
/// its size and hash are those that the hub says. `on_progress` is called every few hundred kilobytes and stops the
/// download with [`ControlFlow::Break`]; the same call continues it.
///
/// # Errors
/// [`Error::UnknownModel`], [`Error::Request`] for a licence that was not accepted ([`accept_licence`]), or [`Error::Hub`] with the
/// error of the hub, the network or the disk.
pub fn pull(name: &str, on_progress: impl FnMut(Progress) -> ControlFlow<()>) -> Result<PathBuf> {
    let manifest = known_manifest(name)?;
    let repository = manifest.repository.ok_or_else(|| {
        let page = manifest.page.unwrap_or_default();
        let hint = format!("download the files of {page}, and give their directory");
        Error::request(format!("`{name}` is published in another layout, which is not downloaded"), hint)
    })?;
    if let Some(licence) = licence_to_accept(name)? {
        return Err(licence.not_accepted(name));
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use kinora_models::MANIFESTS;

    #[test]
    fn only_gated_models_have_a_licence_to_accept() {
        let manifest: Manifest = toml::from_str(MANIFESTS[0]).expect("it is compiled in");
        assert_eq!(Licence::of(&manifest), None);
        let limits = Some("companies pay".to_string());
        let gated = Manifest { gated: true, repository: Some("a/b".into()), licence_limits: limits, ..manifest };
        let (repository, licence) = Licence::of(&gated).expect("a licence");
        assert_eq!((repository, licence.page.as_str()), ("a/b", "https://huggingface.co/a/b"));
        let page = Manifest { licence_page: Some("https://c".into()), ..gated.clone() };
        assert_eq!(Licence::of(&page).map(|(_, licence)| licence.page).as_deref(), Some("https://c"));
        let elsewhere = Manifest { repository: None, ..gated };
        assert_eq!(Licence::of(&elsewhere), None, "nothing is downloaded");

        let error = licence.not_accepted("m");
        assert_eq!(error.to_string(), "the licence of `m` (Apache-2.0) was not accepted: companies pay");
        assert_eq!(error.hint().as_deref(), Some("read https://huggingface.co/a/b, and accept it if you agree"));
        assert_eq!(error.settings(), ["accept_licence"]);
    }

    #[test]
    fn models_without_a_gate_are_not_asked_for() {
        for manifest in Manifest::known().iter().filter(|manifest| !manifest.gated) {
            assert_eq!(licence_to_accept(&manifest.name).expect("a known name"), None);
            accept_licence(&manifest.name).expect("nothing to do");
        }
        assert!(matches!(licence_to_accept("no-such-model"), Err(Error::UnknownModel { .. })));
    }
}

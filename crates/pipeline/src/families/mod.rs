//! Model families: the files that are theirs, and the components that they build.
//!
//! A family is a folder here plus one line in [`FAMILIES`].

pub(crate) mod capabilities;
pub(crate) mod family;
mod ltx;
mod wan;

use crate::model::Model;
use crate::model::family_files::FamilyFiles;
use crate::model::find::{self, Found};
use crate::{Error, Result, hub};
use capabilities::Limits;
use family::Family;
pub(crate) use ltx::Ltx;
use std::path::Path;

/// Every family that the library knows.
pub(crate) static FAMILIES: &[&dyn Family] = &[&wan::Wan, &Ltx];

/// The families, as far as they know files.
pub(crate) fn files() -> Vec<&'static dyn FamilyFiles> {
    FAMILIES.iter().map(|family| *family as &dyn FamilyFiles).collect()
}

/// Finds the files that `argument` names: the embedded model, a known name, a directory, or single files.
///
/// # Errors
/// Nothing is there, or nothing that looks like weights; JSON files that cannot be read.
pub(crate) fn find_files(argument: &[impl AsRef<Path>]) -> Result<Found> {
    find::find(argument, &files(), &hub::complete)
}

/// Finds the model that `argument` names.
///
/// # Errors
/// As in [`find_files`], and [`Error::NotAModel`] with what is missing or odd.
pub(crate) fn find_model(argument: &[String]) -> Result<Model> {
    let mut model = Model::of(find_files(argument)?, &files(), &hub::complete)?;
    model.argument = argument.to_vec();
    Ok(model)
}

/// Returns the architecture of the known variant `name`, with random weights.
///
/// # Errors
/// [`Error::UnknownModel`].
pub(crate) fn random_model(name: &str) -> Result<Model> {
    Model::random(name, &files())
}

/// Whether `name` is that of a known variant whose files are not on this machine.
pub(crate) fn is_known_only(name: &str) -> bool {
    let cached = |repository: String| hub::cached(&repository).is_some();
    !Path::new(name).exists()
        && crate::model::given::known_manifest(name).is_ok_and(|manifest| !manifest.repository.is_some_and(cached))
}

/// The family of `model`, its limits and what the user should know of it, after everything that a run will open was opened and checked: weights by their
/// headers, tokenizer and configurations.
///
/// # Errors
/// The first thing that cannot be used.
pub(crate) fn checked(model: &Model) -> Result<(&'static dyn Family, Limits, Vec<String>)> {
    let family = family_of(model)?;
    let limits = family.limits(model)?;
    family.check(model)?;
    Ok((family, limits, model.notices()?))
}

/// The family of `model`.
pub(crate) fn family_of(model: &Model) -> Result<&'static dyn Family> {
    let name = &model.manifest.family;
    let known = FAMILIES.iter().copied().find(|family| family.name() == name);
    known.ok_or_else(|| Error::NotAModel {
        path: model.place.clone(),
        reason: format!("its family `{name}` is not known"),
    })
}

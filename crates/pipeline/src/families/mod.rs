//! Model families: the files that are theirs, and the components that they build.
//!
//! A family is a folder here plus one line in [`FAMILIES`].

pub(crate) mod capabilities;
pub(crate) mod family;
pub(crate) mod manifests;
mod wan;

use crate::model::source::Model;
use crate::{Error, Result};
use family::Family;

/// Every family that the library knows.
pub(crate) static FAMILIES: &[&dyn Family] = &[&wan::Wan];

/// What a single file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Transformer,
    Vae,
    TextEncoder,
    ImageEncoder,
}

impl Role {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Transformer, Self::Vae, Self::TextEncoder, Self::ImageEncoder];

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Transformer => "transformer",
            Self::Vae => "VAE",
            Self::TextEncoder => "text encoder",
            Self::ImageEncoder => "image encoder",
        }
    }
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

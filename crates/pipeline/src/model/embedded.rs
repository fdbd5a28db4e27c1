//! The model that is compiled into the library, a diffusers directory: `models/embedded/`.

use crate::model::component::Blob;

/// The model's name.
pub(crate) const EMBEDDED: &str = "embedded";

#[cfg(feature = "embedded")]
use kinora_embedded::FILES;

/// This build has no embedded model.
#[cfg(not(feature = "embedded"))]
static FILES: &[(&str, &[u8])] = &[];

/// The file `name` of the embedded model.
pub(crate) fn file(name: &str) -> Option<Blob> {
    FILES.iter().find(|(known, _)| *known == name).map(|(name, bytes)| Blob::Static(name, bytes))
}

/// The paths of the embedded model's files.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

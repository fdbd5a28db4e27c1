//! Paths in recipes, stories, run directories and reports: as text, from which the same path is read back, whatever its
//! bytes are ([`kinora_files::path_text`]). For `#[serde(with = "path_text")]`.

use kinora_camera::Camera;
use kinora_files::{path_of_text, path_text};
use kinora_media::Source;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::PathBuf;

/// One or several paths.
pub(crate) trait Paths: Sized {
    /// What is written.
    type Text: Serialize + DeserializeOwned;

    /// Returns what is written.
    fn text(&self) -> Self::Text;

    /// Returns what was written so.
    fn of_text(text: Self::Text) -> Self;
}

/// Serialises paths as text.
pub(crate) fn serialize<P: Paths, S: Serializer>(paths: &P, serializer: S) -> Result<S::Ok, S::Error> {
    paths.text().serialize(serializer)
}

/// Reads what [`serialize`] wrote.
pub(crate) fn deserialize<'de, P: Paths, D: Deserializer<'de>>(deserializer: D) -> Result<P, D::Error> {
    P::Text::deserialize(deserializer).map(P::of_text)
}

impl Paths for PathBuf {
    type Text = String;

    fn text(&self) -> String {
        path_text(self)
    }

    fn of_text(text: String) -> Self {
        path_of_text(&text)
    }
}

impl<P: Paths> Paths for Option<P> {
    type Text = Option<P::Text>;

    fn text(&self) -> Self::Text {
        self.as_ref().map(P::text)
    }

    fn of_text(text: Self::Text) -> Self {
        text.map(P::of_text)
    }
}

impl<P: Paths> Paths for Vec<P> {
    type Text = Vec<P::Text>;

    fn text(&self) -> Self::Text {
        self.iter().map(P::text).collect()
    }

    fn of_text(text: Self::Text) -> Self {
        text.into_iter().map(P::of_text).collect()
    }
}

/// A path with something about it.
impl Paths for (PathBuf, String) {
    type Text = (String, String);

    fn text(&self) -> Self::Text {
        (path_text(&self.0), self.1.clone())
    }

    fn of_text((path, about): Self::Text) -> Self {
        (path_of_text(&path), about)
    }
}

/// A path, or the hash of what is in memory.
impl Paths for Source {
    type Text = String;

    fn text(&self) -> String {
        self.text()
    }

    fn of_text(text: String) -> Self {
        Self::of_text(&text)
    }
}

/// A camera may be a path.
impl Paths for Camera {
    type Text = Camera;

    fn text(&self) -> Camera {
        match self {
            Self::Path(path) => Self::Path(path_text(path).into()),
            other => other.clone(),
        }
    }

    fn of_text(text: Camera) -> Self {
        match text {
            Self::Path(path) => Self::Path(path_of_text(&path.to_string_lossy())),
            other => other,
        }
    }
}

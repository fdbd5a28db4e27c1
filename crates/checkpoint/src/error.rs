//! What can go wrong between a file and a tensor.

/// Result of loading.
pub type Result<T> = std::result::Result<T, Error>;

/// A loading error, with the values in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint has no tensor of that name.
    #[error("tensor `{name}` is missing{}", .similar.as_ref().map(|s| format!("; did you mean `{s}`?")).unwrap_or_default())]
    Missing {
        /// The canonical name that was asked for.
        name: String,
        /// The closest name that is there.
        similar: Option<String>,
    },
    /// The tensor has another shape than the model needs.
    #[error("tensor `{name}` has shape {found:?}, the model needs {expected:?}")]
    Shape {
        /// The canonical name.
        name: String,
        /// Shape in the checkpoint.
        found: Vec<usize>,
        /// Shape that the model's configuration asks for.
        expected: Vec<usize>,
    },
    /// Tensors that no module asked for.
    #[error("{} tensors were not used, the first is `{}`", .names.len(), .names.first().map_or("", String::as_str))]
    Unused {
        /// Their names, sorted.
        names: Vec<String>,
    },
    /// candle failed on it.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

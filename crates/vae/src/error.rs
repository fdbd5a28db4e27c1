//! Errors of autoencoders.

/// Result of building or running an autoencoder.
pub type Result<T> = std::result::Result<T, Error>;

/// An autoencoder's error, with the values in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is not JSON of the expected form.
    #[error("the VAE's config.json cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The configuration describes no autoencoder that can be built.
    #[error("the VAE's `{field}` {problem}")]
    Config {
        /// The field of config.json.
        field: &'static str,
        /// A verb and the field's value.
        problem: String,
    },
    /// An input has the wrong shape.
    #[error("{what} have shape {found:?}, the VAE needs {expected}")]
    Shape {
        /// The input's name.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it must have.
        expected: String,
    },
    /// A half that was not asked for when the autoencoder was built.
    #[error("the VAE was loaded without its {part}")]
    NotLoaded {
        /// `encoder` or `decoder`.
        part: &'static str,
    },
    /// A parameter is missing or misshapen.
    #[error(transparent)]
    Checkpoint(#[from] kinora_checkpoint::Error),
    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

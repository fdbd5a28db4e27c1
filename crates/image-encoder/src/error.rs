//! Errors of image encoders.

/// Result of building or running an image encoder.
pub type Result<T> = std::result::Result<T, Error>;

/// An image encoder's error, with the values in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration is not JSON of the expected form.
    #[error("the image encoder's configuration cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A configuration describes what cannot be computed.
    #[error("the image encoder's `{field}` {problem}")]
    Config {
        /// The field of config.json or `preprocessor_config.json`.
        field: &'static str,
        /// A verb and the field's value.
        problem: String,
    },
    /// An input has the wrong shape.
    #[error("{what} have shape {found:?}, the image encoder needs {expected}")]
    Shape {
        /// The input's name.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it must have.
        expected: String,
    },
    /// A parameter is missing or misshapen.
    #[error(transparent)]
    Checkpoint(#[from] kinora_checkpoint::Error),
    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// A configuration error unless `value` is in `low..=high`.
pub(crate) fn within(field: &'static str, value: usize, low: usize, high: usize) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let range = if low == high { format!("{low}") } else { format!("{low} to {high}") };
    wrong(field, format!("is {value}, must be {range}"))
}

/// A configuration error.
pub(crate) fn wrong<T>(field: &'static str, problem: String) -> Result<T> {
    Err(Error::Config { field, problem })
}

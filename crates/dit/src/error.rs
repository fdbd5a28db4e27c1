//! What can go wrong in a transformer, from its configuration to its input.

/// Result of building or running a transformer.
pub type Result<T> = std::result::Result<T, Error>;

/// A transformer's error, with the values in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is not JSON of the expected form.
    #[error("the transformer's config.json cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The configuration asks for something that this implementation does not compute.
    #[error("the transformer's `{field}` is {value}, which is not supported")]
    Unsupported {
        /// The field of config.json, or the tensor that gives it away.
        field: String,
        /// Its value.
        value: String,
    },
    /// The configuration describes no transformer.
    #[error("the transformer's `{field}` {problem}")]
    Config {
        /// The field of config.json.
        field: &'static str,
        /// What is wrong with it, with its value.
        problem: String,
    },
    /// The configuration cannot be told from the checkpoint's tensors.
    #[error("the transformer's configuration cannot be told from its tensors: {problem}")]
    Infer {
        /// What is missing or ambiguous.
        problem: String,
    },
    /// An input has the wrong shape.
    #[error("{what}: shape {found:?}, expected {expected}")]
    Shape {
        /// Which input.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// What the model needs.
        expected: String,
    },
    /// The model cannot do without something that it is not given.
    #[error("the transformer needs {what}, and there is none")]
    Missing {
        /// What it needs.
        what: &'static str,
    },
    /// The model is given something that it cannot follow.
    #[error("the transformer cannot follow {what}")]
    Unused {
        /// What it is given.
        what: &'static str,
    },
    /// A conditioning that a model of another type prepared.
    #[error("the prepared conditioning belongs to another transformer")]
    Foreign,
    /// Loading failed.
    #[error(transparent)]
    Checkpoint(#[from] kinora_checkpoint::Error),
    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

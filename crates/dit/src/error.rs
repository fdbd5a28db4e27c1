//! Errors of transformers, from the configuration to the inputs.

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
        /// A verb and the field's value.
        problem: String,
    },
    /// The configuration cannot be told from the checkpoint's tensors.
    #[error("the transformer's configuration cannot be told from its tensors: {problem}")]
    Infer {
        /// A sentence about what is missing or ambiguous.
        problem: String,
    },
    /// An input has the wrong shape.
    #[error("{what}: shape {found:?}, expected {expected}")]
    Shape {
        /// The input's name.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that the model needs.
        expected: String,
    },
    /// An input is a number that makes no sense.
    #[error("the {what} is {found}, expected {expected}")]
    Number {
        /// The input's name.
        what: &'static str,
        /// Its value.
        found: f64,
        /// What it has to be.
        expected: &'static str,
    },
    /// A pass is to leave out parts of a block that there is not.
    #[error("there is no block {block} to leave attentions out of, the transformer has {blocks}, from 0 on")]
    NoBlock {
        /// The block's index.
        block: usize,
        /// The number of blocks.
        blocks: usize,
    },
    /// A conditioning input that the model needs is missing.
    #[error("the transformer needs {what}, but there are none")]
    Missing {
        /// The input's name, a plural.
        what: &'static str,
    },
    /// The model has no use for a conditioning input.
    #[error("the transformer takes no {what}")]
    Unused {
        /// The input's name, a plural.
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

//! Errors of the networks for sound.

/// Result of building or running a network for sound.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a network for sound, with the values in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration is not JSON of the expected form.
    #[error("the {part}'s configuration cannot be read: {source}")]
    Json {
        /// `audio VAE` or `vocoder`.
        part: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A configuration describes no network that can be built.
    #[error("the {part}'s `{field}` {problem}")]
    Config {
        /// `audio VAE` or `vocoder`.
        part: &'static str,
        /// The field of the configuration.
        field: &'static str,
        /// A verb and the field's value.
        problem: String,
    },
    /// The tensors of a file are none of a network that is known.
    #[error("the {part}'s configuration cannot be told from its tensors: {problem}")]
    Infer {
        /// `audio VAE` or `vocoder`.
        part: &'static str,
        /// A sentence with the tensor's name.
        problem: String,
    },
    /// An input has the wrong shape.
    #[error("the shape of {what} is {found:?}, must be {expected}")]
    Shape {
        /// The input's name.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it must have.
        expected: String,
    },
    /// A sample rate that cannot be converted.
    #[error("sound at {rate} samples a second cannot be resampled")]
    Rate {
        /// The rate in samples a second.
        rate: usize,
    },
    /// A half that was not asked for when the autoencoder was built.
    #[error("the audio VAE was loaded without its {part}")]
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

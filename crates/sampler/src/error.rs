//! What can go wrong while sampling, with the values in it and what to do about it.

use crate::{MAX_STEPS, SamplerKind};

/// A sampling error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No sampler has that name.
    #[error("unknown sampler `{name}`{}", .similar.map(|s| format!("; did you mean `{s}`?")).unwrap_or_default())]
    UnknownSampler {
        /// The name that was asked for.
        name: String,
        /// The closest sampler.
        similar: Option<SamplerKind>,
    },
    /// A schedule of no steps or of too many.
    #[error("a schedule has 1 to {MAX_STEPS} steps, not {steps}")]
    Steps {
        /// The number of steps that was asked for.
        steps: usize,
    },
    /// The shift is not a positive, finite number.
    #[error("the shift is a positive number, not {shift}")]
    Shift {
        /// The shift that was asked for.
        shift: f64,
    },
    /// A noise level outside (0, 1].
    #[error("sigma {index} is {sigma}; noise levels are in (0, 1]")]
    SigmaRange {
        /// Its place in the list, from 0.
        index: usize,
        /// The noise level.
        sigma: f64,
    },
    /// Noise levels that do not fall.
    #[error("sigma {index} is {sigma}, not below {previous}, the one before it")]
    SigmaOrder {
        /// The place of the second of the two in the list, from 0.
        index: usize,
        /// The noise level before it.
        previous: f64,
        /// The noise level.
        sigma: f64,
    },
    /// A timestep outside 0..=1000.
    #[error("timestep {index} is {timestep}; timesteps are in 0..=1000")]
    TimestepRange {
        /// Its place in the list, from 0.
        index: usize,
        /// The timestep.
        timestep: f64,
    },
    /// A schedule read from a file whose parts do not fit together.
    #[error("a schedule of {timesteps} timesteps needs {} sigmas with a final 0, got {sigmas}, the last {last}", .timesteps + 1)]
    ScheduleParts {
        /// Number of sigmas.
        sigmas: usize,
        /// Number of timesteps.
        timesteps: usize,
        /// The last sigma; NaN where there is none.
        last: f64,
    },
    /// A step was asked for after the last one.
    #[error("all {steps} steps are done")]
    Done {
        /// The number of steps of the schedule.
        steps: usize,
    },
    /// There is no stream, or two have the same name.
    #[error("latent streams need distinct names, at least one; got {names:?}")]
    StreamNames {
        /// The names.
        names: Vec<String>,
    },
    /// There is no stream of that name.
    #[error("there is no latent stream `{name}`, only {names:?}")]
    NoStream {
        /// The name that was asked for.
        name: String,
        /// The names of the streams.
        names: Vec<String>,
    },
    /// Predictions or estimates are of other streams than the latents.
    #[error("{what} has the streams {found:?}, expected {expected:?}")]
    OtherStreams {
        /// Which streams.
        what: String,
        /// Their names.
        found: Vec<String>,
        /// The names that they should have.
        expected: Vec<String>,
    },
    /// A prediction or an estimate has another shape than the latents.
    #[error("{what} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Which tensor.
        what: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// NaN or infinity in a tensor.
    #[error("NaN or infinity in {what}")]
    NotFinite {
        /// Which tensor.
        what: String,
    },
    /// A saved state whose step lies outside its schedule.
    #[error("the saved state is at step {index} of a schedule of {steps} steps")]
    StateIndex {
        /// Steps done, as saved.
        index: usize,
        /// Steps of the saved schedule.
        steps: usize,
    },
    /// A saved state whose tensors are not those that its sampler keeps at its step.
    #[error("the saved state of `{kind}` after {index} steps needs the tensors {expected:?}, got {found:?}")]
    StateTensors {
        /// The sampler.
        kind: SamplerKind,
        /// Steps done.
        index: usize,
        /// Names that belong there.
        expected: Vec<String>,
        /// Names that are there.
        found: Vec<String>,
    },
    /// candle failed on it.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// What the user can do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::UnknownSampler { .. } => {
                let names: Vec<&str> = SamplerKind::ALL.iter().map(|kind| kind.name()).collect();
                format!("samplers are {}", names.join(", "))
            }
            Error::Steps { .. } => "20 to 50 steps are usual, 4 to 8 for distilled models".into(),
            Error::Shift { .. } => "3 suits small sizes, 5 suits 720p".into(),
            Error::SigmaRange { .. } | Error::SigmaOrder { .. } => {
                "list noise levels from high to low, such as 1,0.9375,0.8333,0.625; a very large shift makes them coincide"
                    .into()
            }
            Error::TimestepRange { .. } => "list timesteps from high to low, such as 1000,937.5,833.3,625".into(),
            Error::NotFinite { .. } => {
                "the weights may be damaged, or f16 too narrow, in which GPUs run the VAE too: f32 takes all numbers".into()
            }
            Error::ScheduleParts { .. } | Error::StateIndex { .. } | Error::StateTensors { .. } => {
                "the saved state is damaged or of another run; start without it".into()
            }
            Error::Done { .. }
            | Error::StreamNames { .. }
            | Error::NoStream { .. }
            | Error::OtherStreams { .. }
            | Error::Shape { .. }
            | Error::Candle(_) => return None,
        };
        Some(hint)
    }
}

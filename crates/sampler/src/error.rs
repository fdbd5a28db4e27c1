//! Sampling errors, with the values that caused them and a hint for the user.

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
    /// A schedule has no steps or too many.
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
    /// The noise level that a schedule is stretched to is not between 0 and 1.
    #[error("a schedule ends between 0 and 1, not at {terminal}")]
    Terminal {
        /// The noise level.
        terminal: f64,
    },
    /// A noise level lies outside (0, 1].
    #[error("sigma {index} is {}; noise levels are in (0, 1]", *.sigma as f32)]
    SigmaRange {
        /// Its index in the list, from 0.
        index: usize,
        /// The noise level.
        sigma: f64,
    },
    /// The noise levels do not fall.
    #[error("sigma {index} is {}, not below {}, the one before it", *.sigma as f32, *.previous as f32)]
    SigmaOrder {
        /// The index of the second of the two in the list, from 0.
        index: usize,
        /// The noise level before it.
        previous: f64,
        /// The noise level.
        sigma: f64,
    },
    /// A timestep lies outside 0..=1000.
    #[error("timestep {index} is {timestep}; timesteps are in 0..=1000")]
    TimestepRange {
        /// Its index in the list, from 0.
        index: usize,
        /// The timestep.
        timestep: f64,
    },
    /// The parts of a schedule that was read from a file do not fit together.
    #[error("a schedule of {timesteps} timesteps needs {} sigmas with a final 0, got {sigmas}, the last {last}", .timesteps + 1)]
    ScheduleParts {
        /// Number of sigmas.
        sigmas: usize,
        /// Number of timesteps.
        timesteps: usize,
        /// The last sigma; NaN if there is none.
        last: f64,
    },
    /// A step was asked for after the last one.
    #[error("all {steps} steps are done")]
    Done {
        /// The number of steps of the schedule.
        steps: usize,
    },
    /// There is no stream, or two streams have the same name.
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
        /// The description of the streams.
        what: String,
        /// Their names.
        found: Vec<String>,
        /// The names that they should have.
        expected: Vec<String>,
    },
    /// A prediction or an estimate differs in shape from the latents.
    #[error("{what} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor's description.
        what: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// A tensor contains NaN or infinity.
    #[error("NaN or infinity in {what}")]
    NotFinite {
        /// The tensor's description.
        what: String,
    },
    /// The step of a saved state lies outside its schedule.
    #[error("the saved state is at step {index} of a schedule of {steps} steps")]
    StateIndex {
        /// The number of steps done, as saved.
        index: usize,
        /// The number of steps of the saved schedule.
        steps: usize,
    },
    /// The tensors of a saved state differ from those that its sampler keeps at that step.
    #[error("the saved state of `{kind}` after {index} steps needs the tensors {expected:?}, got {found:?}")]
    StateTensors {
        /// The sampler.
        kind: SamplerKind,
        /// The number of steps done.
        index: usize,
        /// The names that the sampler keeps.
        expected: Vec<String>,
        /// The names that were found.
        found: Vec<String>,
    },
    /// An operation of candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// Returns what the user can do about the error, if there is something to do.
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
                "the weights may be damaged, or a value exceeds the range of f16 (the VAE's dtype on GPUs): try f32 for everything".into()
            }
            Error::ScheduleParts { .. } | Error::StateIndex { .. } | Error::StateTensors { .. } => {
                "the saved state is damaged or of another run; start without it".into()
            }
            Error::Done { .. }
            | Error::Terminal { .. }
            | Error::StreamNames { .. }
            | Error::NoStream { .. }
            | Error::OtherStreams { .. }
            | Error::Shape { .. }
            | Error::Candle(_) => return None,
        };
        Some(hint)
    }
}

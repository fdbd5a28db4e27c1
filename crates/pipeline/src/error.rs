//! [`Error`]: the library's errors, with the values that are wrong, and hints.
//!
//! No variant has a type of another crate in it, so that they stay as they are when those change. Hints speak of what is to be
//! given, not of how a program takes it: [`Error::settings`] names the fields, for a command line that adds its options.

use kinora_hub::Error as HubError;
use kinora_media::MediaError;
use std::error::Error as StdError;
use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Result of the library's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Names of settings, as the fields of requests and load options are called.
pub(crate) type Settings = &'static [&'static str];

/// Everything that can go wrong between a request and a clip.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of the request is out of range or contradicts another.
    #[error("{what}")]
    #[non_exhaustive]
    Request {
        /// The sentence that says what is wrong, with the value.
        what: String,
        /// The hint.
        hint: String,
        /// The settings that the hint speaks of.
        settings: &'static [&'static str],
    },
    /// No such model.
    #[error("there is no model `{name}`")]
    UnknownModel {
        /// The name that was asked for.
        name: String,
        /// The names and places that were tried.
        hint: String,
    },
    /// A known model that is not on this machine.
    #[error("there is no model `{name}` on this machine, only its manifest: `{title}`")]
    NotHere {
        /// Its name.
        name: String,
        /// What it is.
        title: String,
        /// The file that its download lacks, where there is one.
        lacking: Option<String>,
    },
    /// Files were found, but they do not make a model.
    #[error("`{}` is not a usable model: {reason}", path.display())]
    NotAModel {
        /// Directory or file.
        path: PathBuf,
        /// The part that is missing or wrong.
        reason: String,
    },
    /// A file that is there cannot be used.
    #[error("cannot use `{}`: {reason}", path.display())]
    #[non_exhaustive]
    BadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
        /// The hint.
        hint: &'static str,
        /// The settings that the hint speaks of.
        settings: &'static [&'static str],
    },
    /// The operating system refused to read or write.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A component of the model did not load.
    #[error("the {component} did not load: {source}")]
    Component {
        /// `text encoder`, `transformer`, `VAE`.
        component: &'static str,
        /// Why.
        source: Cause,
    },
    /// The caller's event handler asked to stop.
    #[error("stopped on request")]
    Stopped {
        /// The directory from which it can be continued.
        resumable: Option<PathBuf>,
    },
    /// The caller's event handler asked to stop in the middle of a story.
    #[error("stopped on request")]
    StoryStopped {
        /// The directory from which it can be continued.
        project: PathBuf,
    },
    /// The directory of an interrupted run belongs to another request.
    #[error("`{}` holds a run of another request: {difference}", path.display())]
    ResumeMismatch {
        /// The directory.
        path: PathBuf,
        /// The first setting that differs.
        difference: String,
    },
    /// The files of an interrupted run cannot be used.
    #[error("cannot continue the run in `{}`: {reason}", path.display())]
    BadRun {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Decoding failed or was stopped; the denoised latents are on disk.
    #[error("{source}")]
    AfterLatents {
        /// The error of decoding.
        source: Box<Error>,
        /// Where the latents are.
        latents: PathBuf,
        /// The names or files of the model.
        model: Vec<String>,
    },
    /// Tokenizing or encoding the prompt.
    #[error(transparent)]
    Text(Cause),
    /// A network: transformer, image encoder or VAE.
    #[error(transparent)]
    Network(Cause),
    /// Schedules and samplers.
    #[error(transparent)]
    Sampler(Cause),
    /// Reading or writing pictures and clips.
    #[error(transparent)]
    Media(Cause),
    /// Reading or writing tensors.
    #[error(transparent)]
    Weights(Cause),
    /// Downloading from the hub.
    #[error(transparent)]
    Hub(Cause),
    /// A camera, its pose file or its rays.
    #[error(transparent)]
    Camera(Cause),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(Cause),
}

/// An error of a part of the library: its words, its hint, and the errors behind it as [`source`](StdError::source).
pub struct Cause {
    error: Box<dyn StdError + Send + Sync>,
    hint: Option<String>,
}

impl Cause {
    fn new(error: impl StdError + Send + Sync + 'static, hint: Option<String>) -> Self {
        Self { error: Box::new(error), hint }
    }

    /// A sentence on how to mend it, where there is one.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

impl Error {
    /// An error of a request, with the sentence that says what is wrong and a hint.
    pub fn request(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Request { what: what.into(), hint: hint.into(), settings: &[] }
    }

    /// An error of a file that is there and cannot be used.
    pub fn bad_file(path: impl Into<PathBuf>, reason: impl Into<String>, hint: &'static str) -> Self {
        Self::BadFile { path: path.into(), reason: reason.into(), hint, settings: &[] }
    }

    /// An error of a component that does not load.
    pub(crate) fn component(component: &'static str, source: kinora_checkpoint::Error) -> Self {
        let hint = source.hint();
        Self::Component { component, source: Cause::new(source, hint) }
    }

    /// The same with the settings that its hint speaks of.
    #[must_use]
    pub(crate) fn about(mut self, about: Settings) -> Self {
        if let Self::Request { settings, .. } | Self::BadFile { settings, .. } = &mut self {
            *settings = about;
        }
        self
    }

    /// Whether the run ended because the caller's event handler asked for it.
    pub fn is_stop(&self) -> bool {
        match self {
            Self::Stopped { .. } | Self::StoryStopped { .. } => true,
            Self::Hub(cause) => matches!(cause.error.downcast_ref(), Some(HubError::Stopped)),
            Self::AfterLatents { source, .. } => source.is_stop(),
            _ => false,
        }
    }

    /// Whether nothing was downloaded because the user does not want the network to be used.
    pub(crate) fn is_offline(&self) -> bool {
        matches!(self, Self::Hub(cause) if matches!(cause.error.downcast_ref(), Some(HubError::Offline { .. })))
    }

    /// Whether a disk, or a quota on it, is full.
    pub fn is_full_disk(&self) -> bool {
        let of_media = |cause: &Cause| matches!(cause.error.downcast_ref(), Some(MediaError::DiskFull { .. }));
        match self {
            Self::Media(cause) if of_media(cause) => return true,
            Self::AfterLatents { source, .. } => return source.is_full_disk(),
            _ => {}
        }
        let mut cause = self.source();
        while let Some(error) = cause {
            let io = error.downcast_ref::<std::io::Error>();
            if io.is_some_and(|error| matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)) {
                return true;
            }
            cause = error.source();
        }
        // Some libraries keep only the text of the system's error.
        self.to_string().contains("No space left on device")
    }

    /// The names of the settings that the hint speaks of, as the fields of requests and load options are called.
    pub fn settings(&self) -> &'static [&'static str] {
        match self {
            Self::Request { settings, .. } | Self::BadFile { settings, .. } => settings,
            Self::AfterLatents { source, .. } => source.settings(),
            Self::Stopped { resumable: None } => &["resume"],
            _ => &[],
        }
    }

    /// A sentence on how to mend it, where there is one. Programs that people use by other means than this library's types may add
    /// the names that they have for [`Error::settings`].
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Request { hint, .. } | Self::UnknownModel { hint, .. } => Some(hint.clone()),
            Self::NotHere { lacking, .. } => {
                let lacking = lacking.as_ref().map(|file| format!(": its download lacks {file}"));
                Some(format!("download it, or give the directory where it is{}", lacking.unwrap_or_default()))
            }
            Self::NotAModel { .. } => Some("inspect it to see what is there".into()),
            Self::Stopped { resumable: Some(dir) } => {
                Some(format!("the same request continues from `{}`", dir.display()))
            }
            Self::Stopped { resumable: None } => Some(
                "nothing was written; a run that keeps its state in a directory can be stopped and continued".into(),
            ),
            Self::StoryStopped { project } => {
                Some(format!("the same request continues; what is done is kept in `{}`", project.display()))
            }
            Self::ResumeMismatch { path, .. } => Some(format!(
                "repeat the first request, or delete `{}` or name another directory to start anew",
                path.display()
            )),
            Self::BadRun { .. } => Some("delete that directory to start anew, or name another one".into()),
            Self::AfterLatents { source, latents, .. } => {
                let first = source.hint().filter(|_| !source.is_stop()).map(|hint| format!("{hint}; "));
                let latents = latents.display();
                Some(format!(
                    "{}nothing is lost: the denoised latents in `{latents}` can be decoded",
                    first.unwrap_or_default()
                ))
            }
            Self::Io { source, .. } => Some(io_hint(source.kind()).into()),
            Self::BadFile { hint, .. } => Some((*hint).into()),
            Self::Component { source: cause, .. }
            | Self::Text(cause)
            | Self::Network(cause)
            | Self::Sampler(cause)
            | Self::Media(cause)
            | Self::Weights(cause)
            | Self::Hub(cause)
            | Self::Camera(cause)
            | Self::Tensor(cause) => cause.hint.clone(),
        }
    }
}

fn io_hint(kind: ErrorKind) -> &'static str {
    use ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match kind {
        PermissionDenied | ReadOnlyFilesystem => "check the permissions, or choose another place",
        StorageFull | QuotaExceeded | FileTooLarge => "free some space, or choose a place on another disk",
        _ => "check the path",
    }
}

/// Errors whose hint is their own.
macro_rules! from {
    ($($variant:ident: $error:ty;)*) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                let hint = error.hint();
                Self::$variant(Cause::new(error, hint))
            }
        }
    )*};
}

from! {
    Sampler: kinora_sampler::Error;
    Media: MediaError;
    Weights: kinora_checkpoint::Error;
    Hub: HubError;
}

impl From<kinora_text_encoder::Error> for Error {
    fn from(error: kinora_text_encoder::Error) -> Self {
        let hint = error.hint();
        match error {
            kinora_text_encoder::Error::Checkpoint(error) => error.into(),
            error => Self::Text(Cause::new(error, hint)),
        }
    }
}

impl From<kinora_camera::Error> for Error {
    fn from(error: kinora_camera::Error) -> Self {
        let hint = match &error {
            kinora_camera::Error::Io { source, .. } => Some(io_hint(source.kind()).into()),
            error => error.hint(),
        };
        Self::Camera(Cause::new(error, hint))
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(Cause::new(error, None))
    }
}

impl From<kinora_image_encoder::Error> for Error {
    fn from(error: kinora_image_encoder::Error) -> Self {
        match error {
            kinora_image_encoder::Error::Checkpoint(error) => error.into(),
            error => Self::Network(Cause::new(error, None)),
        }
    }
}

/// The hint of a configuration that cannot be read.
const DAMAGED: &str = "the file is damaged or not of this model: take config.json and weights from one source";

impl From<kinora_audio::Error> for Error {
    fn from(error: kinora_audio::Error) -> Self {
        use kinora_audio::Error::{Checkpoint, Config, Json};
        let hint = matches!(error, Json { .. } | Config { .. }).then(|| DAMAGED.into());
        match error {
            Checkpoint(error) => error.into(),
            error => Self::Network(Cause::new(error, hint)),
        }
    }
}

impl From<kinora_vae::Error> for Error {
    fn from(error: kinora_vae::Error) -> Self {
        use kinora_vae::Error::{Checkpoint, Config, Json};
        let hint = matches!(error, Json(_) | Config { .. }).then(|| DAMAGED.into());
        match error {
            Checkpoint(error) => error.into(),
            error => Self::Network(Cause::new(error, hint)),
        }
    }
}

impl From<kinora_dit::Error> for Error {
    fn from(error: kinora_dit::Error) -> Self {
        use kinora_dit::Error::{Checkpoint, Config, Infer, Json, Unsupported};
        let hint = match &error {
            Json(_) | Config { .. } => Some(DAMAGED),
            Unsupported { field, .. } if field.contains("quantization") => {
                Some("its weights are quantised in a way that is not read: take the bf16 files of the same model")
            }
            Unsupported { .. } | Infer { .. } => {
                Some("take one of the known models, or files of the same architecture")
            }
            _ => None,
        };
        match error {
            Checkpoint(error) => error.into(),
            error => Self::Network(Cause::new(error, hint.map(Into::into))),
        }
    }
}

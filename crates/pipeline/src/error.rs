//! [`Error`]: the library's errors, with the values that are wrong, and hints.

use kinora_files::shell_word;
use std::path::PathBuf;

/// Result of the library's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between a request and a clip.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of the request is out of range or contradicts another.
    #[error("{what}")]
    Request {
        /// The sentence that says what is wrong, with the value.
        what: String,
        /// The hint.
        hint: String,
    },
    /// No such model.
    #[error("there is no model `{name}`")]
    UnknownModel {
        /// The name that was asked for.
        name: String,
        /// The names and places that were tried.
        hint: String,
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
    BadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
        /// The hint.
        hint: &'static str,
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
        source: kinora_checkpoint::Error,
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
        /// The words of `--model`.
        model: Vec<String>,
    },
    /// Tokenizing or encoding the prompt.
    #[error(transparent)]
    Text(#[from] kinora_text_encoder::Error),
    /// The transformer.
    #[error(transparent)]
    Dit(#[from] kinora_dit::Error),
    /// The image encoder.
    #[error(transparent)]
    Image(#[from] kinora_image_encoder::Error),
    /// The VAE.
    #[error(transparent)]
    Vae(#[from] kinora_vae::Error),
    /// Schedules and samplers.
    #[error(transparent)]
    Sampler(#[from] kinora_sampler::Error),
    /// Reading or writing clips.
    #[error(transparent)]
    Media(#[from] kinora_media::MediaError),
    /// Reading or writing tensors.
    #[error(transparent)]
    Checkpoint(#[from] kinora_checkpoint::Error),
    /// Downloading from the hub.
    #[error(transparent)]
    Hub(#[from] kinora_hub::Error),
    /// A camera, its pose file or its rays.
    #[error(transparent)]
    Camera(#[from] kinora_camera::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// A request error with its hint.
    pub(crate) fn request(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Request { what: what.into(), hint: hint.into() }
    }

    /// Whether the run ended because the caller's event handler asked for it.
    pub fn is_stop(&self) -> bool {
        match self {
            Self::Stopped { .. } | Self::StoryStopped { .. } | Self::Hub(kinora_hub::Error::Stopped) => true,
            Self::AfterLatents { source, .. } => source.is_stop(),
            _ => false,
        }
    }

    /// A sentence on how to mend it, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Request { hint, .. } | Self::UnknownModel { hint, .. } => Some(hint.clone()),
            Self::NotAModel { path, .. } => Some(format!("`kinora inspect {}` shows what is there", shell_word(path))),
            Self::Component { source, .. } | Self::Checkpoint(source) => source.hint(),
            Self::Stopped { resumable: Some(dir) } => {
                Some(format!("the same command with --resume {} continues", shell_word(dir)))
            }
            Self::Stopped { resumable: None } => {
                Some("nothing was written; `kinora generate` with --resume DIR can be stopped and continued".into())
            }
            Self::StoryStopped { project } => {
                Some(format!("the same command continues; what is done is kept in `{}`", project.display()))
            }
            Self::ResumeMismatch { path, .. } => Some(format!(
                "repeat the first command, or delete `{}` or name another directory to start anew",
                path.display()
            )),
            Self::BadRun { .. } => Some("delete that directory to start anew, or name another one".into()),
            Self::AfterLatents { source, latents, model } => {
                let first = source.hint().filter(|_| !source.is_stop()).map(|hint| format!("{hint}; "));
                let words: Vec<String> = model.iter().map(shell_word).collect();
                Some(format!(
                    "{}nothing is lost: `kinora decode {} --model {} -o clip.mp4` goes on from the denoised latents",
                    first.unwrap_or_default(),
                    shell_word(latents),
                    words.join(" ")
                ))
            }
            Self::Text(error) => error.hint(),
            Self::Sampler(error) => error.hint(),
            Self::Media(error) => error.hint(),
            Self::Hub(error) => error.hint(),
            Self::Io { source, .. } | Self::Camera(kinora_camera::Error::Io { source, .. }) => {
                Some(io_hint(source.kind()).into())
            }
            Self::Camera(error) => error.hint(),
            Self::BadFile { hint, .. } => Some((*hint).into()),
            Self::Dit(kinora_dit::Error::Checkpoint(error))
            | Self::Vae(kinora_vae::Error::Checkpoint(error))
            | Self::Image(kinora_image_encoder::Error::Checkpoint(error)) => error.hint(),
            Self::Dit(kinora_dit::Error::Json(_) | kinora_dit::Error::Config { .. })
            | Self::Vae(kinora_vae::Error::Json(_) | kinora_vae::Error::Config { .. }) => {
                Some("the file is damaged or not of this model: take config.json and weights from one source".into())
            }
            Self::Dit(kinora_dit::Error::Unsupported { field, .. }) if field.contains("quantization") => Some(
                "its weights are quantised in a way that is not read: take the bf16 files of the same model".into(),
            ),
            Self::Dit(kinora_dit::Error::Unsupported { .. } | kinora_dit::Error::Infer { .. }) => {
                Some("`kinora models` lists the models that can be loaded".into())
            }
            Self::Dit(_) | Self::Image(_) | Self::Vae(_) | Self::Tensor(_) => None,
        }
    }
}

fn io_hint(kind: std::io::ErrorKind) -> &'static str {
    use std::io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match kind {
        PermissionDenied | ReadOnlyFilesystem => "check the permissions, or choose another place",
        StorageFull | QuotaExceeded | FileTooLarge => "free some space, or choose a place on another disk",
        _ => "check the path",
    }
}

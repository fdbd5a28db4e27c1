//! Loading errors, with the values that caused them and a hint for the user.

use crate::{Content, LoraError};
use std::path::PathBuf;

/// The result of loading.
pub type Result<T> = std::result::Result<T, Error>;

/// A loading error, with the values in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint has no tensor of that name.
    #[error("tensor `{name}` is missing{}", did_you_mean(.similar.as_ref()))]
    Missing {
        /// The canonical name that was requested.
        name: String,
        /// The closest name in the checkpoint.
        similar: Option<String>,
    },
    /// The tensor's shape differs from the one that the model needs.
    #[error("tensor `{name}` has shape {found:?}, the model needs {expected:?}")]
    Shape {
        /// The canonical name.
        name: String,
        /// The shape in the checkpoint.
        found: Vec<usize>,
        /// The shape that the model's configuration requires.
        expected: Vec<usize>,
    },
    /// No module requested these tensors.
    #[error("{} of the checkpoint's tensors {} not used: {}", .names.len(), if .names.len() == 1 { "was" } else { "were" }, first_few(.names))]
    Unused {
        /// Their names, sorted.
        names: Vec<String>,
    },
    /// The tensor's stored dtype is not one of weights.
    #[error("tensor `{name}` is stored as {dtype}, which cannot be used as a weight")]
    Dtype {
        /// The tensor's name.
        name: String,
        /// Its dtype in the file, or the requested dtype.
        dtype: String,
    },
    /// The tensor holds NaN or infinite values.
    #[error("tensor `{name}` contains NaN or infinite values")]
    NotFinite {
        /// The canonical name.
        name: String,
    },
    /// A matrix of zeros only, which no trained model has.
    #[error("tensor `{name}` holds nothing but zeros")]
    Zeros {
        /// The canonical name.
        name: String,
    },
    /// A value of the tensor is too large for the requested dtype.
    #[error("tensor `{name}` contains {value}, which {dtype} cannot hold")]
    OutOfRange {
        /// The canonical name.
        name: String,
        /// The first such value.
        value: f64,
        /// The requested dtype.
        dtype: &'static str,
    },
    /// A file could not be opened, read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not a valid file of its format.
    #[error("{}: {problem}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// One tensor's entry in the file is not valid.
    #[error("{}: tensor `{name}`: {problem}", .path.display())]
    InvalidTensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name in the file.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A weight is stored in a form that cannot be read for sure.
    #[error("{}: tensor `{name}` {problem}", .path.display())]
    Coding {
        /// The file.
        path: PathBuf,
        /// The tensor's name in the file.
        name: String,
        /// The end of a sentence about what is wrong with it.
        problem: String,
    },
    /// The file is something else than its name promises.
    #[error("{}: it is {content}, not {wanted}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The kind of file that it is.
        content: Content,
        /// What it should be.
        wanted: &'static str,
    },
    /// The file is sound, but of a kind that is not read.
    #[error("{}: {what}, which is not read yet", .path.display())]
    NotRead {
        /// The file.
        path: PathBuf,
        /// A sentence about what it is or holds.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// The file is not JSON.
    #[error("{}: it is not JSON: {problem}", .path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// The file is a link to a file that is not there.
    #[error("{} is a link to `{}`, which is not there", .path.display(), .target.display())]
    DanglingLink {
        /// The link.
        path: PathBuf,
        /// The place that it leads to.
        target: PathBuf,
    },
    /// Another program cut or wrote the file while it was in use.
    #[error("{} changed while it was read", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The index names a shard that is not a plain file name.
    #[error("{}: shard name `{shard}` leads out of the model's folder", .index.display())]
    ShardOutside {
        /// The index file.
        index: PathBuf,
        /// The shard's name in the index.
        shard: String,
    },
    /// The index, or the names of the other shards, promise a shard that is not there.
    #[error("{}: shard `{shard}` is missing", .index.display())]
    ShardMissing {
        /// The index file, or the folder of shards without one.
        index: PathBuf,
        /// The shard's name.
        shard: String,
    },
    /// Two files hold a tensor of the same name.
    #[error("tensor `{name}` is both in {} and in {}", .first.display(), .second.display())]
    TwoFiles {
        /// The tensor's name in the files.
        name: String,
        /// The first file.
        first: PathBuf,
        /// The second file.
        second: PathBuf,
    },
    /// No rule of the key map matches these tensors' names.
    #[error("{} not known in the layout `{layout}`{remark}", unknown(.names))]
    Unmapped {
        /// The tensors' names in the file, sorted.
        names: Vec<String>,
        /// The name of the key map.
        layout: String,
        /// Empty, or the closest name to the first one that a rule matches, or what all names begin with.
        remark: String,
    },
    /// Two tensors that are one in the model have different values.
    #[error("tensors `{first}` and `{second}` are one in the model, but differ")]
    Differ {
        /// The name in the file of the one that would be taken.
        first: String,
        /// The name of the other.
        second: String,
    },
    /// Two rules of the key map match one name, or two names lead to one canonical name.
    #[error("layout `{layout}` maps `{name}` twice: {first} and {second}")]
    MappedTwice {
        /// The name that is matched or produced twice.
        name: String,
        /// The name of the key map.
        layout: String,
        /// The first rule or source name.
        first: String,
        /// The second rule or source name.
        second: String,
    },
    /// The rule's right side uses a placeholder that its left side does not have.
    #[error("layout `{layout}`: the rule {rule} uses an unknown placeholder")]
    Rule {
        /// The name of the key map.
        layout: String,
        /// The rule.
        rule: String,
    },
    /// A LoRA cannot be used.
    #[error(transparent)]
    Lora(Box<LoraError>),
    /// An operation of candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<LoraError> for Error {
    fn from(error: LoraError) -> Self {
        Self::Lora(Box::new(error))
    }
}

impl Error {
    /// Returns what the user can do about the error, if there is something to do.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Missing { .. } => "the checkpoint is incomplete or belongs to another model",
            Self::Shape { .. } => "the checkpoint belongs to another variant than its configuration says",
            Self::Unused { .. } | Self::Unmapped { .. } => "the checkpoint belongs to another model or variant",
            Self::Dtype { .. } => "use a checkpoint in f32, bf16 or f16",
            Self::Coding { .. } => {
                "the numbers of this file are not known for sure: take one that is quantised in another way, or the bf16 file"
            }
            Self::NotFinite { .. } | Self::Zeros { .. } | Self::NotJson { .. } => {
                "the file is damaged: download it again"
            }
            Self::OutOfRange { .. } => "use bf16 or f32",
            Self::Io { source, .. } => io_hint(source.kind()),
            Self::Invalid { .. } | Self::InvalidTensor { .. } => {
                "the file is damaged or only partly downloaded: download it again"
            }
            Self::Content { content, .. } => content.hint(),
            Self::NotRead { hint, .. } => hint,
            Self::DanglingLink { .. } => {
                "the files of a hub cache go together with its `blobs`: copy both, or pull the model"
            }
            Self::Changed { .. } => "start again when the program that writes it is done",
            Self::Differ { .. } => "the checkpoint was put together from different ones: download it again",
            Self::ShardOutside { .. } => "the index cannot be trusted: shards must lie beside it",
            Self::ShardMissing { .. } => "the download is incomplete: fetch the missing file",
            Self::TwoFiles { .. } => "give each part of the model once",
            Self::Lora(error) => error.hint(),
            Self::MappedTwice { .. } | Self::Rule { .. } | Self::Candle(_) => return None,
        };
        Some(hint.to_string())
    }
}

fn io_hint(kind: std::io::ErrorKind) -> &'static str {
    use std::io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match kind {
        PermissionDenied | ReadOnlyFilesystem => "check the permissions of the file and its folder",
        StorageFull | QuotaExceeded | FileTooLarge => "free some space or write to another disk",
        _ => "check the path",
    }
}

pub(crate) fn did_you_mean(similar: Option<&String>) -> String {
    similar.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// The unknown names, counted, as the subject of a sentence with its verb.
fn unknown(names: &[String]) -> String {
    match names {
        [one] => format!("tensor `{one}` is"),
        several => format!("{} tensors ({}) are", several.len(), first_few(several)),
    }
}

fn first_few(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

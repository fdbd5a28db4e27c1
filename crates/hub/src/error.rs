//! [`Error`]: the errors between this machine and the hub, with their values and hints.

use std::path::PathBuf;

/// Result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a download did not finish. Everything that has arrived is kept, except damaged files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither a home directory nor a variable says where the hub cache is.
    #[error("there is no home directory, so the directory of the hub cache is not known")]
    NoCache,
    /// There was no answer, or the connection broke and further attempts failed.
    #[error("the connection to {address} failed: {reason}")]
    Connection {
        /// The hub's address or that of the file.
        address: String,
        /// The error of the network.
        reason: String,
    },
    /// The hub refused access: HTTP 401 or 403.
    #[error("{address} refuses access (HTTP {status})")]
    Denied {
        /// Page of the repository.
        address: String,
        /// The HTTP status.
        status: u16,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The repository or the file does not exist: HTTP 404.
    #[error("{address} does not exist (HTTP 404)")]
    NotFound {
        /// Page of the repository, or the address of the file.
        address: String,
    },
    /// The hub answered with another status that is not a success.
    #[error("{address} answers with HTTP {status}")]
    Status {
        /// The address of the request.
        address: String,
        /// The HTTP status.
        status: u16,
    },
    /// The answer is not one of the hub's.
    #[error("{address} does not answer as the hub does: {reason}")]
    BadAnswer {
        /// The address of the request.
        address: String,
        /// Why it cannot be an answer of the hub.
        reason: String,
    },
    /// The repository does not have the files that the caller needs.
    #[error("{address} is not a usable model: it has no {missing}")]
    NotAModel {
        /// Page of the repository.
        address: String,
        /// The first file or folder that it lacks.
        missing: String,
    },
    /// A file has another size or hash than the hub says.
    #[error("`{file}` arrived damaged: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// The expected and the found size or hash.
        reason: String,
    },
    /// Another process is downloading the same file.
    #[error("another process is downloading `{file}`")]
    Busy {
        /// The file.
        file: String,
    },
    /// The disk has too little space.
    #[error("the download needs {needed} more bytes, but `{}` has {free} free", path.display())]
    NoSpace {
        /// The directory of the hub cache.
        path: PathBuf,
        /// Bytes to download.
        needed: u64,
        /// Bytes available on the disk.
        free: u64,
    },
    /// The operating system could not read or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or directory in the hub cache.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The caller asked to stop.
    #[error("stopped on request")]
    Stopped,
}

impl Error {
    /// Returns what the user can do about the error, if there is something.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoCache => "set HF_HOME to a directory with room for the models".into(),
            Self::Connection { .. } => {
                "check the network, or set HF_ENDPOINT to a mirror of the hub; what has arrived \
                 is kept, and the same command continues"
                    .into()
            }
            Self::Denied { address, with_token, .. } => {
                let token =
                    if *with_token { "check that HF_TOKEN is valid" } else { "set HF_TOKEN to an access token" };
                format!("the licence may have to be accepted: open {address} in a browser, accept it, and {token}")
            }
            Self::NotFound { .. } => {
                "it may have moved; check HF_ENDPOINT if it is set, or download the model by hand and \
                 give its directory to --model"
                    .into()
            }
            Self::Status { .. } => "try again later: what has arrived is kept, and the same command continues".into(),
            Self::BadAnswer { .. } => "check HF_ENDPOINT, and whether a proxy answers in its place".into(),
            Self::Damaged { .. } => {
                "the damaged file was deleted: the same command fetches it again; if it happens again, \
                 a proxy or mirror alters it"
                    .into()
            }
            Self::Busy { .. } => "wait until that download is complete, or stop it".into(),
            Self::NoSpace { .. } => "free some space, or set HF_HOME to a directory on a larger disk".into(),
            Self::Stopped => "what has arrived is kept: the same command continues".into(),
            Self::NotAModel { .. } | Self::Io { .. } => return None,
        })
    }
}

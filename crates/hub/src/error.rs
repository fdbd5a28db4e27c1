//! [`Error`]: the errors between this machine and the hub, with their values and hints.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

/// Result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a download did not finish. Everything that has arrived is kept, except damaged files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither a home directory nor a variable says where the hub cache is.
    #[error("there is no home directory, so the directory of the hub cache is not known")]
    NoCache,
    /// The user does not want the network to be used.
    #[error("`{variable}` is set: nothing is downloaded")]
    Offline {
        /// The variable.
        variable: &'static str,
    },
    /// A variable or file of the environment has a value that cannot be used.
    #[error("{name} {problem}")]
    Setting {
        /// The variable or file.
        name: String,
        /// A verb and what is wrong.
        problem: String,
    },
    /// There was no answer, or the connection broke and further attempts failed.
    #[error("the connection to {address}{} failed: {reason}", through(.proxy.as_ref()))]
    Connection {
        /// The hub's address or that of the file.
        address: String,
        /// Host and port of the proxy that it goes through.
        proxy: Option<String>,
        /// The error of the network.
        reason: String,
        /// The kind of error.
        trouble: Trouble,
    },
    /// The hub refused access: HTTP 401 or 403.
    #[error("{address} refuses access (HTTP {status})")]
    Denied {
        /// Page of the repository.
        address: String,
        /// The HTTP status.
        status: u16,
        /// The variable or the file that the token was read from, if one was sent.
        token: Option<String>,
        /// The file that a token is read from where no variable has one.
        token_file: Option<PathBuf>,
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
        /// The time after which the hub wants to be asked again.
        retry_after: Option<Duration>,
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

/// What kind of error a connection ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The host's name is not known.
    Name,
    /// The host's certificate is not trusted.
    Certificate,
    /// Any other.
    Network,
}

fn through(proxy: Option<&String>) -> String {
    proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default()
}

impl Error {
    /// Returns what the user can do about the error, if there is something.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoCache => "set HF_HOME to a directory with room for the models".into(),
            Self::Offline { variable } => format!("unset {variable}, or copy the files and give their directory"),
            Self::Setting { name, .. } => format!("correct {name}, or leave it unset"),
            Self::Connection { trouble: Trouble::Certificate, .. } => {
                "where a company's own authority signs, set SSL_CERT_FILE to the authority's certificate (PEM)".into()
            }
            Self::Connection { proxy: Some(_), .. } => {
                "check the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names, or set NO_PROXY to go without it; what \
                 has arrived is kept"
                    .into()
            }
            Self::Connection { trouble: Trouble::Name, .. } => {
                "check the network and the host in HF_ENDPOINT; what has arrived is kept".into()
            }
            Self::Connection { .. } => {
                "check the network, or set HF_ENDPOINT to a mirror of the hub; what has arrived \
                 is kept, and the same command continues"
                    .into()
            }
            Self::Denied { address, token, token_file, .. } => {
                let token = match (token, token_file) {
                    (Some(from), _) => {
                        format!("check that the access token of {from} is valid and may read gated repositories")
                    }
                    (None, None) => "a token is needed: set HF_TOKEN to an access token".into(),
                    (None, Some(file)) => {
                        let file = file.display();
                        format!("a token is needed: set HF_TOKEN to an access token, or write one into `{file}`")
                    }
                };
                format!("{token}; the licence may have to be accepted, too: open {address} in a browser")
            }
            Self::NotFound { .. } => {
                "it may have moved; check HF_ENDPOINT if it is set, or download the model by hand and \
                 give its directory"
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
            Self::Io { source, .. } if is_full(source.kind()) => {
                "free some space, or set HF_HOME to a directory on a larger disk; what has arrived is kept".into()
            }
            Self::Io { .. } => "check the directory of the hub cache and its permissions, or set HF_HOME to another".into(),
            Self::NotAModel { .. } => return None,
        })
    }
}

fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

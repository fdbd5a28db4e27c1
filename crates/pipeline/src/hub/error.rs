//! What can go wrong between this machine and the hub.

use std::path::PathBuf;

/// Why a download did not finish. What has arrived by then is kept, except damaged files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Neither a home directory nor a variable says where the cache is.
    #[error("there is no home directory, so the place of the cache is not known")]
    NoCache,
    /// No answer, or the connection broke and did not come back.
    #[error("the connection to {address} failed: {reason}")]
    Connection {
        /// The hub's address or that of the file.
        address: String,
        /// The network's word.
        reason: String,
    },
    /// HTTP 401 or 403.
    #[error("{address} refuses access (HTTP {status})")]
    Denied {
        /// Page of the repository.
        address: String,
        /// The hub's status.
        status: u16,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// HTTP 404.
    #[error("{address} does not exist (HTTP 404)")]
    NotFound {
        /// Page of the repository, or a file of it.
        address: String,
    },
    /// Any other status that is not success.
    #[error("{address} answers with HTTP {status}")]
    Status {
        /// What was asked for.
        address: String,
        /// The status.
        status: u16,
    },
    /// An answer that the hub would not give.
    #[error("{address} does not answer as the hub does: {reason}")]
    BadAnswer {
        /// What was asked for.
        address: String,
        /// What is odd.
        reason: String,
    },
    /// The repository is not a model in diffusers' layout.
    #[error("{address} is not a usable model: it has no {missing}")]
    NotAModel {
        /// Page of the repository.
        address: String,
        /// What it lacks.
        missing: String,
    },
    /// Size or hash are not the ones that the hub says.
    #[error("`{file}` arrived damaged: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// Expected and found.
        reason: String,
    },
    /// Another process downloads the same file.
    #[error("another process is downloading `{file}`")]
    Busy {
        /// The file.
        file: String,
    },
    /// The disk is too full.
    #[error("{needed} bytes are still to come, but `{}` has room for {free}", path.display())]
    NoSpace {
        /// The cache.
        path: PathBuf,
        /// Bytes to download.
        needed: u64,
        /// Bytes available.
        free: u64,
    },
    /// The operating system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or directory in the cache.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The caller asked to stop.
    #[error("stopped on request")]
    Stopped,
}

impl HubError {
    /// What the user can do about it.
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
            Self::BadAnswer { .. } => "check HF_ENDPOINT, and whether a proxy stands between".into(),
            Self::Damaged { .. } => {
                "the damaged file was deleted: the same command fetches it again; if it happens again, \
                 a proxy or mirror alters it"
                    .into()
            }
            Self::Busy { .. } => "wait until it is done, or stop it".into(),
            Self::NoSpace { .. } => "make room, or set HF_HOME to a directory on a larger disk".into(),
            Self::Stopped => "what has arrived is kept: the same command continues".into(),
            Self::NotAModel { .. } | Self::Io { .. } => return None,
        })
    }
}

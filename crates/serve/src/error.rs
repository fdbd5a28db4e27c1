//! [`Error`]: why the store or the configuration refuses, with the values and a hint.

use std::path::PathBuf;

/// Result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something was not done. What an error is returned for has changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The owner's credits of the day do not cover the clip.
    #[error("the clip costs {needed} credits, and {left} are left")]
    Credits {
        /// The price of the clip.
        needed: i64,
        /// The owner's balance.
        left: i64,
    },
    /// The owner has as many unfinished clips as the tier allows.
    #[error("{limit} clips are waiting or running already, as many as the tier allows")]
    Concurrency {
        /// The number of clips that may wait and run together.
        limit: u64,
    },
    /// The queue of the whole server is full.
    #[error("the queue is full: {limit} clips are waiting")]
    QueueFull {
        /// The number of clips that may wait.
        limit: u64,
    },
    /// The owner's clips and uploads take all the space of the tier.
    #[error("{used} bytes of {limit} are used, and {wanted} more do not fit")]
    StorageQuota {
        /// The bytes that the tier allows.
        limit: u64,
        /// The bytes of the owner's clips and uploads.
        used: u64,
        /// The bytes that were to be added.
        wanted: u64,
    },
    /// The owner has nothing of that name. What belongs to others is not found either.
    #[error("there is no {what} `{id}`")]
    NotFound {
        /// `clip`, `upload` or `key`.
        what: &'static str,
        /// The name that was asked for.
        id: String,
    },
    /// The clip is in a state that does not allow it.
    #[error("the clip `{id}` is {status}, so it cannot be {verb}")]
    State {
        /// The clip.
        id: String,
        /// Its state.
        status: crate::store::Status,
        /// The participle of what was asked for, such as `edited`.
        verb: &'static str,
    },
    /// A clip that is not finished needs the upload or clip.
    #[error("`{id}` is needed by the unfinished clip `{job}`")]
    InUse {
        /// The upload or clip.
        id: String,
        /// The clip that needs it.
        job: String,
    },
    /// The owner has a clip with this `external_id` already.
    #[error("the clip `{id}` has the external id `{external_id}` already")]
    Duplicate {
        /// The name that the client gave.
        external_id: String,
        /// The clip that has it.
        id: String,
    },
    /// An argument is outside what is possible.
    #[error("{what} {problem}")]
    Invalid {
        /// The name of the argument or setting.
        what: String,
        /// A verb and what is wrong.
        problem: String,
    },
    /// The configuration is not TOML, or has a key or a type that is not known.
    #[error("the configuration cannot be read: {0}")]
    Config(#[from] toml::de::Error),
    /// A file cannot be read or made.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The file is a database of something else.
    #[error("{} is not a store of clips", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The store was written by a later version.
    #[error("{} has version {found}, and versions up to {known} can be read", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The accounts do not add up.
    #[error("the ledger is wrong: {problem}")]
    Ledger {
        /// The first rule that is broken, and where.
        problem: String,
    },
    /// The server cannot listen.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The error of the system.
        source: std::io::Error,
    },
    /// Another server has the data directory.
    #[error("{} is the directory of a server that runs", path.display())]
    InUseByServer {
        /// The directory.
        path: PathBuf,
    },
    /// Other machines can reach the address, and anyone on them could make clips.
    #[error("{address} can be reached by other machines, itself or by `public_url`, and there are no keys")]
    NeedsKeys {
        /// The address.
        address: std::net::SocketAddr,
    },
    /// The database refuses.
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// The work in the store ended without a result, because its code panicked or the store was closed.
    #[error("the store gave no answer")]
    NoAnswer,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

impl Error {
    /// Returns what can be done about it, where there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Credits { .. } => "credits are renewed every day; a shorter clip or the fast mode costs less",
            Self::Concurrency { .. } => "wait until a clip is finished, or cancel one that is waiting",
            Self::QueueFull { .. } => "try again later",
            Self::StorageQuota { .. } => "delete clips and uploads that are not needed any more",
            Self::InUse { .. } => "wait until that clip is finished, or cancel it",
            Self::Duplicate { .. } => "ask for that clip, or choose another external id",
            Self::Config(_) => "the example of a configuration has every key with its default",
            Self::NotAStore { .. } => "give another data directory",
            Self::Newer { .. } => "use the version of the program that wrote it, or give another data directory",
            Self::Listen { .. } => "another program listens there, perhaps another server: give another --port",
            Self::InUseByServer { .. } => "end that one first, or give another --data",
            Self::NeedsKeys { .. } => "make one first with `kinora keys add NAME`, or listen on 127.0.0.1",
            Self::Ledger { .. } => "keep a copy of the store, and report how it came about",
            Self::Database(error) => return database_hint(error),
            _ => return None,
        })
    }
}

fn database_hint(error: &rusqlite::Error) -> Option<&'static str> {
    use rusqlite::ErrorCode;
    Some(match error.sqlite_error_code()? {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            "another program has held the store for long; end it, or try again"
        }
        ErrorCode::DiskFull => "there is no space left on the disk of the data directory",
        ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => {
            "the data directory must be writable, and on a local disk"
        }
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            "the file is damaged; go back to a backup, or give another data directory"
        }
        _ => return None,
    })
}

//! [`Fault`]: an error as clients see it, in the shape that OpenAI's clients read.

use crate::error::Error;
use crate::protocol::Problem;
use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Result of a handler.
pub type Answer<T = Response> = Result<T, Fault>;

/// The most characters of a value that a message repeats.
const MOST_ECHOED: usize = 100;

/// A value as messages repeat it: its start, where it is long.
pub fn echo(value: impl std::fmt::Display) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MOST_ECHOED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// An error as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The status.
    pub status: StatusCode,
    /// The kind, such as `invalid_request_error`.
    pub kind: &'static str,
    /// The word by which programs tell errors apart.
    pub code: String,
    /// The field that is to blame.
    pub param: Option<String>,
    /// A sentence.
    pub message: String,
    /// Seconds after which another try may succeed; `None` is never, by itself.
    pub retry_after: Option<u32>,
}

impl Fault {
    fn new(status: StatusCode, kind: &'static str, code: &str, message: impl Into<String>) -> Self {
        Self { status, kind, code: code.into(), param: None, message: message.into(), retry_after: None }
    }

    /// A request that cannot be right.
    pub fn invalid(param: &str, message: impl Into<String>) -> Self {
        let fault = Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_value", message);
        Self { param: Some(param.to_string()).filter(|param| !param.is_empty()), ..fault }
    }

    /// Something that is not there, or not the caller's.
    pub fn not_found(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", code, message)
    }

    /// A request without a key, or with one that is not valid.
    pub fn unauthorised(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key", message)
    }

    /// A request from somewhere that may not ask.
    pub fn forbidden(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", code, message)
    }

    /// A request that contradicts the state of things.
    pub fn conflict(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "invalid_request_error", code, message)
    }

    /// Something in the server that is not the client's.
    pub fn internal() -> Self {
        let message = "the server failed";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal_error", message)
    }

    /// There are too many connections.
    pub fn busy() -> Self {
        let message = "the server has as many connections as it takes: try again";
        let fault = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", "too_many_connections", message);
        Self { retry_after: Some(1), ..fault }
    }

    /// The body that clients read.
    pub fn json(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }

    /// The server's disk has no room.
    pub fn storage_full() -> Self {
        let message = "the server's disk is full: the operator can make room";
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "server_error", "storage_full", message)
    }

    /// A request of another status.
    pub fn with_status(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", code, message)
    }
}

/// Whether the error is that of a full disk.
pub fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        let status = match problem.code.as_str() {
            "model_unavailable" | "no_answer" => StatusCode::SERVICE_UNAVAILABLE,
            "storage_full" => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::BAD_REQUEST,
        };
        let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
        let retry_after = (problem.code == "no_answer").then_some(1);
        Self { param: problem.field, retry_after, ..Self::new(status, kind, &problem.code, problem.message) }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let text = match error.hint() {
            Some(hint) => format!("{error}: {hint}"),
            None => error.to_string(),
        };
        let limited = |kind, code, retry_after| {
            let fault = Self::new(StatusCode::TOO_MANY_REQUESTS, kind, code, text.clone());
            Self { retry_after, ..fault }
        };
        match &error {
            Error::Credits { .. } => limited("insufficient_quota", "insufficient_quota", None),
            Error::Concurrency { .. } => limited("rate_limit_error", "too_many_clips", Some(30)),
            Error::QueueFull { .. } => limited("rate_limit_error", "queue_full", Some(30)),
            Error::StorageQuota { .. } => limited("insufficient_quota", "storage_quota", None),
            Error::NotFound { what, .. } => {
                let code = if *what == "upload" { "file_not_found" } else { "video_not_found" };
                Self::not_found(code, error.to_string())
            }
            Error::State { .. } => Self::conflict("wrong_state", error.to_string()),
            Error::InUse { .. } => Self::conflict("in_use", text),
            Error::Duplicate { .. } => Self::conflict("duplicate", text),
            Error::Invalid { .. } => Self::invalid("", error.to_string()),
            Error::Database(database) if database.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) => {
                Self::storage_full()
            }
            Error::Io { source, .. } if is_full(source) => Self::storage_full(),
            // What is inside the server is not the client's.
            _ => Self::internal(),
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.json())).into_response();
        let headers = response.headers_mut();
        match self.retry_after {
            Some(seconds) => {
                headers.insert("retry-after", seconds.into());
            }
            // OpenAI's clients try again by themselves after these, each time with a new request.
            None if self.status.is_server_error()
                || [StatusCode::CONFLICT, StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT]
                    .contains(&self.status) =>
            {
                headers.insert("x-should-retry", HeaderValue::from_static("false"));
            }
            None => {}
        }
        // For interfaces whose errors have another shape.
        response.extensions_mut().insert(self);
        response
    }
}

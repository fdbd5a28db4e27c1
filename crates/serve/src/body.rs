//! Bodies of requests, within bounds: so many bytes, and no slower than a slow line. A client that sends a byte a minute holds
//! nothing for ever.

use crate::fault::{Answer, Fault};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use std::error::Error;
use std::time::Duration;
use tokio::time::Instant;

/// How long a client may leave the server waiting for its body, however short that is, and for any piece of it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes that buy another second.
const SLOWEST: u64 = 4096;

/// Why the rest of a body is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// It is longer than the bytes that are read.
    #[error("the body is too long: at most {0} bytes are read")]
    TooLong(u64),
    /// It comes too slowly.
    #[error("the body comes too slowly: at least {SLOWEST} bytes a second are expected")]
    TooSlow,
}

impl From<Cut> for Fault {
    fn from(cut: Cut) -> Self {
        let (status, code) = match cut {
            Cut::TooLong(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Cut::TooSlow => (StatusCode::REQUEST_TIMEOUT, "request_timeout"),
        };
        Self::with_status(status, code, cut.to_string())
    }
}

/// Lets handlers read at most so many bytes; a request that says that it has more is refused before anything is read.
pub async fn limit(State(most): State<u64>, request: Request, next: Next) -> Response {
    if length(request.headers()).is_some_and(|length| length > most) {
        return Fault::from(Cut::TooLong(most)).into_response();
    }
    next.run(request.map(|body| bounded(body, most))).await
}

/// The length that the request says it has.
pub fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The body, which ends with a [`Cut`] where it goes too far.
fn bounded(body: Body, most: u64) -> Body {
    let start = (body.into_data_stream(), 0u64, Duration::ZERO);
    Body::from_stream(stream::try_unfold(start, move |(mut pieces, received, waited)| async move {
        let (allowed, begin) = (PATIENCE + Duration::from_secs(received / SLOWEST), Instant::now());
        let piece = tokio::time::timeout(allowed.saturating_sub(waited).min(PATIENCE), pieces.next());
        let Some(piece) = piece.await.map_err(|_| axum::Error::new(Cut::TooSlow))? else { return Ok(None) };
        let piece = piece?;
        let received = received + piece.len() as u64;
        if received > most {
            return Err(axum::Error::new(Cut::TooLong(most)));
        }
        Ok(Some((piece, (pieces, received, waited + begin.elapsed()))))
    }))
}

/// Reads a whole body.
///
/// # Errors
/// One that is longer than `most`, or does not come.
pub async fn whole(body: Body, most: u64) -> Answer<Bytes> {
    let mut pieces = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| unreadable(&error))?;
        if bytes.len() as u64 + piece.len() as u64 > most {
            return Err(Cut::TooLong(most).into());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.into())
}

/// What a client is told of a body that ended early.
pub fn unreadable(error: &(dyn Error + 'static)) -> Fault {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(cut) = error.downcast_ref::<Cut>() {
            return (*cut).into();
        }
        cause = error.source();
    }
    Fault::invalid("", format!("the body cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(pieces: &[(u64, usize)]) -> Body {
        Body::from_stream(stream::iter(pieces.to_vec()).then(|(seconds, bytes)| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok::<_, axum::Error>(vec![0; bytes])
        }))
    }

    async fn read(body: Body, most: u64) -> Result<usize, String> {
        whole(bounded(body, most), 1 << 30).await.map(|bytes| bytes.len()).map_err(|fault| fault.code)
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_end_where_they_go_too_far() {
        assert_eq!(read(pieces(&[(0, 5), (1, 5)]), 10).await, Ok(10));
        assert_eq!(read(pieces(&[(0, 5), (1, 6)]), 10).await, Err("too_large".into()));
        assert_eq!(
            whole(pieces(&[(0, 11)]), 10).await.map_err(|fault| fault.status),
            Err(StatusCode::PAYLOAD_TOO_LARGE)
        );
        assert_eq!(read(pieces(&[(19, 1)]), 10).await, Ok(1));
        assert_eq!(read(pieces(&[(1, 1); 30]), 100).await, Err("request_timeout".into()), "a byte a second");
        assert_eq!(read(pieces(&[(1, 5000); 60]), 1 << 20).await, Ok(300_000), "a slow line");
        let fast = [(1, 5_000_000), (19, 1), (19, 1), (19, 1)];
        assert_eq!(read(pieces(&fast), 1 << 30).await, Ok(5_000_003), "what came fast buys time");
        let silent = [(1, 5_000_000), (60, 1)];
        assert_eq!(read(pieces(&silent), 1 << 30).await, Err("request_timeout".into()), "but no long silence");
    }
}

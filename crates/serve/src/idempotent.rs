//! Requests that are sent again are done once: with an `Idempotency-Key`, or, from clients that give none, when they say that it is
//! another try of the same body.

use crate::app::{App, now};
use crate::fault::{Answer, Fault};
use crate::store::idempotency::{self, Answer as Stored, Begin};
use crate::{id, link};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use rusqlite::Transaction;
use serde_json::Value;

/// Another try of a client without a key counts as the same request for so long, in milliseconds.
const TRIES: i64 = 10_000;
/// The longest key.
const LONGEST: usize = 255;

/// The properties that tell a request from others of its owner.
pub struct Key {
    route: &'static str,
    /// The client's name for it.
    given: Option<String>,
    is_retry: bool,
    hash: [u8; 32],
}

impl Key {
    /// Reads the headers of a request to `route` whose body has the SHA-256 `hash`.
    pub fn of(headers: &HeaderMap, route: &'static str, hash: [u8; 32]) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let key = text("idempotency-key").filter(|key| !key.is_empty() && key.len() <= LONGEST).map(str::to_string);
        let is_retry = text("x-stainless-retry-count").is_some_and(|count| count != "0");
        Self { route, given: key, is_retry, hash }
    }
}

/// A request that has begun. Its answer is kept in the transaction that does it, so that neither is there without the other.
pub struct Ticket {
    owner: String,
    route: &'static str,
    name: String,
}

impl Ticket {
    /// Keeps the answer.
    ///
    /// # Errors
    /// The store's.
    pub fn answer(&self, transaction: &Transaction<'_>, status: StatusCode, value: &Value) -> crate::Result<()> {
        let stored = Stored { code: status.as_u16(), body: value.to_string().into_bytes() };
        idempotency::finish(transaction, &self.owner, self.route, &self.name, &stored).map(drop)
    }
}

/// Does `work` unless its answer is there already. It is done to its end even if the client is gone: another try then finds the
/// answer, which `work` keeps with its ticket.
///
/// # Errors
/// Those of `work`; a key that was used for another body, or whose first request is still being done.
pub async fn once<W>(app: &App, owner: &str, key: Key, work: impl FnOnce(Ticket) -> W + Send + 'static) -> Answer
where
    W: Future<Output = Answer<(StatusCode, Value)>> + Send + 'static,
{
    let done = tokio::spawn(done_once(app.clone(), owner.to_string(), key, work));
    done.await.unwrap_or_else(|_| Err(Fault::internal()))
}

async fn done_once<W>(app: App, owner: String, key: Key, work: impl FnOnce(Ticket) -> W) -> Answer
where
    W: Future<Output = Answer<(StatusCode, Value)>>,
{
    let Key { route, given, is_retry, hash } = key;
    // Without a key, the body itself is remembered for a moment.
    let name =
        given.clone().unwrap_or_else(|| format!("auto-{}", id::new("", now()).unwrap_or_else(|_| link::hex(&hash))));
    let (by, own) = (owner.clone(), name.clone());
    let begun = app.store.write(move |transaction| {
        if given.is_none()
            && is_retry
            && let Some(earlier) = idempotency::recent(transaction, &by, route, &hash, now() - TRIES)?
        {
            return Ok(earlier);
        }
        idempotency::begin(transaction, &by, route, &own, &hash, now())
    });
    match begun.await? {
        Begin::New => {}
        Begin::Done(answer) => return Ok(replayed(answer)),
        Begin::Running => {
            let fault = Fault::conflict("still_running", "the first request with this key is still being done");
            return Err(Fault { retry_after: Some(1), ..fault });
        }
        Begin::Other => {
            let what = "the key was used for another request";
            return Err(Fault::with_status(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", what));
        }
    }
    let ticket = Ticket { owner: owner.clone(), route, name: name.clone() };
    match work(ticket).await {
        Ok((status, value)) => Ok(answer(status, value.to_string().into_bytes())),
        Err(fault) => {
            app.store.write(move |transaction| idempotency::abandon(transaction, &owner, route, &name)).await?;
            Err(fault)
        }
    }
}

fn answer(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

fn replayed(stored: Stored) -> Response {
    let mut response = answer(StatusCode::from_u16(stored.code).unwrap_or(StatusCode::OK), stored.body);
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    response
}

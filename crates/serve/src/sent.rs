//! What a request brings, for handlers: refused in the shape that clients read.

use crate::body;
use crate::fault::{Answer, Fault};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// The longest JSON body of the server's own interface, in bytes.
pub const MOST: u64 = 1 << 20;

/// A body of JSON.
pub struct Sent<T> {
    /// What it says.
    pub value: T,
    /// The SHA-256 of its text.
    pub hash: [u8; 32],
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &S) -> Answer<Self> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let what = "the body is `application/json`, and its header says so";
            return Err(Fault::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", what));
        }
        let text = body::whole(request.into_body(), MOST).await?;
        // A list would be read as the fields in their order.
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(Fault::invalid("", "the body is no JSON object"));
        }
        let value = serde_json::from_slice(&text).map_err(|error| unread(&error))?;
        Ok(Self { value, hash: Sha256::digest(&text).into() })
    }
}

/// A body that says something else; the field, where the error names one.
pub fn unread(error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    let field = text.split('`').nth(1).filter(|_| text.contains("field"));
    Fault::invalid(field.unwrap_or_default(), format!("the request cannot be read: {text}"))
}

/// A query.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(|error| Fault::invalid("", error.body_text()))
    }
}

/// The names within the path.
pub struct Named<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(path)| Self(path)).map_err(|error| Fault::not_found("not_found", error.body_text()))
    }
}

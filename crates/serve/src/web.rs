//! The page: its files, compiled in, with headers that let it do nothing but be itself.

use crate::app::App;
use crate::fault::Fault;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use include_dir::{Dir, include_dir};
use sha2::{Digest, Sha256};

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/web");

/// Scripts, styles, pictures, clips and requests of this server alone; no frame around the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
                      media-src 'self' blob:; connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// Answers with a file of the page; without a path, with the page.
pub fn file(request: &Request) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    let path = if path.is_empty() { "index.html" } else { path };
    let Some(file) = FILES.get_file(path) else {
        return Fault::not_found("not_found", "there is nothing under this address").into_response();
    };
    let extension = path.rsplit('.').next().unwrap_or_default();
    let kind = match extension {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webp" => "image/webp",
        "json" | "webmanifest" => "application/json",
        _ => "text/plain; charset=utf-8",
    };
    let digest = Sha256::digest(file.contents());
    let tag = format!("\"{}\"", crate::link::hex(&digest[..12]));
    let has_it = request.headers().get(IF_NONE_MATCH).is_some_and(|tags| tags.as_bytes() == tag.as_bytes());
    let tag = HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""));
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (ETAG, tag),
        // Asked for anew each time, and answered with nothing if it is the same: a new version is seen at once.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    if has_it {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, file.contents()).into_response()
}

/// Headers of every answer.
pub async fn headers(State(_): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let all: [(HeaderName, &'static str); 5] = [
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (CONTENT_SECURITY_POLICY, POLICY),
    ];
    for (name, value) in all {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

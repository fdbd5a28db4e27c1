//! Errors in Kling's shape: its numbers, and its status of HTTP for each.

use crate::fault::{Fault, echo};
use crate::guard::bearer;
use crate::id;
use axum::Json;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

/// What clients call the fields that the server's own requests have under other names.
const FIELDS: [(&str, &str); 9] = [
    ("model", "model_name"),
    ("seconds", "duration"),
    ("frames", "duration"),
    ("aspect", "aspect_ratio"),
    ("last_image", "image_tail"),
    ("camera", "camera_control"),
    ("sampling.guidance_scale", "cfg_scale"),
    ("extend", "video_id"),
    ("external_id", "external_task_id"),
];

/// A body that tells of success.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Success<T> {
    /// 0.
    code: u16,
    /// `SUCCEED`.
    message: &'static str,
    /// The number of the request.
    request_id: String,
    data: T,
}

/// A body that tells of an error.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Refusal {
    /// The number of the error.
    code: u16,
    /// A sentence.
    message: String,
    /// The number of the request.
    request_id: String,
}

/// The body that tells of success.
pub fn success<T: Serialize>(data: T) -> Value {
    json!(Success { code: 0, message: "SUCCEED", request_id: request_id(), data })
}

fn request_id() -> String {
    id::new("", crate::app::now()).unwrap_or_default()
}

/// Gives every error of what is below Kling's shape.
pub async fn shape(request: Request, next: Next) -> Response {
    let missing = missing_key(request.headers());
    let response = next.run(request).await;
    let status = response.status();
    if status.is_success() {
        return response;
    }
    let fault = response.extensions().get::<Fault>().cloned().unwrap_or_else(|| of_status(status));
    let (status, code) = match missing {
        Some(code) if fault.code == "invalid_api_key" => (StatusCode::UNAUTHORIZED, code),
        _ => number(&fault),
    };
    let body = Refusal { code, message: message(&fault), request_id: request_id() };
    let mut answer = (status, Json(body)).into_response();
    if let Some(seconds) = response.headers().get(RETRY_AFTER) {
        answer.headers_mut().insert(RETRY_AFTER, seconds.clone());
    }
    answer
}

/// The number for a request without a usable key: 1001 without any, 1002 with something else in its place.
fn missing_key(headers: &HeaderMap) -> Option<u16> {
    match headers.get(AUTHORIZATION) {
        None => Some(1001),
        Some(value) if value.as_bytes().trim_ascii().is_empty() => Some(1001),
        Some(_) if bearer(headers).is_none_or(str::is_empty) => Some(1002),
        Some(_) => None,
    }
}

/// What the frame around the handlers answers by itself.
fn of_status(status: StatusCode) -> Fault {
    let message = match status {
        StatusCode::METHOD_NOT_ALLOWED => "this address has no such method",
        StatusCode::PAYLOAD_TOO_LARGE => "the body is too long",
        _ if status.is_client_error() => "the request cannot be read",
        _ => "the server failed",
    };
    Fault::with_status(status, "", message)
}

/// The status and the number of an error.
fn number(fault: &Fault) -> (StatusCode, u16) {
    match (fault.code.as_str(), fault.status.as_u16()) {
        ("token_invalid", _) => (StatusCode::UNAUTHORIZED, 1002),
        ("token_early", _) => (StatusCode::UNAUTHORIZED, 1003),
        ("token_expired", _) => (StatusCode::UNAUTHORIZED, 1004),
        (_, 401) => (StatusCode::UNAUTHORIZED, 1000),
        (_, 403) => (StatusCode::FORBIDDEN, 1103),
        ("insufficient_quota" | "storage_quota", _) => (StatusCode::TOO_MANY_REQUESTS, 1102),
        ("too_many_clips", _) => (StatusCode::TOO_MANY_REQUESTS, 1303),
        ("still_running", _) | (_, 429) => (StatusCode::TOO_MANY_REQUESTS, 1302),
        (_, 404) => (StatusCode::NOT_FOUND, 1203),
        (_, 405) => (StatusCode::NOT_FOUND, 1202),
        (_, 503 | 507) => (StatusCode::SERVICE_UNAVAILABLE, 5001),
        (_, 504) => (StatusCode::GATEWAY_TIMEOUT, 5002),
        (_, 500..) => (StatusCode::INTERNAL_SERVER_ERROR, 5000),
        _ if fault.param.is_some() || fault.code == "duplicate" => (StatusCode::BAD_REQUEST, 1201),
        _ => (StatusCode::BAD_REQUEST, 1200),
    }
}

/// The message, with the name of the field that is to blame.
fn message(fault: &Fault) -> String {
    let Some(param) = &fault.param else { return fault.message.clone() };
    let name = FIELDS.iter().find(|(own, _)| own == param).map_or(param.as_str(), |(_, name)| name);
    if fault.message.contains(&*echo(name)) {
        fault.message.clone()
    } else {
        format!("{}: {}", echo(name), fault.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_klings_numbers_and_fields() {
        let of = |status: u16, code: &str| {
            number(&Fault::with_status(StatusCode::from_u16(status).expect("a status"), code, "x"))
        };
        for (status, code, expected) in [
            (401, "invalid_api_key", (401, 1000)),
            (401, "token_early", (401, 1003)),
            (403, "cross_site", (403, 1103)),
            (404, "model_not_found", (404, 1203)),
            (405, "", (404, 1202)),
            (413, "too_large", (400, 1200)),
            (415, "unsupported_media_type", (400, 1200)),
            (409, "duplicate", (400, 1201)),
            (409, "still_running", (429, 1302)),
            (429, "insufficient_quota", (429, 1102)),
            (429, "too_many_clips", (429, 1303)),
            (429, "queue_full", (429, 1302)),
            (500, "internal_error", (500, 5000)),
            (503, "model_unavailable", (503, 5001)),
            (507, "storage_full", (503, 5001)),
        ] {
            let (status, number) = of(status, code);
            assert_eq!((status.as_u16(), number), expected, "{code}");
        }
        let fault = Fault::invalid("sampling.guidance_scale", "it is too large");
        assert_eq!((number(&fault).1, message(&fault).as_str()), (1201, "cfg_scale: it is too large"));
        assert_eq!(message(&Fault::invalid("sound", "`sound` is not supported")), "`sound` is not supported");
    }
}

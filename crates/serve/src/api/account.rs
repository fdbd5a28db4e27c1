//! The caller's account, sessions of the page, and the models that are offered.

use super::media::json;
use crate::app::{App, now};
use crate::fault::{Answer, Fault};
use crate::guard::{COOKIE_NAME, Caller};
use crate::link;
use crate::protocol::ModelFacts;
use crate::sent::Sent;
use crate::store::keys::{self, Access};
use crate::view::Me;
use axum::Extension;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /api/me`.
pub async fn me(State(app): State<App>, Extension(caller): Extension<Caller>) -> Answer {
    Ok(json(StatusCode::OK, &Me::of(&app, &caller).await?))
}

/// A key that opens a session.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// `kin_…`.
    key: String,
}

/// The models that are offered.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Models {
    models: Vec<Model>,
    /// The settings of distilled models that are known.
    presets: Vec<String>,
}

/// A model.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Model {
    /// The name by which it is asked for.
    name: String,
    /// Whether it makes clips for which no model is named.
    #[serde(rename = "default")]
    is_default: bool,
    /// The longest clip of the caller's tier, in seconds.
    longest_seconds: f64,
    #[serde(flatten)]
    facts: Option<ModelFacts>,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// `POST /api/session` signs a page in; its key becomes a cookie that scripts cannot read.
pub async fn sign_in(State(app): State<App>, headers: HeaderMap, Sent { value: body, .. }: Sent<SignIn>) -> Answer {
    match app.store.read(move |connection| keys::find(connection, body.key.trim(), now())).await? {
        Access::Valid(key) => {
            let is_secure = app.config.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
                && headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
            let session = link::session(&app.secret, &key.id, now());
            let (seconds, secure) = (link::SESSION / 1000, if is_secure { "; Secure" } else { "" });
            let cookie =
                format!("{COOKIE_NAME}={session}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
            Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response())
        }
        _ => Err(Fault::unauthorised("the key is not known, has expired or was revoked")),
    }
}

/// `DELETE /api/session`.
pub async fn sign_out() -> Response {
    let cookie = format!("{COOKIE_NAME}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response()
}

/// `GET /api/models`.
pub async fn models(State(app): State<App>, Extension(caller): Extension<Caller>) -> Answer {
    let longest_seconds = app.tier(&caller.tier).longest_seconds;
    let mut models = Vec::new();
    for name in app.config.models.keys() {
        let Some((_, words)) = app.model(Some(name)) else { continue };
        let mut known = app.models.lock().await;
        let (facts, problem) = match known.get(name) {
            Some(facts) => (Some(facts.clone()), None),
            None => match app.desk.model(words).await {
                Ok(facts) => {
                    known.insert(name.clone(), facts.clone());
                    (Some(facts), None)
                }
                Err(problem) => (None, Some(problem.message)),
            },
        };
        drop(known);
        let is_default = *name == app.config.default_model;
        models.push(Model { name: name.clone(), is_default, longest_seconds, facts, problem });
    }
    models.sort_by_key(|model| !model.is_default);
    let presets = kinora::Preset::known().into_iter().map(|preset| preset.name).collect();
    Ok(json(StatusCode::OK, &Models { models, presets }))
}

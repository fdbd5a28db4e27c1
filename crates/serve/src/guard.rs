//! The guard: who asks, from where, and whether that may be. It stands before every route but the page's own files.
//!
//! A page of another site can make a browser ask this server: by forms, pictures, and, after it has changed where its name leads,
//! as if it were the same site. So the name that is asked for must be ours, and what a browser sends for another site is refused.

use crate::app::{App, now};
use crate::config::LOCAL;
use crate::fault::{Answer, Fault};
use crate::over;
use crate::store::keys::{self, Access, Key};
use crate::{link, token};
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;

/// The cookie of a page that is signed in.
pub const COOKIE_NAME: &str = "kinora_session";
/// The header that the page sends with everything that changes something.
const OWN_HEADER: &str = "x-kinora";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose clips they see.
    pub owner: String,
    /// Their tier.
    pub tier: String,
    /// What the key is called.
    pub name: String,
    /// The key's id; `None` without keys.
    pub key: Option<String>,
    /// The version of the secret that has signed, of a token.
    pub signed: Option<i64>,
    /// When the key, the session or the token is over, in milliseconds since 1970.
    pub until: Option<i64>,
    /// Whether keys exist at all.
    pub has_keys: bool,
}

impl Caller {
    /// The name of the caller's tier, which is one that there is.
    pub fn tier_of(&self, app: &App) -> String {
        let config = &app.config;
        if config.tiers.contains_key(&self.tier) { self.tier.clone() } else { config.default_tier.clone() }
    }
}

/// Lets requests through that may be answered, with the [`Caller`] in their extensions.
pub async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    match caller(&app, request.method(), request.uri(), request.headers()).await {
        Ok(caller) => {
            // A link is for a time, whatever becomes of keys.
            let is_link = caller.key.is_none() && caller.has_keys;
            let mut over = over::over(&app, caller.clone());
            request.extensions_mut().insert(caller);
            let response = tokio::select! {
                response = next.run(request) => response,
                () = &mut over, if !is_link => return Fault::unauthorised("the key is over").into_response(),
            };
            // What has a length already is in memory, and gone in a moment.
            let is_short = response.body().size_hint().exact().is_some();
            if is_short || is_link { response } else { response.map(|body| over::cut(body, over)) }
        }
        Err(fault) => fault.into_response(),
    }
}

/// Checks the names alone: for the page's own files, which anyone may read.
pub async fn guard_names(State(app): State<App>, request: Request, next: Next) -> Response {
    let checked = check_host(&app, request.headers()).and_then(|host| {
        if request.method().is_safe() { Ok(()) } else { check_origin(&app, &host, request.headers()) }
    });
    match checked {
        Ok(()) => next.run(request).await,
        Err(fault) => fault.into_response(),
    }
}

async fn caller(app: &App, method: &Method, uri: &Uri, headers: &HeaderMap) -> Answer<Caller> {
    let host = check_host(app, headers)?;
    // A link may be opened from anywhere.
    if let Some(owner) =
        link::owner_of(&app.secret, uri, now()).filter(|_| method == Method::GET || method == Method::HEAD)
    {
        let (tier, name) = (String::new(), String::new());
        return Ok(Caller { owner, tier, name, key: None, signed: None, until: None, has_keys: true });
    }
    check_origin(app, &host, headers)?;
    let has_keys = app.store.read(keys::any).await?;
    if !has_keys && app.config.host.is_loopback() && app.config.public_url.is_none() {
        let (tier, name) = (app.config.local_tier.clone(), LOCAL.into());
        return Ok(Caller { owner: LOCAL.into(), tier, name, key: None, signed: None, until: None, has_keys });
    }
    if let Some(text) = bearer(headers) {
        let text = text.to_string();
        if token::is_token(&text) {
            let own = app.secret;
            let signed = app.store.read(move |connection| token::verify(connection, &own, &text, now())).await?;
            let (key, until) = signed?;
            let signed = Some(key.version);
            return Ok(Caller { signed, ..admitted(app, key, Some(until)).await });
        }
        let found = app.store.read(move |connection| keys::find(connection, &text, now())).await?;
        return known(app, found, None).await;
    }
    let Some(session) = cookie(headers) else {
        return Err(Fault::unauthorised("there is no key: send it as `Authorization: Bearer kin_…`"));
    };
    if !method.is_safe() && !headers.contains_key(OWN_HEADER) {
        return Err(Fault::forbidden("missing_header", format!("a request of the page has the header `{OWN_HEADER}`")));
    }
    let Some((key, until)) = link::session_key(&app.secret, session, now()) else {
        return Err(Fault::unauthorised("the session is over: sign in again"));
    };
    let found = app.store.read(move |connection| match keys::get(connection, &key) {
        Ok(key) if key.revoked_at.is_some() => Ok(Access::Revoked(key)),
        Ok(key) if key.expires_at.is_some_and(|at| at <= now()) => Ok(Access::Expired(key)),
        Ok(key) => Ok(Access::Valid(key)),
        Err(_) => Ok(Access::Unknown),
    });
    known(app, found.await?, Some(until)).await
}

/// The caller with the key that was found, of a session that is over at `until`.
async fn known(app: &App, found: Access, until: Option<i64>) -> Answer<Caller> {
    match found {
        Access::Valid(key) => Ok(admitted(app, key, until).await),
        Access::Unknown => Err(Fault::unauthorised("the key is not known")),
        Access::Expired(_) => Err(Fault::unauthorised("the key has expired")),
        Access::Revoked(_) => Err(Fault::unauthorised("the key was revoked")),
    }
}

/// The caller with a key that is valid, in a session or with a token that is over at `until`.
async fn admitted(app: &App, key: Key, until: Option<i64>) -> Caller {
    let id = key.id.clone();
    // Only the time of its last use.
    let _ = app.store.write(move |transaction| keys::touch(transaction, &id, now())).await;
    let until = key.expires_at.into_iter().chain(until).min();
    let Key { id, owner, tier, name, .. } = key;
    Caller { owner, tier, name, key: Some(id), signed: None, until, has_keys: true }
}

/// The key of an `Authorization` header.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == COOKIE_NAME).then_some(value))
}

/// The one name that was asked for, if it is one of ours.
fn check_host(app: &App, headers: &HeaderMap) -> Answer<String> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Fault::with_status(StatusCode::BAD_REQUEST, "bad_host", "a request has one Host header"));
    };
    let host = host.to_str().unwrap_or_default().to_ascii_lowercase();
    if is_ours(app, &host) {
        return Ok(host);
    }
    let message = "this server has another name: the operator can add this one to `extra_hosts`";
    Err(Fault::with_status(StatusCode::MISDIRECTED_REQUEST, "unknown_host", message))
}

fn is_ours(app: &App, host: &str) -> bool {
    let config = &app.config;
    let own = ["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{}", config.port));
    let bound = match config.host {
        IpAddr::V6(address) => format!("[{address}]:{}", config.port),
        IpAddr::V4(address) => format!("{address}:{}", config.port),
    };
    let public = config.public_url.as_deref().and_then(|url| url.split_once("://")).map(|(_, host)| host);
    own.iter().any(|name| name == host)
        || bound == host
        || public == Some(host)
        || config.extra_hosts.iter().any(|name| name == host)
}

/// Refuses what a browser sends for another site.
fn check_origin(app: &App, host: &str, headers: &HeaderMap) -> Answer<()> {
    let refused =
        |what: &str| Err(Fault::forbidden("cross_site", format!("{what} another site may not ask this server")));
    if bearer(headers).is_some() && !headers.contains_key(COOKIE) {
        return Ok(()); // a browser sends no key by itself
    }
    for origin in headers.get_all(ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let is_own = origin == format!("http://{host}") || origin == format!("https://{host}");
        if !is_own && app.config.public_url.as_deref() != Some(origin) {
            return refused("the request has the origin of another site:");
        }
    }
    match headers.get("sec-fetch-site").map(axum::http::HeaderValue::as_bytes) {
        Some(b"cross-site" | b"same-site") => refused("the browser says that the request is of another site:"),
        _ => Ok(()),
    }
}

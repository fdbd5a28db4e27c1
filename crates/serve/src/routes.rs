//! Every route of the server, but the files of its page.

use crate::api::{account, kling, openai, own, parts, uploads};
use crate::app::App;
use crate::body;
use crate::decode::MOST_MULTIPART;
use crate::fault::Fault;
use crate::openapi::{self, Route};
use crate::sent::MOST;
use crate::view::{Clip, Me, Video};
use crate::{events, guard, web};
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Router, middleware};
use serde_json::Value;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;

const FORM: &str = "multipart/form-data";
const JSON: &str = "application/json";

/// OpenAI's interface, and whatever else takes files.
fn long() -> Vec<Route> {
    let form = |route: Route| route.takes_as(FORM, openai::form).takes_as(JSON, openai::form).gives::<Video>(200);
    vec![
        form(Route::post("/v1/videos", "Make a clip", openai::create)),
        Route::get("/v1/videos", "List clips", openai::list).query::<openai::Listing>().gives::<openai::Videos>(200),
        form(Route::post("/v1/videos/extensions", "Go on from the end of a clip", openai::from_clip)),
        form(Route::post("/v1/videos/edits", "Change a clip", openai::from_clip)),
        Route::post("/v1/videos/characters", "Not supported", openai::characters),
        Route::get("/v1/videos/characters", "Not supported", openai::characters),
        Route::get("/v1/videos/{id}", "A clip", openai::get).gives::<Video>(200),
        Route::delete("/v1/videos/{id}", "Delete a clip, and stop it before if it is being made", openai::delete)
            .gives::<openai::DeletedVideo>(200),
        Route::post("/v1/videos/{id}/remix", "The same settings with another prompt", openai::remix)
            .takes::<openai::Remix>()
            .takes_as(FORM, openapi::of::<openai::Remix>)
            .gives::<Video>(200),
        Route::get("/v1/videos/{id}/content", "The clip's file, or pictures of it", openai::content)
            .query::<openai::Content>()
            .gives_as(200, &["video/mp4", "image/png"])
            .gives_as(206, &["video/mp4", "image/png"])
            .gives_as(304, &[]),
        Route::get("/v1/models", "List models", openai::models).gives::<openai::ModelList>(200),
        Route::post("/api/files", "Upload a picture or clip", uploads::create)
            .takes_as(FORM, openapi::of::<uploads::Form>)
            .gives::<uploads::File>(201),
        Route::get("/api/files", "List uploads", uploads::list).gives::<uploads::Files>(200),
    ]
}

/// The server's own interface.
fn own() -> Vec<Route> {
    vec![
        Route::get("/api/me", "The caller, credits and storage", account::me).gives::<Me>(200),
        Route::get("/api/models", "The models that are offered", account::models).gives::<account::Models>(200),
        Route::post("/api/plan", "Say what a request would become", own::plan)
            .takes::<own::NewClips>()
            .gives::<own::Planned>(200),
        Route::post("/api/clips", "Make clips", own::create).takes::<own::NewClips>().gives::<own::Accepted>(201),
        Route::get("/api/clips", "List clips, the newest first", own::list)
            .query::<own::Listing>()
            .gives::<own::Clips>(200),
        Route::post("/api/clips/delete", "Delete clips", own::delete_all)
            .takes::<own::Deletion>()
            .gives::<own::Deleted>(200),
        Route::get("/api/clips/{id}", "A clip", own::get).gives::<Clip>(200),
        Route::patch("/api/clips/{id}", "Mark, pause, move or edit a clip", own::change)
            .takes::<own::Change>()
            .gives::<Clip>(200),
        Route::delete("/api/clips/{id}", "Delete a clip, and stop it before if it is being made", own::delete)
            .gives_as(204, &[]),
        Route::post("/api/clips/{id}/cancel", "Stop a clip, or take it from the queue", own::cancel).gives::<Clip>(200),
        Route::get("/api/clips/{id}/{file}", "A file of a clip, its recipe, or a link to it", parts::file)
            .words(&parts::PARTS)
            .query::<parts::Download>()
            .gives_as(200, &["video/mp4", "image/png", "image/webp", JSON])
            .gives_as(206, &["video/mp4", "image/png"])
            .gives_as(304, &[]),
        Route::post("/api/queue", "Hold back all waiting clips, or let them go on", own::queue)
            .takes::<own::Pause>()
            .gives::<own::Changed>(200),
        Route::post("/api/queue/cancel", "Cancel all waiting clips", own::cancel_waiting).gives::<own::Cancelled>(200),
        Route::get("/api/files/{id}", "An uploaded file", uploads::content)
            .gives_as(
                200,
                &["image/png", "image/jpeg", "image/webp", "image/gif", "video/mp4", "application/octet-stream"],
            )
            .gives_as(
                206,
                &["image/png", "image/jpeg", "image/webp", "image/gif", "video/mp4", "application/octet-stream"],
            )
            .gives_as(304, &[]),
        Route::delete("/api/files/{id}", "Delete an upload", uploads::delete).gives_as(204, &[]),
        Route::get(
            "/api/events",
            "A stream of everything that changes: snapshot, clip, progress, gone, me",
            events::events,
        )
        .gives_as(200, &["text/event-stream"]),
    ]
}

/// What needs no key.
fn open() -> Vec<Route> {
    vec![
        Route::post("/api/session", "Sign a page in: the key becomes a cookie", account::sign_in)
            .takes::<account::SignIn>()
            .gives_as(204, &[])
            .open(),
        Route::delete("/api/session", "Sign a page out", account::sign_out).gives_as(204, &[]).open(),
        Route::get("/healthz", "Whether the server answers", || async { "ok" }).gives_as(200, &["text/plain"]).open(),
    ]
}

/// All routes.
pub fn router(app: App) -> Router {
    let (long, own, open) = (long(), own(), open());
    let document = |value: Value| {
        let text: Arc<str> = value.to_string().into();
        get(move || async move { ([(CONTENT_TYPE, JSON)], text.to_string()) })
    };
    let own_document = document(openapi::document(&openapi::OWN, long.iter().chain(&own).chain(&open)));
    let kling_document = document(kling::document());
    let within = |routes: &[Route], most: u64| {
        let router = openapi::router(routes).method_not_allowed_fallback(wrong_method);
        router.layer(DefaultBodyLimit::disable()).layer(middleware::from_fn_with_state(most, body::limit))
    };
    let guarded = within(&long, MOST_MULTIPART).merge(within(&own, MOST));
    let guarded = guarded.layer(middleware::from_fn_with_state(app.clone(), guard::guard));
    let open = within(&open, MOST)
        .route("/openapi.json", own_document)
        .route("/kling/openapi.json", kling_document)
        .route("/api/{*rest}", any(nothing))
        .route("/v1/{*rest}", any(nothing))
        .fallback(page)
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard_names));
    guarded
        .merge(kling::router(&app))
        .merge(open)
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| Fault::internal().into_response()))
        .layer(middleware::from_fn_with_state(app.clone(), web::headers))
        .with_state(app)
}

async fn page(method: Method, request: axum::extract::Request) -> Response {
    if method == Method::GET || method == Method::HEAD {
        web::file(&request)
    } else {
        wrong_method().await.into_response()
    }
}

async fn nothing() -> Fault {
    Fault::not_found("not_found", "there is nothing under this address")
}

async fn wrong_method() -> Fault {
    Fault::with_status(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "this address has no such method")
}

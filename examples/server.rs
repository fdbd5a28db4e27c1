//! A clip over HTTP, from a server of one's own: `cargo run --release -p kinora --example server`, then
//! `curl -d '{"prompt": "a red ball", "seed": 7}' -H content-type:application/json http://127.0.0.1:3000/clip -o ball.mp4`.
//! (`kinora serve` is a whole one, with a queue and accounts.)
#![allow(clippy::print_stdout, reason = "it is what an example is for")]

use axum::Router;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use kinora::{LoadOptions, Output, Pipeline, Request};
use serde::Deserialize;
use serde_json::json;
use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;

/// What clients may ask for: never paths.
#[derive(Deserialize)]
struct Asked {
    prompt: String,
    seed: Option<u64>,
}

/// The model, and the permission to compute with it: one run takes all cores.
#[derive(Clone)]
struct Maker {
    pipeline: Arc<Pipeline>,
    turn: Arc<Semaphore>,
}

/// Serves until the process ends.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = LoadOptions::default().keep_warm(true);
    let pipeline = tokio::task::spawn_blocking(move || Pipeline::load(&options)).await??;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("http://{}/clip", listener.local_addr()?);
    axum::serve(listener, app(pipeline)).await?;
    Ok(())
}

/// The routes.
pub fn app(pipeline: Pipeline) -> Router {
    let maker = Maker { pipeline: Arc::new(pipeline), turn: Arc::new(Semaphore::new(1)) };
    Router::new().route("/clip", post(clip)).with_state(maker)
}

async fn clip(State(maker): State<Maker>, Json(asked): Json<Asked>) -> Response {
    let turn = maker.turn.acquire_owned().await.expect("it is never closed");
    // When the client goes away, axum drops this function at its next await, and the run stops.
    let abandoned = Arc::new(AtomicBool::new(false));
    let _guard = Abandon(abandoned.clone());
    let run = move || {
        let _turn = turn; // until the run has ended
        make(&maker.pipeline, asked, &abandoned)
    };
    match tokio::task::spawn_blocking(run).await {
        Ok(Ok(bytes)) => ([(CONTENT_TYPE, "video/mp4")], bytes).into_response(),
        Ok(Err(error)) => {
            let body = json!({"error": error.to_string(), "hint": error.hint(), "settings": error.settings()});
            (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Makes the clip, on a thread that may block.
fn make(pipeline: &Pipeline, asked: Asked, abandoned: &AtomicBool) -> kinora::Result<Vec<u8>> {
    let io = |source| kinora::Error::Io { path: std::env::temp_dir(), source };
    let folder = tempfile::tempdir().map_err(io)?;
    let request = Request::new(asked.prompt).seed(asked.seed).output(Output::new(folder.path().join("clip.mp4")));
    let stop = || if abandoned.load(Ordering::Relaxed) { Break(()) } else { Continue(()) };
    let report = pipeline.generate(&request, |_| stop())?;
    std::fs::read(report.clip).map_err(io)
}

/// Says that nobody waits any more.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

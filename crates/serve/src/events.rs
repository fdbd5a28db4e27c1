//! `GET /api/events`: one stream of everything that changes for its owner, from a snapshot on.

use crate::app::{App, Change, Told};
use crate::fault::Answer;
use crate::guard::Caller;
use crate::store::jobs::{self, Filter, Order, Status};
use crate::view::{Clip, Me, Views};
use axum::Extension;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Finished clips of a snapshot.
const NEWEST: u32 = 50;
/// A comment is sent after so long without an event, so that proxies keep the stream.
const ALIVE: Duration = Duration::from_secs(15);
/// Progress of a clip is sent at most once in this time.
const EVERY: Duration = Duration::from_millis(100);

/// A stream of one page.
struct Listener {
    app: App,
    caller: Caller,
    changes: Receiver<Change>,
    ending: tokio::sync::watch::Receiver<bool>,
    told: HashMap<String, Instant>,
    is_new: bool,
}

/// `GET /api/events`.
pub async fn events(State(app): State<App>, Extension(caller): Extension<Caller>) -> Answer<Response> {
    // Before the snapshot, so that no change falls between.
    let (changes, ending) = (app.changes.subscribe(), app.ending.subscribe());
    let listener = Listener { app, caller, changes, ending, told: HashMap::new(), is_new: true };
    let stream = stream::unfold(listener, |mut listener| async move {
        let events = listener.next().await?;
        Some((stream::iter(events.into_iter().map(Ok::<_, Infallible>)), listener))
    });
    Ok(respond(stream.flatten()))
}

fn respond(stream: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let mut response = Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE)).into_response();
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn event(name: &str, data: &Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

/// The clip, for all who listen.
async fn clip_text(app: &App, owner: String, id: String) -> Option<String> {
    let by = owner.clone();
    let job = app.store.read(move |connection| jobs::get(connection, &by, &id)).await.ok()?;
    serde_json::to_string(&Views::of(app, &owner).await.ok()?.clip(&job)).ok()
}

impl Listener {
    /// The next events; `None` at the end.
    async fn next(&mut self) -> Option<Vec<Event>> {
        if std::mem::take(&mut self.is_new) {
            return Some(self.snapshot().await.into_iter().collect());
        }
        loop {
            if *self.ending.borrow() {
                return None;
            }
            let change = tokio::select! {
                change = self.changes.recv() => change,
                _ = self.ending.changed() => return None,
            };
            let events = match change {
                Ok(change) => self.tell(change).await,
                // What was missed is in a new snapshot.
                Err(RecvError::Lagged(_)) => self.snapshot().await.into_iter().collect(),
                Err(RecvError::Closed) => return None,
            };
            if !events.is_empty() {
                return Some(events);
            }
        }
    }

    async fn tell(&mut self, change: Change) -> Vec<Event> {
        match change {
            Change::Clip { owner, id, told } if owner == self.caller.owner => {
                if self.app.live(&id).is_none() {
                    self.told.remove(&id);
                }
                let clip = told.clip.get_or_init(|| clip_text(&self.app, owner, id)).await;
                let Some(clip) = clip.clone() else { return Vec::new() };
                let me = self.me(&told).await;
                Some(Event::default().event("clip").data(clip)).into_iter().chain(me).collect()
            }
            Change::Gone { owner, id, told } if owner == self.caller.owner => {
                self.told.remove(&id);
                let me = self.me(&told).await;
                Some(event("gone", &json!({"id": id}))).into_iter().chain(me).collect()
            }
            Change::Progress { owner, id } if owner == self.caller.owner => self.progress(id),
            _ => Vec::new(),
        }
    }

    fn progress(&mut self, id: String) -> Vec<Event> {
        let Some(live) = self.app.live(&id) else { return Vec::new() };
        let is_due = self.told.get(&id).is_none_or(|told| told.elapsed() >= EVERY);
        if !is_due && live.done < live.total {
            return Vec::new();
        }
        let stage = json!({"stage": live.stage, "done": live.done, "total": live.total});
        let preview = Some(live.preview).filter(|preview| *preview > 0);
        let data = json!({"id": id, "progress": live.progress, "stage": stage, "seconds_left": live.seconds_left, "preview": preview});
        self.told.insert(id, Instant::now());
        vec![event("progress", &data)]
    }

    async fn me(&self, told: &Told) -> Option<Event> {
        let mut accounts = told.me.lock().await;
        if !accounts.contains_key(&self.caller.key) {
            let me = serde_json::to_string(&Me::of(&self.app, &self.caller).await.ok()?).ok()?;
            accounts.insert(self.caller.key.clone(), me);
        }
        Some(Event::default().event("me").data(accounts.get(&self.caller.key)?))
    }

    async fn snapshot(&self) -> Option<Event> {
        let owner = self.caller.owner.clone();
        let listed = self.app.store.read(move |connection| {
            let of = |statuses: &[Status], limit| {
                let filter = Filter { statuses: statuses.to_vec(), ..Filter::default() };
                jobs::list(connection, &owner, &filter, None, limit, Order::Descending).map(|page| page.jobs)
            };
            let mut jobs = of(&[Status::Queued, Status::Running, Status::Cancelling], 1000)?;
            jobs.extend(of(&[Status::Succeeded, Status::Failed, Status::Cancelled, Status::Expired], NEWEST)?);
            Ok(jobs)
        });
        let jobs = listed.await.ok()?;
        let views = Views::of(&self.app, &self.caller.owner).await.ok()?;
        let clips: Vec<Clip> = jobs.iter().map(|job| views.clip(job)).collect();
        let me = Me::of(&self.app, &self.caller).await.ok()?;
        Some(event("snapshot", &json!({"clips": clips, "me": me})))
    }
}

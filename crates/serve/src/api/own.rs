//! The server's own interface, `/api`: clips and their queue.

use super::media::{self, job, json};
use crate::app::{App, now};
use crate::create::{self, Origin, Shown};
use crate::dto::ClipRequest;
use crate::fault::{Answer, Fault};
use crate::guard::Caller;
use crate::protocol::ClipPlan;
use crate::sent::{Asked, Named, Sent};
use crate::store::jobs::{self, Api, Cancel, Edit, Filter, Job, Order, Status};
use crate::view::{Clip, Views};
use crate::{disk, id, idempotent};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json as value};
use std::borrow::Cow;
use std::time::Duration;

/// Clips in an answer, unless more or fewer are asked for; and the most.
const PAGE: u32 = 50;
const MOST: u32 = 200;
/// How long a deletion waits for a running clip to end.
const WAIT: Duration = Duration::from_secs(10);

/// Clips to make: a request, how many of it, with consecutive seeds, and who is told of their end.
#[derive(Debug)]
pub struct NewClips {
    request: ClipRequest,
    count: u64,
    callback_url: Option<Value>,
}

impl<'de> Deserialize<'de> for NewClips {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut fields = Map::deserialize(deserializer)?;
        let count = fields.remove("count").map_or(Some(1), |count| count.as_u64());
        let count = count.filter(|count| (1..=create::MOST).contains(count)).ok_or_else(|| {
            D::Error::custom(format!("the field `count` is a whole number from 1 to {}", create::MOST))
        })?;
        let callback_url = fields.remove("callback_url");
        Ok(Self { request: serde_json::from_value(fields.into()).map_err(D::Error::custom)?, count, callback_url })
    }
}

impl JsonSchema for NewClips {
    fn schema_name() -> Cow<'static, str> {
        "NewClips".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = ClipRequest::json_schema(generator);
        if let Some(fields) = schema.get_mut("properties") {
            let about = "How many clips, with consecutive seeds.";
            fields["count"] = value!({"description": about, "type": "integer", "minimum": 1, "maximum": create::MOST});
            let about =
                "The address that is told of their end: https:// or http://, public unless the operator allows others.";
            fields["callback_url"] =
                value!({"description": about, "type": ["string", "null"], "pattern": "^https?://"});
        }
        let sampling = value!({"steps": 2});
        let clip =
            value!({"prompt": "a red ball bounces", "width": 32, "height": 48, "frames": 5, "sampling": sampling});
        let shots = value!([{"prompt": "a red ball bounces"}, {"prompt": "it rolls away", "join": "cut"}]);
        let story = value!({"width": 32, "height": 48, "sampling": sampling, "shots": shots});
        schema.insert("examples".into(), value!([clip, story]));
        schema
    }
}

/// What a request would become.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Planned {
    plan: ClipPlan,
    /// The price of all clips, in credits.
    cost: i64,
    /// Seconds that one will take, as the plan's `time` has them.
    seconds: Option<f64>,
    /// Seconds until a worker begins it, if it is asked for now; null where it is not known how long a clip before it takes.
    wait: Option<f64>,
}

/// Clips that were accepted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Accepted {
    clips: Vec<Clip>,
}

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Clips {
    clips: Vec<Clip>,
    /// Whether there are more after the last one.
    has_more: bool,
}

/// `POST /api/plan`.
pub async fn plan(State(app): State<App>, Extension(caller): Extension<Caller>, sent: Sent<NewClips>) -> Answer {
    let NewClips { request, count, callback_url } = sent.value;
    create::callback(&app, callback_url)?;
    let (plan, cost) = create::plan(&app, &caller, &request).await?;
    let seconds = plan.time.map(|time| time.seconds);
    let wait = wait(&app, &caller.owner).await?;
    Ok(json(StatusCode::OK, &Planned { plan, cost: cost * count as i64, seconds, wait }))
}

/// Seconds until a worker begins a further clip of the owner.
async fn wait(app: &App, owner: &str) -> Answer<Option<f64>> {
    let owner = owner.to_string();
    let clips = app.store.read(move |connection| Ok((jobs::held(connection)?, jobs::before(connection, &owner)?)));
    let (held, mut clips) = clips.await?;
    let left =
        |job: &Job| app.live(&job.id).and_then(|live| live.seconds_left).or(job.plan["time"]["seconds"].as_f64());
    clips.extend(held.iter().map(left));
    let workers = app.config.workers as usize;
    if clips.len() < workers {
        return Ok(Some(0.0));
    }
    Ok(clips.into_iter().sum::<Option<f64>>().map(|seconds| seconds / workers as f64))
}

/// `POST /api/clips`.
pub async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Sent { value: NewClips { request, count, callback_url }, hash }: Sent<NewClips>,
) -> Answer {
    let origin = Origin { callback_url: create::callback(&app, callback_url)?, ..Origin::new(Api::Own) };
    let key = idempotent::Key::of(&headers, "POST /api/clips", hash);
    let (owner, shared) = (caller.owner.clone(), app.clone());
    let shown: Shown = |views, created| {
        let clips: Vec<Clip> = created.iter().map(|job| views.clip(job)).collect();
        (StatusCode::CREATED, value!(Accepted { clips }))
    };
    let work =
        move |ticket| async move { create::create(&app, &caller, &request, &origin, count, (ticket, shown)).await };
    idempotent::once(&shared, &owner, key, work).await
}

/// The query of a list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// The id of the last clip of the page before.
    after: Option<String>,
    /// The number of clips.
    limit: Option<u32>,
    /// States, with commas between them.
    status: Option<String>,
    /// Only those that are marked, or that are not.
    starred: Option<bool>,
    /// Words of their prompts.
    text: Option<String>,
}

/// `GET /api/clips`.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Asked(listing): Asked<Listing>,
) -> Answer {
    let words = listing.status.iter().flat_map(|words| words.split(',')).filter(|word| !word.is_empty());
    let statuses = words.map(|word| {
        let found = Status::ALL.iter().find(|status| status.word() == word).copied();
        found.ok_or_else(|| Fault::invalid("status", format!("`{word}` is no state of a clip")))
    });
    let statuses = statuses.collect::<Answer<Vec<Status>>>()?;
    let filter = Filter { statuses, starred: listing.starred, text: listing.text, ..Filter::default() };
    let limit = listing.limit.unwrap_or(PAGE).clamp(1, MOST);
    let (owner, after) = (caller.owner.clone(), listing.after);
    let page = app
        .store
        .read(move |connection| jobs::list(connection, &owner, &filter, after.as_deref(), limit, Order::Descending))
        .await?;
    let views = Views::of(&app, &caller.owner).await?;
    let clips: Vec<Clip> = page.jobs.iter().map(|job| views.clip(job)).collect();
    Ok(json(StatusCode::OK, &Clips { clips, has_more: page.more }))
}

async fn shown(app: &App, caller: &Caller, id: &str) -> Answer {
    let job = job(app, &caller.owner, id).await?;
    Ok(json(StatusCode::OK, &Views::of(app, &caller.owner).await?.clip(&job)))
}

/// `GET /api/clips/{id}`.
pub async fn get(State(app): State<App>, Extension(caller): Extension<Caller>, Named(id): Named<String>) -> Answer {
    shown(&app, &caller, &id).await
}

/// Cancels a clip that is not finished; a worker is told at once.
///
/// # Errors
/// It is not there, or finished already.
pub async fn cancel_job(app: &App, owner: &str, id: &str) -> Answer<Cancel> {
    let (by, name) = (owner.to_string(), id.to_string());
    let done = app.store.write(move |transaction| jobs::cancel(transaction, &by, &name, now())).await?;
    if matches!(done, Cancel::Cancelled) {
        media::remove(app, id).await; // what an earlier attempt has left
    }
    app.changed(owner, id);
    Ok(done)
}

/// `POST /api/clips/{id}/cancel`.
pub async fn cancel(State(app): State<App>, Extension(caller): Extension<Caller>, Named(id): Named<String>) -> Answer {
    cancel_job(&app, &caller.owner, &id).await?;
    shown(&app, &caller, &id).await
}

/// Deletes a clip and its files; one that is being made is stopped before.
///
/// # Errors
/// It is not there, or another clip needs it; a worker that does not end.
pub async fn delete_job(app: &App, owner: &str, id: &str) -> Answer<()> {
    let mut changes = app.changes.subscribe();
    let found = job(app, owner, id).await?;
    if !found.status.is_finished() {
        if found.status != Status::Cancelling {
            cancel_job(app, owner, id).await?;
        }
        let ended = async {
            // One that is not there any more was deleted by somebody else.
            while job(app, owner, id).await.is_ok_and(|job| !job.status.is_finished()) {
                let _ = tokio::time::timeout(Duration::from_millis(500), changes.recv()).await;
            }
        };
        tokio::time::timeout(WAIT, ended)
            .await
            .map_err(|_| Fault::conflict("still_running", "the clip is still being stopped: try again"))?;
    }
    let (by, name) = (owner.to_string(), id.to_string());
    app.store.write(move |transaction| jobs::delete(transaction, &by, &name, now())).await?;
    media::remove(app, id).await;
    app.gone(owner, id);
    Ok(())
}

/// `DELETE /api/clips/{id}`.
pub async fn delete(State(app): State<App>, Extension(caller): Extension<Caller>, Named(id): Named<String>) -> Answer {
    delete_job(&app, &caller.owner, &id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /api/clips/delete`.
pub async fn delete_all(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Sent { value: Deletion { ids, before }, .. }: Sent<Deletion>,
) -> Answer {
    let mut deleted = 0;
    for id in &ids {
        deleted += usize::from(delete_job(&app, &caller.owner, id).await.is_ok());
    }
    if let Some(before) = before {
        deleted += delete_before(&app, &caller.owner, before).await?;
    }
    Ok(json(StatusCode::OK, &Deleted { deleted }))
}

/// Deletes finished clips from before a time that are not marked; returns how many.
async fn delete_before(app: &App, owner: &str, before: i64) -> Answer<usize> {
    let statuses: Vec<Status> = Status::ALL.iter().copied().filter(|status| status.is_finished()).collect();
    let filter = Filter { statuses, starred: Some(false), ..Filter::default() };
    let (mut after, mut deleted) = (id::first(id::CLIP, before), 0);
    loop {
        let (by, filter, last) = (owner.to_string(), filter.clone(), after.clone());
        let listed = app
            .store
            .read(move |connection| jobs::list(connection, &by, &filter, Some(&last), MOST, Order::Descending));
        let page = listed.await?;
        for job in &page.jobs {
            deleted += usize::from(delete_job(app, owner, &job.id).await.is_ok());
            after.clone_from(&job.id);
        }
        if !page.more {
            return Ok(deleted);
        }
    }
}

/// Clips to delete.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Deletion {
    /// By their names.
    ids: Vec<String>,
    /// All finished ones from before this time that are not marked, in milliseconds since 1970.
    before: Option<i64>,
}

/// How many clips were deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Deleted {
    deleted: usize,
}

/// The parts of a clip that can be changed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Whether it is marked.
    starred: Option<bool>,
    /// Whether it waits until it is let go on.
    paused: Option<bool>,
    /// Another request, of one that waits.
    request: Option<ClipRequest>,
    /// The clip that it goes before in the queue; null is the front.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    before: Place,
}

/// A place in the queue.
#[derive(Debug, Default)]
enum Place {
    /// The one that it has: nothing is said.
    #[default]
    Own,
    /// The front: `null`.
    Front,
    /// Before another clip.
    Before(String),
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Front, Self::Before))
    }
}

/// `PATCH /api/clips/{id}`.
pub async fn change(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Named(id): Named<String>,
    Sent { value: change, .. }: Sent<Change>,
) -> Answer {
    let edit = match &change.request {
        Some(request) => Some(edit(&app, &caller, request).await?),
        None => None,
    };
    let (owner, name, is_edited) = (caller.owner.clone(), id.clone(), edit.is_some());
    let terms = app.config.terms(&caller.tier_of(&app), now())?;
    app.store
        .write(move |transaction| {
            if let Some(starred) = change.starred {
                jobs::star(transaction, &owner, &name, starred)?;
            }
            if let Some(paused) = change.paused {
                jobs::pause(transaction, &owner, &name, paused)?;
            }
            if let Some(edit) = &edit {
                jobs::edit(transaction, &owner, &name, edit, &terms, now())?;
            }
            match &change.before {
                Place::Own => Ok(()),
                Place::Front => jobs::move_before(transaction, &owner, &name, None),
                Place::Before(other) => jobs::move_before(transaction, &owner, &name, Some(other)),
            }
        })
        .await?;
    if is_edited {
        disk::remove([app.state_folder(&id)]).await; // it is of the earlier request
    }
    app.changed(&caller.owner, &id);
    app.work.notify_one();
    shown(&app, &caller, &id).await
}

async fn edit(app: &App, caller: &Caller, request: &ClipRequest) -> Answer<Edit> {
    let (plan, cost) = create::plan(app, caller, request).await?;
    let text = |_| Fault::invalid("request", "the request cannot be kept");
    Ok(Edit {
        prompt: request.prompts(),
        request: serde_json::to_value(request).map_err(text)?,
        plan: serde_json::to_value(&plan).map_err(text)?,
        seed: plan.seed.parse().ok(),
        inputs: request.files().into_iter().map(str::to_string).collect(),
        cost,
    })
}

/// `POST /api/queue` pauses all waiting clips, or lets them go on.
pub async fn queue(State(app): State<App>, Extension(caller): Extension<Caller>, sent: Sent<Pause>) -> Answer {
    let owner = caller.owner.clone();
    let changed = app
        .store
        .write(move |transaction| {
            let waiting = jobs::waiting(transaction, &owner)?;
            for id in &waiting {
                jobs::pause(transaction, &owner, id, sent.value.paused)?;
            }
            Ok(waiting)
        })
        .await?;
    for id in &changed {
        app.changed(&caller.owner, id);
    }
    app.work.notify_one();
    Ok(json(StatusCode::OK, &Changed { changed: changed.len() }))
}

/// Whether waiting clips are held back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    paused: bool,
}

/// How many clips were held back, or let go on.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Changed {
    changed: usize,
}

/// How many clips were cancelled.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Cancelled {
    cancelled: usize,
}

/// `POST /api/queue/cancel` cancels all waiting clips, and none that is being made.
pub async fn cancel_waiting(State(app): State<App>, Extension(caller): Extension<Caller>) -> Answer {
    let owner = caller.owner.clone();
    let cancelled = app.store.write(move |transaction| jobs::cancel_waiting(transaction, &owner, now())).await?;
    for id in &cancelled {
        app.changed(&caller.owner, id);
    }
    Ok(json(StatusCode::OK, &Cancelled { cancelled: cancelled.len() }))
}

//! Kling's interface: `/v1/videos/text2video`, `image2video` and `video-extend`, and `/account/costs`.

mod camera;
mod document;
pub mod errors;
mod fields;
pub mod view;

use super::media::{self, json};
use super::uploads::Brought;
use crate::app::{App, now};
use crate::body;
use crate::create::{self, Origin, Shown};
use crate::decode::{Fields, MOST_JSON};
use crate::dto::ClipRequest;
use crate::fault::{Answer, Fault, echo};
use crate::guard::{Caller, guard};
use crate::idempotent::{self, Key};
use crate::openapi::{self, Of, Route};
use crate::protocol::seconds_of;
use crate::sent::{self, Named};
use crate::store::jobs::{self, Api, Filter, Job, Kind};
use crate::store::ledger;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::{Extension, Router, middleware};
use errors::{Success, success};
use fields::{Asked, OWN_GUIDANCE, Task};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;
use view::{AcceptedTask, Links};

/// The longest clip that an extension makes, in seconds.
const LONGEST: f64 = 180.0;
/// Tasks of a page, if nothing is said; the most, and the last page.
const PAGE: u32 = 30;
const MOST: u32 = 500;
const LAST_PAGE: u32 = 1000;

/// What anyone with a key may ask.
fn routes() -> Vec<Route> {
    let tasks: [(Task, &'static str, Of); 3] = [
        (Task::Text, "Make a clip from a prompt", document::text),
        (Task::Image, "Make a clip from pictures", document::image),
        (Task::Extend, "Go on from the end of a clip", document::extend),
    ];
    let of = |(task, about, body): (Task, &'static str, Of)| {
        let [all, one] = task.paths();
        [
            Route::post(all, about, create).takes_as("application/json", body).gives::<Success<AcceptedTask>>(200),
            Route::get(all, "List tasks, the newest first", list).query::<Listing>().gives::<Success<Found>>(200),
            Route::get(one, "A task, by its name or the client's", find).gives::<Success<view::Task>>(200),
        ]
        .map(|route| route.knows(task))
    };
    let costs = Route::get("/account/costs", "The day's credits", costs).query::<Costs>();
    tasks.into_iter().flat_map(of).chain([costs.gives::<Success<Packs>>(200)]).collect()
}

/// The document of the routes.
pub fn document() -> Value {
    openapi::document(&document::ABOUT, &routes())
}

/// The routes, with errors in Kling's shape.
pub fn router(app: &App) -> Router<App> {
    openapi::router(&routes())
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| Fault::internal().into_response()))
        .method_not_allowed_fallback(async || {
            Fault::with_status(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "this address has no such method")
        })
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(MOST_JSON, body::limit))
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .layer(middleware::from_fn(errors::shape))
}

/// `POST /v1/videos/{kind}`.
async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(task): Extension<Task>,
    request: Request,
) -> Answer {
    let (app, caller) = (&app, &caller);
    let headers = request.headers().clone();
    let mut fields = Fields::read(app, caller, request).await?;
    if let Some(name) = fields.files.keys().next() {
        return Err(Fault::invalid(name, format!("`{}` takes no file: pictures are base64 in JSON", echo(name))));
    }
    let [route, _] = task.paths();
    let key = Key::of(&headers, route, fields.hash);
    let asked = Asked::read(&app.config, task, std::mem::take(&mut fields.values))?;
    let brought = Brought::new(app, caller);
    let work = move |ticket| async move {
        let (request, origin) = clip(&brought, &mut fields, asked).await?;
        let shown: Shown = |_, created| (StatusCode::OK, success(created.first().map(view::accepted)));
        let created = create::create(&brought.app, &brought.caller, &request, &origin, 1, (ticket, shown)).await?;
        brought.stay();
        Ok(created)
    };
    idempotent::once(app, &caller.owner, key, work).await
}

/// The clip of a task.
async fn clip(brought: &Brought, fields: &mut Fields, asked: Asked) -> Answer<(ClipRequest, Origin)> {
    let (app, caller) = (&brought.app, &brought.caller);
    let Asked { mut request, pictures, video, adherence, external_id, callback_url } = asked;
    check_name(app, caller, external_id.as_deref()).await?;
    let mut origin = Origin { external_id, callback_url, ..Origin::new(Api::Kling) };
    if let Some(video) = video {
        let source = media::job(app, &caller.owner, &video).await?;
        request = continued(&source, request)?;
        (origin.kind, origin.parent) = (Kind::Extend, Some(source.id));
    }
    let [first, last] = pictures;
    request.image = brought.keep_picture(fields, "image", first).await?;
    request.last_image = brought.keep_picture(fields, "image_tail", last).await?;
    Ok((guided(app, caller, request, adherence).await?, origin))
}

/// Refuses a name that a task of the owner has already, before anything is done for it.
async fn check_name(app: &App, caller: &Caller, name: Option<&str>) -> Answer<()> {
    let Some(name) = name.map(str::to_string) else { return Ok(()) };
    let (owner, own) = (caller.owner.clone(), name.clone());
    match app.store.read(move |connection| jobs::by_external(connection, &owner, &own)).await? {
        Some(job) => Err(crate::Error::Duplicate { external_id: name, id: job.id }.into()),
        None => Ok(()),
    }
}

/// The request of a clip that goes on: in the model, the mode and the settings of its source, and if nothing else is said, with
/// its prompts.
fn continued(source: &Job, asked: ClipRequest) -> Answer<ClipRequest> {
    let result = source.result.as_ref().filter(|_| crate::app::is_there(source));
    let result = result.ok_or_else(|| Fault::invalid("video_id", "the clip `video_id` is not made, or not kept"))?;
    let total = seconds_of(result) + asked.seconds.unwrap_or_default();
    if total > LONGEST {
        let what = format!("`video_id`: a clip of {total:.1} s is longer than three minutes");
        return Err(Fault::invalid("video_id", what));
    }
    let kept: ClipRequest = serde_json::from_value(source.request.clone())
        .map_err(|_| Fault::invalid("video_id", "the settings of that clip are not there any more"))?;
    let prompt = if asked.prompt.is_empty() { kept.prompt } else { asked.prompt };
    Ok(ClipRequest {
        model: kept.model,
        prompt,
        negative_prompt: asked.negative_prompt.or(kept.negative_prompt),
        seconds: asked.seconds,
        mode: kept.mode,
        preset: kept.preset,
        sampling: kept.sampling,
        extend: Some(source.id.clone()),
        ..ClipRequest::default()
    })
}

/// The request with the guidance that an adherence to the prompt means: 0.5 is the model's own scale, 0 none, and 1 twice as much
/// above none. A mode without guidance stays without it.
async fn guided(app: &App, caller: &Caller, request: ClipRequest, adherence: Option<f64>) -> Answer<ClipRequest> {
    let Some(adherence) = adherence else { return Ok(request) };
    let mut request = request;
    (request.sampling.guidance_scale, request.sampling.guidance_scale_2) = (None, None);
    if (adherence - OWN_GUIDANCE).abs() > 1e-9 {
        let (plan, _) = create::plan(app, caller, &request).await?;
        let mut scales = plan.guidance_scale.iter().map(|own| 1.0 + (own - 1.0).max(0.0) * adherence / OWN_GUIDANCE);
        (request.sampling.guidance_scale, request.sampling.guidance_scale_2) = (scales.next(), scales.next());
    }
    Ok(request)
}

/// The links of answers: clients reach the server as they have done.
fn links(app: &App, headers: &HeaderMap) -> Links {
    let asked = headers.get(HOST).and_then(|host| host.to_str().ok()).map(|host| format!("http://{host}"));
    let base = app.config.public_url.clone().or(asked).unwrap_or_default();
    Links { secret: app.secret, base }
}

/// Which clips are tasks of the kind.
fn filter(task: Task) -> Filter {
    let (kind, pictured) = match task {
        Task::Text => (Kind::Clip, Some(false)),
        Task::Image => (Kind::Clip, Some(true)),
        Task::Extend => (Kind::Extend, None),
    };
    Filter { api: Some(Api::Kling), kind: Some(kind), pictured, ..Filter::default() }
}

fn is_of(job: &Job, task: Task) -> bool {
    let has_picture = ["image", "last_image"].iter().any(|name| !job.request[*name].is_null());
    let Filter { api, kind, pictured, .. } = filter(task);
    api == Some(job.api) && kind == Some(job.kind) && pictured.is_none_or(|pictured| pictured == has_picture)
}

async fn one(app: &App, caller: &Caller, task: Task, name: String, headers: &HeaderMap) -> Answer<view::Task> {
    let (owner, own) = (caller.owner.clone(), name.clone());
    let found = app.store.read(move |connection| {
        let job = match jobs::get(connection, &owner, &own) {
            Err(crate::Error::NotFound { .. }) => jobs::by_external(connection, &owner, &own)?,
            found => Some(found?),
        };
        let Some(job) = job.filter(|job| is_of(job, task)) else { return Ok(None) };
        let parent = view::parent_of(connection, &job)?;
        Ok(Some((job, parent)))
    });
    let missing = || {
        let what = format!("there is no task `{}` of {}", echo(&name), task.word());
        Fault::not_found("task_not_found", what)
    };
    let (job, parent) = found.await?.ok_or_else(missing)?;
    Ok(view::task(&links(app, headers), &job, parent.as_ref(), now()))
}

/// `GET /v1/videos/{kind}/{task}`, by the server's name of the task or by the client's.
async fn find(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(task): Extension<Task>,
    Named(name): Named<String>,
    headers: HeaderMap,
) -> Answer {
    let task = one(&app, &caller, task, name, &headers).await?;
    Ok(json(StatusCode::OK, &success(task)))
}

/// The query of a list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Listing {
    /// The number of the page.
    #[schemars(with = "Option<u32>", range(min = 1, max = 1000))]
    page_num: Option<String>,
    /// Tasks of a page.
    #[schemars(with = "Option<u32>", range(min = 1, max = 500))]
    page_size: Option<String>,
    /// The client's name of the one task that is wanted.
    #[serde(rename = "external_task_id")]
    external_task_id: Option<String>,
}

/// The answer to a query.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum Found {
    /// The task that has the name.
    One(view::Task),
    /// A page of tasks.
    Page(Vec<view::Task>),
}

/// `GET /v1/videos/{kind}`: a page, the newest first, or the one task that the client has given a name.
async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(task): Extension<Task>,
    sent::Asked(listing): sent::Asked<Listing>,
    headers: HeaderMap,
) -> Answer {
    if let Some(name) = listing.external_task_id {
        let task = one(&app, &caller, task, name, &headers).await?;
        return Ok(json(StatusCode::OK, &success(Found::One(task))));
    }
    let number = |name: &str, text: Option<String>, usual: u32, most: u32| {
        let number = text.map_or(Some(usual), |text| text.parse().ok()).filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| Fault::invalid(name, format!("`{name}` is a number from 1 to {most}")))
    };
    let page = number("pageNum", listing.page_num, 1, LAST_PAGE)?;
    let size = number("pageSize", listing.page_size, PAGE, MOST)?;
    let (owner, links) = (caller.owner.clone(), links(&app, &headers));
    let found = app.store.read(move |connection| {
        let page = jobs::numbered_page(connection, &owner, &filter(task), (page - 1) * size, size)?;
        let task = |job| Ok(view::task(&links, job, view::parent_of(connection, job)?.as_ref(), now()));
        page.iter().map(task).collect::<crate::Result<Vec<view::Task>>>()
    });
    Ok(json(StatusCode::OK, &success(Found::Page(found.await?))))
}

/// The query of an account.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Costs {
    /// Milliseconds since 1970.
    #[schemars(with = "Option<i64>")]
    start_time: Option<String>,
    /// Milliseconds since 1970.
    #[schemars(with = "Option<i64>")]
    end_time: Option<String>,
    resource_pack_name: Option<String>,
}

/// The packs of an account.
#[derive(Debug, Serialize, JsonSchema)]
struct Packs {
    /// 0.
    code: u16,
    /// `SUCCEED`.
    msg: &'static str,
    resource_pack_subscribe_infos: Vec<Pack>,
}

/// The credits of a day. Times are milliseconds since 1970.
#[derive(Debug, Serialize, JsonSchema)]
struct Pack {
    /// The tier.
    resource_pack_name: String,
    resource_pack_id: String,
    /// `constant_period`.
    resource_pack_type: &'static str,
    total_quantity: i64,
    remaining_quantity: i64,
    purchase_time: i64,
    effective_time: i64,
    invalid_time: i64,
    /// `online` or `runOut`.
    status: &'static str,
}

/// `GET /account/costs`: the day's credits as a pack, if it falls into the time that is asked for; none without a limit.
async fn costs(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    sent::Asked(query): sent::Asked<Costs>,
) -> Answer {
    let time = |name: &str, text: Option<String>, usual: i64| {
        let time = text.map_or(Some(usual), |text| text.parse().ok());
        time.ok_or_else(|| Fault::invalid(name, format!("`{name}` is a time in milliseconds")))
    };
    let from = time("start_time", query.start_time, i64::MIN)?;
    let to = time("end_time", query.end_time, i64::MAX)?;
    let (tier, now) = (caller.tier_of(&app), now());
    let terms = app.config.terms(&tier, now)?;
    let owner = caller.owner.clone();
    let left = app.store.read(move |connection| ledger::left(connection, &owner, &terms)).await?;
    let (begins, ends) = (app.config.time_zone.this_day(now), app.config.time_zone.next_day(now));
    let pack = left.zip(terms.credits).map(|(left, credits)| Pack {
        resource_pack_name: tier.clone(),
        resource_pack_id: format!("{tier}-{}", terms.day),
        resource_pack_type: "constant_period",
        total_quantity: credits,
        remaining_quantity: left,
        purchase_time: begins,
        effective_time: begins,
        invalid_time: ends,
        status: if left > 0 { "online" } else { "runOut" },
    });
    let is_named = query.resource_pack_name.is_none_or(|name| name == tier);
    let packs = pack.into_iter().filter(|_| is_named && from < ends && to >= begins).collect();
    let packs = Packs { code: 0, msg: "SUCCEED", resource_pack_subscribe_infos: packs };
    Ok(json(StatusCode::OK, &success(packs)))
}

//! Kling's interface: `/v1/videos/text2video`, `image2video` and `video-extend`, and `/account/costs`.

mod camera;
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
use crate::protocol::seconds_of;
use crate::sent::{self, Named};
use crate::store::jobs::{self, Api, Filter, Job, Kind};
use crate::store::ledger;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Router, middleware};
use errors::success;
use fields::{Asked, OWN_GUIDANCE, Task};
use serde::Deserialize;
use serde_json::{Value, json as value};
use tower_http::catch_panic::CatchPanicLayer;
use view::Links;

/// The longest clip that an extension makes, in seconds.
const LONGEST: f64 = 180.0;
/// Tasks of a page, if nothing is said; the most, and the last page.
const PAGE: u32 = 30;
const MOST: u32 = 500;
const LAST_PAGE: u32 = 1000;

/// The routes, with errors in Kling's shape.
pub fn router(app: &App) -> Router<App> {
    let routes = [(Task::Text, post(text)), (Task::Image, post(image)), (Task::Extend, post(extend))];
    let tasks = routes.into_iter().fold(Router::new(), |router, (task, create)| {
        let path = format!("/v1/videos/{}", task.word());
        let one = get(find).layer(Extension(task));
        router.route(&path, create.get(list).layer(Extension(task))).route(&format!("{path}/{{task}}"), one)
    });
    tasks
        .route("/account/costs", get(costs))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| Fault::internal().into_response()))
        .method_not_allowed_fallback(async || {
            Fault::with_status(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "this address has no such method")
        })
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(MOST_JSON, body::limit))
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .layer(middleware::from_fn(errors::shape))
}

/// `POST /v1/videos/text2video`.
pub async fn text(State(app): State<App>, Extension(caller): Extension<Caller>, request: Request) -> Answer {
    create(&app, &caller, Task::Text, "POST /v1/videos/text2video", request).await
}

/// `POST /v1/videos/image2video`.
pub async fn image(State(app): State<App>, Extension(caller): Extension<Caller>, request: Request) -> Answer {
    create(&app, &caller, Task::Image, "POST /v1/videos/image2video", request).await
}

/// `POST /v1/videos/video-extend`.
pub async fn extend(State(app): State<App>, Extension(caller): Extension<Caller>, request: Request) -> Answer {
    create(&app, &caller, Task::Extend, "POST /v1/videos/video-extend", request).await
}

async fn create(app: &App, caller: &Caller, task: Task, route: &'static str, request: Request) -> Answer {
    let headers = request.headers().clone();
    let mut fields = Fields::read(app, caller, request).await?;
    if let Some(name) = fields.files.keys().next() {
        return Err(Fault::invalid(name, format!("`{}` takes no file: pictures are base64 in JSON", echo(name))));
    }
    let key = Key::of(&headers, route, fields.hash);
    let asked = Asked::read(&app.config, task, std::mem::take(&mut fields.values))?;
    let brought = Brought::new(app, caller);
    let work = move |ticket| async move {
        let (request, origin) = clip(&brought, &mut fields, asked).await?;
        let shown: Shown =
            |_, created| (StatusCode::OK, success(&created.first().map(view::accepted).unwrap_or_default()));
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

async fn one(app: &App, caller: &Caller, task: Task, name: String, headers: &HeaderMap) -> Answer {
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
    Ok(json(StatusCode::OK, &success(&view::task(&links(app, headers), &job, parent.as_ref()))))
}

/// `GET /v1/videos/{kind}/{task}`, by the server's name of the task or by the client's.
pub async fn find(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(task): Extension<Task>,
    Named(name): Named<String>,
    headers: HeaderMap,
) -> Answer {
    one(&app, &caller, task, name, &headers).await
}

/// The query of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listing {
    page_num: Option<String>,
    page_size: Option<String>,
    #[serde(rename = "external_task_id")]
    external_task_id: Option<String>,
}

/// `GET /v1/videos/{kind}`: a page, the newest first, or the one task that the client has given a name.
pub async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(task): Extension<Task>,
    sent::Asked(listing): sent::Asked<Listing>,
    headers: HeaderMap,
) -> Answer {
    if let Some(name) = listing.external_task_id {
        return one(&app, &caller, task, name, &headers).await;
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
        let tasks = page.iter().map(|job| Ok(view::task(&links, job, view::parent_of(connection, job)?.as_ref())));
        tasks.collect::<crate::Result<Vec<Value>>>()
    });
    Ok(json(StatusCode::OK, &success(&found.await?.into())))
}

/// The query of an account.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    start_time: Option<String>,
    end_time: Option<String>,
    resource_pack_name: Option<String>,
}

/// `GET /account/costs`: the day's credits as a pack, if it falls into the time that is asked for; none without a limit.
pub async fn costs(
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
    let pack = left.zip(terms.credits).map(|(left, credits)| {
        value!({
            "resource_pack_name": tier,
            "resource_pack_id": format!("{tier}-{}", terms.day),
            "resource_pack_type": "constant_period",
            "total_quantity": credits,
            "remaining_quantity": left,
            "purchase_time": begins,
            "effective_time": begins,
            "invalid_time": ends,
            "status": if left > 0 { "online" } else { "runOut" },
        })
    });
    let is_named = query.resource_pack_name.is_none_or(|name| name == tier);
    let packs: Vec<Value> = pack.into_iter().filter(|_| is_named && from < ends && to >= begins).collect();
    let data = value!({"code": 0, "msg": "SUCCEED", "resource_pack_subscribe_infos": packs});
    Ok(json(StatusCode::OK, &success(&data)))
}

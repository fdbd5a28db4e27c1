//! A clip is accepted: planned, priced, and put into the queue.

use crate::app::{App, now};
use crate::config::Mode;
use crate::dto::ClipRequest;
use crate::fault::{Answer, Fault, echo};
use crate::guard::Caller;
use crate::id;
use crate::idempotent::Ticket;
use crate::inputs;
use crate::protocol::{self, ClipPlan};
use crate::store::jobs::{self, Api, Job, Kind, NewJob};
use crate::store::{assets, outbox};
use crate::view::Views;
use axum::http::StatusCode;
use serde_json::Value;

/// The most clips of one request.
pub const MOST: u64 = 16;

/// The facts about a clip beside its request.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The interface that asks.
    pub api: Api,
    /// The kind of thing that the clip is made of.
    pub kind: Kind,
    /// The clip that it is made from.
    pub parent: Option<String>,
    /// The client's own name for it.
    pub external_id: Option<String>,
    /// Who is told of its end.
    pub callback_url: Option<String>,
}

impl Origin {
    /// A clip of its own.
    pub fn new(api: Api) -> Self {
        Self { api, kind: Kind::Clip, parent: None, external_id: None, callback_url: None }
    }
}

/// The address that a client wants told of its clip.
///
/// # Errors
/// Something else than an address, and one that the server does not connect to.
pub fn callback(app: &App, url: Option<Value>) -> Answer<Option<String>> {
    let wrong = |what: String| Fault::invalid("callback_url", format!("`callback_url`: {what}"));
    match url {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(url)) => app.config.outgoing.check(&url).map(|()| Some(url)).map_err(wrong),
        Some(other) => Err(wrong(format!("{} is no address", echo(other)))),
    }
}

/// Plans a request, with the limits of the caller.
///
/// # Errors
/// A model that is not offered, files that are not there, a request that cannot be, a clip that is too long or needs more memory
/// than there is.
pub async fn plan(app: &App, caller: &Caller, request: &ClipRequest) -> Answer<(ClipPlan, i64)> {
    let Some((name, model)) = app.model(request.model.as_deref()) else {
        let known: Vec<&str> = app.config.models.keys().map(String::as_str).collect();
        let asked = echo(request.model.as_deref().unwrap_or_default());
        let fault =
            Fault::not_found("model_not_found", format!("there is no model `{asked}`; there is {}", known.join(", ")));
        return Err(Fault { param: Some("model".into()), ..fault });
    };
    // Before anything is done for each of them.
    let most = app.tier(&caller.tier).shots;
    if request.shots.len() as u64 > most.get().unwrap_or(u64::MAX) {
        return Err(Fault::invalid(
            "shots",
            format!("a story of {} shots has more than the {most} that the tier allows", request.shots.len()),
        ));
    }
    let files = inputs::files(app, &caller.owner, request).await?;
    let plan = app.desk.plan(model, request.clone(), files).await.map_err(|problem| {
        // A wrong word of the request, not of the server's models.
        Fault::from(problem)
    })?;
    // What a worker uses now will be free when it is this clip's turn.
    if !plan.fits && app.capacity.is_some_and(|capacity| plan.memory > capacity) {
        let memory = plan.memory as f64 / 1e9;
        let what = format!("the clip needs about {memory:.1} GB of memory, more than {name} can have here");
        return Err(Fault { code: "too_large".into(), ..Fault::invalid("size", what) });
    }
    let longest = app.tier(&caller.tier).longest_seconds;
    let before = match &request.extend {
        Some(clip) => seconds_of(app, &caller.owner, clip).await?,
        None => 0.0,
    };
    let total = before + length(request, &plan);
    if total > longest {
        let what = format!("a clip of {total:.1} s is longer than the {longest} s that the tier allows");
        return Err(Fault::invalid("seconds", what));
    }
    let cost = app.config.prices.credits(price_mode(request), priced_seconds(request, &plan))?;
    Ok((plan, cost))
}

/// The length of a clip: what is asked for, and of a story at least what is made, as every shot has a shortest length.
fn length(request: &ClipRequest, plan: &ClipPlan) -> f64 {
    match request.asked_seconds() {
        Some(asked) => asked.max(story_seconds(request, plan)),
        None => plan.seconds,
    }
}

/// The length of a story as it is planned, 0 of another clip. As everywhere, the frame at the start of a shot counts for nothing,
/// but a shot counts for one frame at least.
fn story_seconds(request: &ClipRequest, plan: &ClipPlan) -> f64 {
    let shots = request.shots.len();
    if shots == 0 { 0.0 } else { plan.frames.saturating_sub(shots).max(shots) as f64 / plan.fps }
}

/// The length that is priced: that of the request, and of a story at least what is made; with more frames a second than the
/// model's own, that of as many frames of its own.
fn priced_seconds(request: &ClipRequest, plan: &ClipPlan) -> f64 {
    match request.asked_seconds().filter(|_| plan.fps <= plan.own_fps) {
        Some(asked) => asked.max(story_seconds(request, plan)),
        None => plan.frames.saturating_sub(1).max(1) as f64 / plan.own_fps.max(1.0),
    }
}

/// The length of a clip or an upload of the owner, in seconds.
async fn seconds_of(app: &App, owner: &str, id: &str) -> Answer<f64> {
    let (owner, id) = (owner.to_string(), id.to_string());
    let seconds = app.store.read(move |connection| {
        if id::is(id::UPLOAD, &id) {
            let facts = assets::get(connection, &owner, &id)?.facts;
            return Ok(f64::from(facts.frames) / facts.fps.unwrap_or(1.0).max(1.0));
        }
        Ok(jobs::get(connection, &owner, &id)?.result.as_ref().map_or(0.0, protocol::seconds_of))
    });
    Ok(seconds.await?)
}

/// The mode by which a clip is priced; the model's own settings are those of quality.
fn price_mode(request: &ClipRequest) -> Mode {
    // Other settings than the mode's may take as long as those of quality; guidance is at most a second prediction per step.
    let sampling = request.sampling.clone().guidance_scale(None).guidance_scale_2(None);
    let is_fast = request.mode.as_deref() == Some("fast") && sampling == kinora::Sampling::default();
    if is_fast { Mode::Fast } else { Mode::Quality }
}

/// An answer about clips that were accepted.
pub type Shown = fn(&Views<'_>, &[Job]) -> (StatusCode, Value);

/// Accepts `count` clips with consecutive seeds, all or none, and keeps the answer that `shown` makes of them.
///
/// # Errors
/// As of [`plan`], and when the caller's credits or limits do not cover them.
pub async fn create(
    app: &App,
    caller: &Caller,
    request: &ClipRequest,
    origin: &Origin,
    count: u64,
    (ticket, shown): (Ticket, Shown),
) -> Answer<(StatusCode, Value)> {
    let (plan, cost) = plan(app, caller, request).await?;
    let first: u64 = plan.seed.parse().unwrap_or_default();
    let inputs: Vec<String> = request.files().into_iter().map(str::to_string).collect();
    let json = |value: serde_json::Result<Value>| value.map_err(|_| Fault::internal());
    let (stored, planned) = (json(serde_json::to_value(request))?, json(serde_json::to_value(&plan))?);
    let now = now();
    let terms = app.config.terms(&caller.tier_of(app), now)?;
    let new = |index: u64| NewJob {
        owner: caller.owner.clone(),
        api: origin.api,
        kind: origin.kind,
        parent: origin.parent.clone(),
        external_id: origin.external_id.clone(),
        prompt: request.prompts(),
        request: stored.clone(),
        plan: planned.clone(),
        seed: Some(first.wrapping_add(index)),
        inputs: inputs.clone(),
        callback_url: origin.callback_url.clone(),
        paused: false,
        cost,
    };
    let all: Vec<NewJob> = (0..count).map(new).collect();
    let (owner, shared) = (caller.owner.clone(), app.clone());
    let created = app.store.write(move |transaction| {
        for upload in inputs.iter().filter(|input| id::is(id::UPLOAD, input)) {
            assets::touch(transaction, &owner, upload, now)?;
        }
        if let Some(url) = all.first().and_then(|new| new.callback_url.as_ref()) {
            outbox::open(transaction, &owner, url)?;
        }
        let inserted = all.iter().map(|new| jobs::insert(transaction, new, &terms, now));
        let created = inserted.collect::<crate::Result<Vec<Job>>>()?;
        let (status, value) = shown(&Views::within(&shared, transaction, &owner)?, &created);
        ticket.answer(transaction, status, &value)?;
        Ok((created, (status, value)))
    });
    let (created, answer) = created.await?;
    for job in &created {
        app.changed(&job.owner, &job.id);
    }
    app.work.notify_waiters();
    app.work.notify_one();
    Ok(answer)
}

//! Clips as clients see them.

use crate::app::{App, now};
use crate::dto::ClipRequest;
use crate::error::Result;
use crate::guard::Caller;
use crate::protocol::{ClipFacts, ClipPlan, Stage, seconds_of, seconds_text};
use crate::store::jobs::{self, Job, Kind, Status};
use crate::store::ledger;
use rusqlite::Connection;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;

/// Clips with their places in the queue.
pub struct Views<'a> {
    app: &'a App,
    places: HashMap<String, usize>,
}

impl<'a> Views<'a> {
    /// Reads the places of the owner's waiting clips.
    ///
    /// # Errors
    /// The store's.
    pub async fn of(app: &'a App, owner: &str) -> Result<Self> {
        let owner = owner.to_string();
        let waiting = app.store.read(move |connection| jobs::waiting(connection, &owner)).await?;
        Ok(Self::with(app, waiting))
    }

    /// Does the same within a transaction.
    ///
    /// # Errors
    /// The store's.
    pub fn within(app: &'a App, connection: &Connection, owner: &str) -> Result<Self> {
        Ok(Self::with(app, jobs::waiting(connection, owner)?))
    }

    fn with(app: &'a App, waiting: Vec<String>) -> Self {
        Self { app, places: waiting.into_iter().enumerate().map(|(place, id)| (id, place + 1)).collect() }
    }

    /// The clip as the server's own interface has it.
    pub fn clip(&self, job: &Job) -> Clip {
        let live = self.app.live(&job.id).filter(|_| !job.status.is_finished());
        let progress = match job.status {
            Status::Succeeded | Status::Expired => 100,
            Status::Queued => 0,
            _ => live.as_ref().map_or(job.progress, |live| live.progress.max(job.progress)),
        };
        let error =
            job.error_code.clone().map(|code| Reason { code, message: job.error_message.clone().unwrap_or_default() });
        Clip {
            id: job.id.clone(),
            status: job.status,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            expires_at: job.expires_at,
            request: job.request.clone(),
            plan: job.plan.clone(),
            progress,
            position: self.places.get(&job.id).copied(),
            paused: job.paused,
            starred: job.starred,
            seed: job.seed.map(|seed| seed.to_string()),
            kind: job.kind,
            parent: job.parent.clone(),
            result: job.result.clone(),
            cost: job.cost,
            error,
            stage: live.as_ref().map(|live| Part { stage: live.stage, done: live.done, total: live.total }),
            seconds_left: live.as_ref().and_then(|live| live.seconds_left),
            preview: live.map(|live| live.preview).filter(|preview| *preview > 0),
        }
    }

    /// The clip as OpenAI's interface has it.
    pub fn video(&self, job: &Job) -> Video {
        let (status, progress) = match job.status {
            Status::Queued => (VideoStatus::Queued, 0),
            Status::Running | Status::Cancelling => {
                let live = self.app.live(&job.id).map_or(0, |live| live.progress);
                (VideoStatus::InProgress, live.max(job.progress).clamp(1, 99))
            }
            Status::Succeeded | Status::Expired => (VideoStatus::Completed, 100),
            Status::Failed | Status::Cancelled => (VideoStatus::Failed, job.progress.min(99)),
        };
        let error = match job.status {
            Status::Failed => {
                let (code, message) = (job.error_code.clone(), job.error_message.clone());
                Some(Reason { code: code.unwrap_or_default(), message: message.unwrap_or_default() })
            }
            Status::Cancelled => Some(Reason { code: "cancelled".into(), message: "the clip was cancelled".into() }),
            _ => None,
        };
        let facts = job.result.as_ref().unwrap_or(&job.plan);
        let number = |name: &str| facts[name].as_f64().unwrap_or(0.0);
        Video {
            id: job.id.clone(),
            object: "video",
            model: job.request["model"].as_str().unwrap_or(&self.app.config.default_model).to_string(),
            status,
            progress,
            created_at: job.created_at / 1000,
            completed_at: job.finished_at.filter(|_| status == VideoStatus::Completed).map(|at| at / 1000),
            expires_at: job.expires_at.map(|at| at / 1000),
            prompt: job.prompt.clone(),
            seconds: seconds_text(seconds_of(facts)),
            size: format!("{}x{}", number("width"), number("height")),
            error,
            remixed_from_video_id: job.parent.clone(),
            seed: job.seed.map(|seed| seed.to_string()),
        }
    }
}

/// A clip. Times are milliseconds since 1970.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Clip {
    /// `video_` and a ULID.
    pub id: String,
    /// Its state.
    pub status: Status,
    /// When it was accepted.
    pub created_at: i64,
    /// When a worker began it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<i64>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<i64>,
    /// When its file is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// What was asked for.
    #[schemars(with = "ClipRequest")]
    pub request: Value,
    /// What it will be.
    #[schemars(with = "ClipPlan")]
    pub plan: Value,
    /// Percent.
    pub progress: u8,
    /// Its place in the queue, from 1 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// Whether it waits until it is let go on.
    pub paused: bool,
    /// Whether its owner has marked it.
    pub starred: bool,
    /// Its seed, as digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<String>,
    /// What it is made of.
    pub kind: Kind,
    /// The clip that it is made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ClipFacts>")]
    pub result: Option<Value>,
    /// Its price in credits.
    pub cost: i64,
    /// Why it was not made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Reason>,
    /// Where a running one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<Part>,
    /// Seconds until it is made, as far as that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<f64>,
    /// The number of its newest preview.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<u64>,
}

/// Why a clip was not made.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Reason {
    /// For programs.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// A part of a run.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Part {
    /// Which.
    pub stage: Stage,
    /// Steps or frames that are done.
    pub done: usize,
    /// All of them.
    pub total: usize,
}

/// A clip as OpenAI's clients read it. Times are seconds since 1970.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Video {
    /// `video_` and a ULID.
    pub id: String,
    /// `video`.
    pub object: &'static str,
    /// The model's name.
    pub model: String,
    /// Its state.
    pub status: VideoStatus,
    /// Percent.
    pub progress: u8,
    /// When it was accepted.
    pub created_at: i64,
    /// When it was made.
    pub completed_at: Option<i64>,
    /// When its file is deleted.
    pub expires_at: Option<i64>,
    /// Its prompt.
    pub prompt: String,
    /// Its length, as a number in text.
    pub seconds: String,
    /// Width and height, such as `832x480`.
    pub size: String,
    /// Why it was not made.
    pub error: Option<Reason>,
    /// The clip that it is made from.
    pub remixed_from_video_id: Option<String>,
    /// Its seed, as digits.
    pub seed: Option<String>,
}

/// The state of a clip as OpenAI's clients know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VideoStatus {
    /// It waits.
    Queued,
    /// A worker makes it, or has been told to stop.
    InProgress,
    /// It is made.
    Completed,
    /// It was not made.
    Failed,
}

/// The caller.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Me {
    /// Whose clips they see.
    pub owner: String,
    /// What the key is called.
    pub name: String,
    /// The name of their tier.
    pub tier: String,
    /// Their credits; null without a limit.
    pub credits: Option<Credits>,
    /// Their storage.
    pub storage: Storage,
    /// Whether they have a key.
    pub signed_in: bool,
    /// Whether the server has keys.
    pub keys: bool,
}

/// Credits of a day.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Credits {
    /// Those that are left.
    pub left: i64,
    /// Those of a day.
    pub daily: Option<i64>,
    /// When the next day begins, in milliseconds since 1970.
    pub resets_at: i64,
}

/// Bytes of clips and uploads.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Storage {
    /// Those that are used.
    pub used: u64,
    /// Those that may be; null without a limit.
    pub quota: Option<u64>,
}

impl Me {
    /// Reads what is known of the caller.
    ///
    /// # Errors
    /// The store's.
    pub async fn of(app: &App, caller: &Caller) -> Result<Self> {
        let tier = caller.tier_of(app);
        let terms = app.config.terms(&tier, now())?;
        let owner = caller.owner.clone();
        let read = app.store.read(move |connection| {
            Ok((ledger::left(connection, &owner, &terms)?, jobs::storage(connection, &owner)?))
        });
        let (left, used) = read.await?;
        let credits =
            left.map(|left| Credits { left, daily: terms.credits, resets_at: app.config.time_zone.next_day(now()) });
        Ok(Self {
            owner: caller.owner.clone(),
            name: caller.name.clone(),
            tier,
            credits,
            storage: Storage { used, quota: terms.storage },
            signed_in: caller.key.is_some(),
            keys: caller.has_keys,
        })
    }
}

//! Clips as Kling's interface has them: tasks. Times are milliseconds, and every id is a text.

use crate::link;
use crate::protocol::{seconds_of, seconds_text};
use crate::store::jobs::{self, Job, Status};
use rusqlite::Connection;
use schemars::JsonSchema;
use serde::Serialize;

/// How long a link may be used after it was asked for, in milliseconds.
const LINKED: i64 = 30 * 86_400_000;
/// Characters of a message; the body of an event is at most 20 KB.
const MOST_MESSAGE: usize = 1000;

/// Makes links to clips, which work without a key for a month, if the clip is there so long.
#[derive(Clone)]
pub struct Links {
    /// Signs them.
    pub secret: [u8; 32],
    /// The address of the server, without a slash at its end.
    pub base: String,
}

impl Links {
    fn to(&self, job: &Job, now: i64) -> String {
        let path = format!("/v1/videos/{}/content", job.id);
        let expires = now.saturating_add(LINKED);
        format!("{}{path}?{}", self.base, link::query(&self.secret, &path, &job.owner, expires))
    }

    /// The clip as a video; only its id if it is not made, or not there any more.
    fn video(&self, job: &Job, now: i64) -> KlingVideo {
        let facts = job.result.as_ref();
        let duration = facts.map(|facts| seconds_text(seconds_of(facts)));
        KlingVideo { id: job.id.clone(), url: facts.map(|_| self.to(job, now)), duration }
    }
}

/// A clip.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KlingVideo {
    id: String,
    /// An address that anyone may read for 30 days; a later query has a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<String>,
}

/// The state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskStatus {
    /// It waits.
    Submitted,
    /// A worker makes it, or has been told to stop.
    Processing,
    /// It is made.
    Succeed,
    /// It was not made.
    Failed,
}

impl TaskStatus {
    fn of(job: &Job) -> Self {
        match job.status {
            Status::Queued => Self::Submitted,
            Status::Running | Status::Cancelling => Self::Processing,
            Status::Succeeded | Status::Expired => Self::Succeed,
            Status::Failed | Status::Cancelled => Self::Failed,
        }
    }
}

/// The facts about a task that its request has brought.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TaskInfo {
    /// The client's name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_task_id: Option<String>,
    /// The clip that goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_video: Option<KlingVideo>,
}

/// A task without what comes of it: as it is answered when it is accepted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AcceptedTask {
    task_id: String,
    task_status: TaskStatus,
    task_info: TaskInfo,
    created_at: i64,
    updated_at: i64,
}

/// A task with everything.
#[derive(Debug, Serialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "names of the interface")]
pub struct Task {
    #[serde(flatten)]
    accepted: AcceptedTask,
    /// Why it has failed.
    task_status_msg: String,
    /// The credits that it has cost, as digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    final_unit_deduction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_result: Option<TaskResult>,
}

/// What comes of a task.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TaskResult {
    /// The clip.
    videos: Vec<KlingVideo>,
}

/// The word for the state of a clip.
pub fn status(job: &Job) -> &'static str {
    match TaskStatus::of(job) {
        TaskStatus::Submitted => "submitted",
        TaskStatus::Processing => "processing",
        TaskStatus::Succeed => "succeed",
        TaskStatus::Failed => "failed",
    }
}

/// A task as it is answered when it is accepted.
pub fn accepted(job: &Job) -> AcceptedTask {
    AcceptedTask {
        task_id: job.id.clone(),
        task_status: TaskStatus::of(job),
        task_info: TaskInfo { external_task_id: job.external_id.clone(), parent_video: None },
        created_at: job.created_at,
        updated_at: job.finished_at.or(job.started_at).unwrap_or(job.created_at),
    }
}

/// A task with everything, as it is at `now`.
pub fn task(links: &Links, job: &Job, parent: Option<&Job>, now: i64) -> Task {
    let mut accepted = accepted(job);
    accepted.task_info.parent_video = parent.map(|parent| links.video(parent, now));
    let message = match job.status {
        Status::Failed => job.error_message.as_deref().unwrap_or_default(),
        Status::Cancelled => "the clip was cancelled",
        _ => "",
    };
    Task {
        accepted,
        task_status_msg: message.chars().take(MOST_MESSAGE).collect(),
        final_unit_deduction: job.charged.map(|charged| charged.to_string()),
        task_result: job.result.as_ref().map(|_| TaskResult { videos: vec![links.video(job, now)] }),
    }
}

/// The clip that a clip was made from, if it is still there.
///
/// # Errors
/// The store's.
pub fn parent_of(connection: &Connection, job: &Job) -> crate::Result<Option<Job>> {
    let Some(parent) = &job.parent else { return Ok(None) };
    match jobs::get(connection, &job.owner, parent) {
        Ok(parent) => Ok(Some(parent)),
        Err(crate::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

//! Clips as Kling's interface has them: tasks. Times are milliseconds, and every id is a text.

use crate::link;
use crate::protocol::{seconds_of, seconds_text};
use crate::store::jobs::{self, Job, Status};
use rusqlite::Connection;
use serde_json::{Value, json};

/// How long links to clips that do not expire may be used after their end, in milliseconds.
const LINKED: i64 = 30 * 86_400_000;
/// Characters of a message; the body of an event is at most 20 KB.
const MOST_MESSAGE: usize = 1000;

/// Makes links to clips, which work without a key until the clip expires; a month, if it does not.
#[derive(Clone)]
pub struct Links {
    /// Signs them.
    pub secret: [u8; 32],
    /// The address of the server, without a slash at its end.
    pub base: String,
}

impl Links {
    fn to(&self, job: &Job) -> String {
        let path = format!("/v1/videos/{}/content", job.id);
        let expires = job.expires_at.unwrap_or(updated_at(job).saturating_add(LINKED));
        format!("{}{path}?{}", self.base, link::query(&self.secret, &path, &job.owner, expires))
    }

    /// The clip as a video; only its id if it is not made, or not there any more.
    fn video(&self, job: &Job) -> Value {
        let Some(facts) = &job.result else { return json!({"id": job.id}) };
        json!({"id": job.id, "url": self.to(job), "duration": seconds_text(seconds_of(facts))})
    }
}

/// The word for the state of a clip.
pub fn status(job: &Job) -> &'static str {
    match job.status {
        Status::Queued => "submitted",
        Status::Running | Status::Cancelling => "processing",
        Status::Succeeded | Status::Expired => "succeed",
        Status::Failed | Status::Cancelled => "failed",
    }
}

fn updated_at(job: &Job) -> i64 {
    job.finished_at.or(job.started_at).unwrap_or(job.created_at)
}

/// A task without what comes of it: as it is answered when it is accepted.
pub fn accepted(job: &Job) -> Value {
    let info = job.external_id.as_ref().map_or(json!({}), |id| json!({"external_task_id": id}));
    json!({
        "task_id": job.id,
        "task_status": status(job),
        "task_info": info,
        "created_at": job.created_at,
        "updated_at": updated_at(job),
    })
}

/// A task with everything.
pub fn task(links: &Links, job: &Job, parent: Option<&Job>) -> Value {
    let mut task = accepted(job);
    let message = match job.status {
        Status::Failed => job.error_message.clone().unwrap_or_default(),
        Status::Cancelled => "the clip was cancelled".into(),
        _ => String::new(),
    };
    task["task_status_msg"] = message.chars().take(MOST_MESSAGE).collect::<String>().into();
    if let Some(parent) = parent {
        task["task_info"]["parent_video"] = links.video(parent);
    }
    if let Some(charged) = job.charged {
        task["final_unit_deduction"] = charged.to_string().into();
    }
    if job.result.is_some() {
        task["task_result"] = json!({"videos": [links.video(job)]});
    }
    task
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

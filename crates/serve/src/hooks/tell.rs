//! [`Teller`]: which events a change of a clip's state makes, for whom. They are written in the transaction of the change.

use crate::api::kling::view::{self, Links};
use crate::config::{Webhook, host_of};
use crate::error::Result;
use crate::store::jobs::{Api, Job, Status};
use crate::store::outbox::{self, New};
use rusqlite::Transaction;
use serde_json::json;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Makes events.
pub struct Teller {
    /// The receivers of the configuration.
    pub webhooks: Vec<Webhook>,
    /// Links in events.
    pub links: Links,
    /// Tells the operator.
    pub log: fn(&str),
    /// Lanes of which the operator was told that too much waits.
    pub told: Mutex<HashSet<String>>,
}

impl Teller {
    /// Writes the events of clips whose state has changed.
    ///
    /// # Errors
    /// The store's.
    pub fn tell(&self, transaction: &Transaction<'_>, changed: &[Job], now: i64) -> Result<()> {
        for job in changed {
            if let Some(url) = &job.callback_url {
                // Each owner has a lane, whatever addresses there are in it.
                let to = New { event: "", url, lane: &job.owner, signer: Some(&job.owner), replaces: false };
                if job.api == Api::Kling {
                    let parent = view::parent_of(transaction, job)?;
                    let task = json!(view::task(&self.links, job, parent.as_ref(), now)).to_string();
                    // A task says all that it has said before.
                    let to = New { event: view::status(job), replaces: true, ..to };
                    outbox::add(transaction, &job.id, &to, |_| task, now)?;
                } else {
                    finished(transaction, job, to, now)?;
                }
                self.bound(transaction, &job.owner)?;
            }
            let is_told = |webhook: &&Webhook| webhook.owner.as_ref().is_none_or(|owner| *owner == job.owner);
            for webhook in self.webhooks.iter().filter(is_told) {
                let (url, signer) = (webhook.url.as_str(), webhook.owner.as_deref());
                finished(transaction, job, New { event: "", url, lane: url, signer, replaces: false }, now)?;
                self.bound(transaction, url)?;
            }
        }
        Ok(())
    }

    /// Gives up the oldest events of a lane where there are too many. The operator is told once.
    fn bound(&self, transaction: &Transaction<'_>, lane: &str) -> Result<()> {
        let over = outbox::trim(transaction, lane, outbox::MOST_OPEN)?;
        // A set is whole after every change.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if over > 0 && told.insert(lane.to_string()) {
            let most = outbox::MOST_OPEN;
            (self.log)(&format!("more than {most} events wait for {}: the oldest are given up", host_of(lane)));
        }
        Ok(())
    }
}

/// Writes the event of a clip that is finished, in the shape of OpenAI's.
fn finished(transaction: &Transaction<'_>, job: &Job, to: New<'_>, now: i64) -> Result<()> {
    let event = match job.status {
        Status::Succeeded => "video.completed",
        Status::Failed | Status::Cancelled => "video.failed",
        _ => return Ok(()),
    };
    let body = |id: &str| {
        let created = now / 1000;
        let event = json!({"id": id, "object": "event", "type": event, "created_at": created, "data": {"id": job.id}});
        event.to_string()
    };
    outbox::add(transaction, &job.id, &New { event, ..to }, body, now).map(drop)
}

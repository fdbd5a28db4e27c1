//! The workers: each has a process that makes one clip after another. A process that dies is started again, and its clip goes
//! on from its saved step.

use crate::app::{App, Change, Live, now};
use crate::child::{Child, Program};
use crate::disk;
use crate::dto::ClipRequest;
use crate::fault::is_full;
use crate::inputs;
use crate::percent::Percent;
use crate::protocol::{ClipFacts, Make, Order, Problem, Report, Stage};
use crate::store::jobs::{self, Done, End, Job, Status};
use rusqlite::Transaction;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

/// How long a worker is believed to live without a report to the store.
const LEASE: Duration = Duration::from_mins(1);
/// How long a worker may go on after it was told to stop.
const GRACE: Duration = Duration::from_secs(4);
/// The same when the server ends: then the state that is saved spares work.
const LAST_GRACE: Duration = Duration::from_secs(20);
/// The pause after a process that did not start.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest pause, after several.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Progress goes to the store at most once in this time.
const STORED_EVERY: Duration = Duration::from_secs(1);
/// The code of a problem that is a full disk.
const FULL: &str = "storage_full";
/// How often a clip is computed to its end before it fails because its file does not fit on the disk.
const MOST_FULL: u32 = 3;
/// The pause after a disk was full.
const ROOM: Duration = Duration::from_secs(5);
/// A worker without a clip looks for one after this time, even if nobody wakes it.
const LOOK: Duration = Duration::from_secs(5);

/// Runs one worker until the server ends.
pub async fn run(app: App, name: String, program: Program) {
    let mut ending = app.ending.subscribe();
    let mut child: Option<Child> = None;
    let mut pause = PAUSE;
    while !*ending.borrow() {
        let Some(job) = claim(&app, &name).await else {
            tokio::select! {
                () = app.work.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                _ = ending.changed() => {}
            }
            continue;
        };
        let running = child.take().and_then(|mut process| process.is_running().then_some(process));
        let started = match running {
            Some(process) => Ok(process),
            None => Child::start(&program).await,
        };
        let mut process = match started {
            Ok(process) => process,
            Err(error) => {
                // That says nothing about the clip.
                (app.log)(&format!("{name} does not start: {error}"));
                back(&app, &job, End::Stopped).await;
                tokio::time::sleep(pause).await;
                pause = LONGEST_PAUSE.min(2 * pause);
                continue;
            }
        };
        pause = PAUSE;
        if make(&app, &job, &mut process).await {
            child = Some(process);
        } else {
            process.kill().await;
        }
    }
}

/// Claims the next clip.
async fn claim(app: &App, name: &str) -> Option<Job> {
    let (worker, shared) = (name.to_string(), app.clone());
    let now = now();
    let lease = now + LEASE.as_millis() as i64;
    let claimed = app.store.write(move |transaction| {
        let limit = |owner: &str| running_limit(&shared, transaction, owner);
        jobs::claim(transaction, &worker, lease, &limit, now)
    });
    let job = claimed.await.ok().flatten()?;
    app.changed(&job.owner, &job.id);
    Some(job)
}

/// How many clips of an owner may run at once.
fn running_limit(app: &App, connection: &rusqlite::Connection, owner: &str) -> Option<u64> {
    let tier = if owner == crate::config::LOCAL {
        app.config.local_tier.clone()
    } else {
        let keys = crate::store::keys::list(connection, Some(owner)).unwrap_or_default();
        keys.iter()
            .rfind(|key| key.revoked_at.is_none())
            .map_or_else(|| app.config.default_tier.clone(), |key| key.tier.clone())
    };
    app.tier(&tier).running.get()
}

/// Puts the clip back.
async fn back(app: &App, job: &Job, how: End) {
    let (id, attempt) = (job.id.clone(), job.attempt);
    let status = surely(app, move |transaction| jobs::requeue(transaction, &id, attempt, how, now())).await;
    ended(app, job, status.flatten()).await;
}

/// Writes what became of an attempt, again and again if the store does not take it: a disk that is full now will not be for ever.
/// `None` only when the server ends before.
async fn surely<T: Send + 'static>(
    app: &App,
    write: impl Fn(&Transaction<'_>) -> crate::Result<T> + Clone + Send + 'static,
) -> Option<T> {
    let mut ending = app.ending.subscribe();
    loop {
        match app.store.write(write.clone()).await {
            Ok(value) => return Some(value),
            Err(_) if *ending.borrow() => return None,
            Err(error) => (app.log)(&error.to_string()),
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = ending.changed() => {}
        }
    }
}

/// Does what follows when an attempt is over.
async fn ended(app: &App, job: &Job, status: Option<Status>) {
    app.set_live(&job.owner, &job.id, None);
    let mut over = vec![app.preview_file(&job.id)];
    if status.is_some_and(Status::is_finished) {
        app.forget_full(&job.id);
        over.push(app.state_folder(&job.id));
        over.extend(Some(app.clip_folder(&job.id)).filter(|_| status != Some(Status::Succeeded)));
    }
    disk::remove(over).await;
    app.changed(&job.owner, &job.id);
    app.work.notify_one();
}

/// One attempt at a clip.
struct Attempt<'a> {
    app: &'a App,
    job: &'a Job,
    percent: Percent,
    stored: Instant,
    preview: u64,
    stage: Option<Stage>,
}

/// Makes the clip; returns whether the process can make another one.
async fn make(app: &App, job: &Job, child: &mut Child) -> bool {
    let mut changes = app.changes.subscribe();
    let mut ending = app.ending.subscribe();
    let order = match order(app, job).await {
        Ok(order) => order,
        Err(problem) => {
            fail(app, job, &problem, false).await;
            return true;
        }
    };
    if child.send(&Order::Make(Box::new(order))).await.is_err() {
        back(app, job, End::Died).await;
        return false;
    }
    let mut attempt =
        Attempt { app, job, percent: Percent::default(), stored: Instant::now(), preview: 0, stage: None };
    let mut deadline: Option<tokio::time::Instant> = None;
    let mut renew = tokio::time::interval(LEASE / 3);
    let mut is_ending = false;
    // A cancellation may have come between the claim and the subscription.
    if is_cancelling(app, job).await {
        deadline = Some(stop(child, job, GRACE).await);
    }
    loop {
        tokio::select! {
            report = child.report() => match report {
                None => {
                    back(app, job, if is_ending { End::Stopped } else { End::Died }).await;
                    return false;
                }
                Some(report) => if let Some(end) = attempt.hear(report).await {
                    return end;
                },
            },
            change = changes.recv() => if is_of(&change, job) && deadline.is_none() && is_cancelling(app, job).await {
                deadline = Some(stop(child, job, GRACE).await);
            },
            () = is_over(&mut ending), if !is_ending => {
                is_ending = true;
                if deadline.is_none() {
                    deadline = Some(stop(child, job, LAST_GRACE).await);
                }
            },
            _ = renew.tick() => {
                let (id, number, until) = (job.id.clone(), job.attempt, now() + LEASE.as_millis() as i64);
                let _ = app.store.write(move |transaction| jobs::renew(transaction, &id, number, until)).await;
            },
            () = reached(deadline) => {
                // Inside a call of the network nothing else ends it; its state was saved with an earlier step.
                child.kill().await;
                back(app, job, End::Stopped).await;
                return false;
            },
        }
    }
}

/// Waits for a time, or for ever if there is none.
async fn reached(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Waits for the server's end, also if that was before.
async fn is_over(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await;
}

fn is_of(change: &Result<Change, RecvError>, job: &Job) -> bool {
    match change {
        Ok(Change::Clip { id, .. } | Change::Gone { id, .. }) => *id == job.id,
        Err(RecvError::Lagged(_)) => true,
        Ok(Change::Progress { .. }) | Err(RecvError::Closed) => false,
    }
}

async fn is_cancelling(app: &App, job: &Job) -> bool {
    let (owner, id) = (job.owner.clone(), job.id.clone());
    let found = app.store.read(move |connection| jobs::get(connection, &owner, &id)).await;
    found.is_ok_and(|found| found.status == Status::Cancelling)
}

/// Tells the process to stop, and returns when it is to be ended if it does not.
async fn stop(child: &mut Child, job: &Job, grace: Duration) -> tokio::time::Instant {
    let _ = child.send(&Order::Stop { job: job.id.clone(), attempt: job.attempt }).await;
    tokio::time::Instant::now() + grace
}

/// The order for a clip.
async fn order(app: &App, job: &Job) -> Result<Make, Problem> {
    let invalid = |message: String| Problem { code: "invalid_value".into(), field: None, message };
    let request: ClipRequest =
        serde_json::from_value(job.request.clone()).map_err(|error| invalid(error.to_string()))?;
    let request = ClipRequest { seed: job.seed.or(request.seed), ..request };
    let (_, model) = app.model(request.model.as_deref()).ok_or_else(|| invalid("the model is not offered".into()))?;
    let files = inputs::files(app, &job.owner, &request).await?;
    let folder = app.clip_folder(&job.id);
    disk::make_folder(folder).await.map_err(|error| unwritable(&error))?;
    let mut names = files;
    // The recipe says the name that clients know.
    let name = request.model.clone().unwrap_or_else(|| app.config.default_model.clone());
    for (number, path) in disk::whole_paths(model.clone()).await.into_iter().enumerate() {
        let name = if number == 0 { name.clone() } else { format!("{name}, part {}", number + 1) };
        names.insert(name, path);
    }
    Ok(Make {
        job: job.id.clone(),
        attempt: job.attempt,
        model,
        files: names,
        clip: app.clip_file(&job.id, job.attempt),
        state: app.state_folder(&job.id),
        preview: Some(app.preview_file(&job.id)),
        request,
    })
}

/// A folder that cannot be made.
fn unwritable(error: &std::io::Error) -> Problem {
    let code = if is_full(error) { FULL } else { "generation_failed" };
    Problem { code: code.into(), field: None, message: "the server cannot keep the clip".into() }
}

/// Ends the clip with the problem. A full disk is not the clip's: it is made when there is room again. But one that was computed
/// (`is_made`) again and again and has never fitted is itself too large.
async fn fail(app: &App, job: &Job, problem: &Problem, is_made: bool) {
    if problem.code == FULL && !(is_made && app.was_full(&job.id) >= MOST_FULL) {
        (app.log)(&format!("the disk of {} is full: clips wait until there is room", app.config.data.display()));
        back(app, job, End::Stopped).await;
        let mut ending = app.ending.subscribe();
        let _ = tokio::time::timeout(ROOM, is_over(&mut ending)).await;
        return;
    }
    let (id, number, code, message) = (job.id.clone(), job.attempt, problem.code.clone(), problem.message.clone());
    let now = now();
    let failed = surely(app, move |transaction| jobs::fail(transaction, &id, number, &code, &message, now));
    ended(app, job, failed.await.flatten()).await;
}

impl Attempt<'_> {
    /// Takes a report; at the end of the attempt returns whether the process can make another clip.
    async fn hear(&mut self, report: Report) -> Option<bool> {
        let is_own = |job: &str, attempt: i64| job == self.job.id && attempt == self.job.attempt;
        match report {
            Report::Progress { job, attempt, stage, done, total, seconds, preview, window }
                if is_own(&job, attempt) =>
            {
                self.stage = Some(stage);
                self.percent.hear(stage, done, total, seconds, window);
                self.preview += u64::from(preview);
                let progress = self.percent.percent();
                let seconds_left = self.percent.seconds_left();
                let live = Live { progress, stage, done, total, seconds_left, preview: self.preview };
                self.app.set_live(&self.job.owner, &self.job.id, Some(live.clone()));
                if self.stored.elapsed() >= STORED_EVERY {
                    self.stored = Instant::now();
                    let stage = serde_json::to_value(&live).ok();
                    let (id, number) = (self.job.id.clone(), self.job.attempt);
                    let write = self
                        .app
                        .store
                        .write(move |transaction| jobs::progress(transaction, &id, number, progress, stage.as_ref()));
                    let _ = write.await;
                }
                None
            }
            Report::Expected { job, attempt, time } if is_own(&job, attempt) => {
                self.percent.expect(time);
                None
            }
            Report::Made { job, attempt, clip } if is_own(&job, attempt) => {
                self.made(clip).await;
                Some(true)
            }
            Report::Failed { job, attempt, problem } if is_own(&job, attempt) => {
                fail(self.app, self.job, &problem, self.stage == Some(Stage::Frames)).await;
                Some(true)
            }
            Report::Stopped { job, attempt } if is_own(&job, attempt) => {
                back(self.app, self.job, End::Stopped).await;
                Some(true)
            }
            _ => None,
        }
    }

    /// The clip is whole under its name: now the store says so.
    async fn made(&self, clip: ClipFacts) {
        let (app, job) = (self.app, self.job);
        let folder = app.clip_folder(&job.id);
        let mut result = serde_json::to_value(&clip).unwrap_or_default();
        result["file"] = format!("{}.mp4", job.attempt).into();
        let now = now();
        let done = Done {
            result,
            seed: clip.seed.as_deref().and_then(|seed| seed.parse().ok()),
            bytes: disk::bytes_in(folder.clone(), app.preview_file(&job.id)).await, // which goes when the clip is there
            expires_at: app.config.retention.clip_expires(now),
        };
        let (id, number) = (job.id.clone(), job.attempt);
        let won = surely(app, move |transaction| {
            Ok(jobs::succeed(transaction, &id, number, &done, now)? || {
                jobs::cancelled(transaction, &id, number, now)?;
                false
            })
        });
        // Without an answer the clip's row is as it was, and its state is kept: the next server makes the file again.
        let Some(won) = won.await else { return };
        if won {
            let (app, clip) = (app.clone(), app.clip_file(&job.id, job.attempt));
            let (owner, id) = (job.owner.clone(), job.id.clone());
            tokio::spawn(async move {
                if app.files.pictures(clip, folder).await.is_ok() {
                    app.changed(&owner, &id);
                }
            });
        }
        ended(app, job, Some(if won { Status::Succeeded } else { Status::Cancelled })).await;
    }
}

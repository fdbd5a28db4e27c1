//! Webhooks: events of the outbox are delivered, signed as Standard Webhooks says
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/v1.0.0/spec/standard-webhooks.md>), until the receiver has
//! taken them. After a crash, an event may come twice, with the same id.

pub mod tell;

use crate::app::{App, Change, now};
use crate::config::host_of;
use crate::outgoing::{Reply, Trouble, answered};
use crate::secrets::{self, HookSecret};
use crate::store::outbox::{self, Event, Room};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// Seconds until the next attempt, after each that failed. Then the event is given up.
const WAITS: [i64; 9] = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// The longest time that a receiver may ask to be left alone, in seconds.
const LONGEST_WAIT: i64 = 86_400;
/// The shortest pause of a receiver that has too much to do, in seconds.
const RELIEF: i64 = 60;
/// Deliveries at a time, of one lane and together.
const ROOM: Room = Room { lane: 8, all: 128 };
/// An attempt that is not ended after this time, in milliseconds, is lost: it takes a third of it at most.
const LOST: i64 = 60_000;
/// How often the outbox is looked at, even if nothing is known to have changed.
const LOOK: Duration = Duration::from_secs(5);
/// The shortest pause between two looks.
const BREATH: Duration = Duration::from_millis(50);

/// Delivers events until the server ends.
pub async fn run(app: App) {
    let mut changes = app.changes.subscribe();
    let mut ending = app.ending.subscribe();
    let (room, done) = (Arc::new(Semaphore::new(ROOM.all as usize)), Arc::new(Notify::new()));
    while !*ending.borrow() {
        start(&app, &room, &done).await;
        let next = app.store.read(outbox::next).await.ok().flatten();
        let left = next.map_or(LOOK, |at| Duration::from_millis(at.saturating_sub(now()).max(0) as u64));
        // What is due and was not taken waits for another delivery to end.
        let pause = if left.is_zero() { LOOK } else { left.clamp(BREATH, LOOK) };
        let changed = async { while let Ok(Change::Progress { .. }) = changes.recv().await {} };
        tokio::select! {
            () = changed => {}
            () = done.notified() => {}
            () = tokio::time::sleep(pause) => {}
            _ = ending.changed() => {}
        }
    }
}

/// Starts deliveries that are due, as many as there is room for.
async fn start(app: &App, room: &Arc<Semaphore>, done: &Arc<Notify>) {
    let free = room.available_permits();
    let is_due = app.store.read(outbox::next).await.is_ok_and(|next| next.is_some_and(|next| next <= now()));
    if !is_due || free == 0 {
        return;
    }
    let room_now = Room { all: free as u32, ..ROOM };
    let taken = app.store.write(move |transaction| outbox::take(transaction, now(), now() + LOST, room_now)).await;
    for event in taken.unwrap_or_default() {
        let Ok(permit) = Arc::clone(room).try_acquire_owned() else { break };
        let (app, done) = (app.clone(), Arc::clone(done));
        tokio::spawn(async move {
            deliver(&app, event).await;
            drop(permit);
            done.notify_one();
        });
    }
}

/// Makes one attempt, and writes what came of it. If the store does not take that, the attempt is lost, and made again.
async fn deliver(app: &App, event: Event) {
    let signer = event.signer.clone();
    let signing = app.store.read(move |connection| secrets::of_hooks(connection, signer.as_deref(), now()));
    let Ok(signing) = signing.await else { return };
    let headers = headers(&signing, &event.id, now() / 1000, &event.body);
    let sent = app.outgoing.post(event.url.clone(), headers, event.body.clone()).await;
    let outcome = outcome(event.attempts, &sent);
    let what = match &sent {
        Ok(reply) => answered(reply.status),
        Err(trouble) => trouble.to_string(),
    };
    if matches!(outcome, Outcome::GivenUp | Outcome::Gone) {
        (app.log)(&format!(
            "the event {} of {} is not delivered to {}: {what}",
            event.id,
            event.job,
            host_of(&event.url)
        ));
    }
    let noted = app.store.write(move |transaction| {
        let now = now();
        match outcome {
            Outcome::Delivered => outbox::delivered(transaction, &event.id, now),
            Outcome::Gone => outbox::close(transaction, &event.lane, &event.url, &what, now),
            Outcome::GivenUp => outbox::failed(transaction, &event, &what, None).map(drop),
            Outcome::Again { seconds, relieve } => {
                let at = now + jittered(seconds * 1000);
                outbox::failed(transaction, &event, &what, Some(at))?;
                if relieve { outbox::hold(transaction, &event.url, at) } else { Ok(()) }
            }
        }
    });
    if let Err(error) = noted.await {
        (app.log)(&error.to_string());
    }
}

/// What follows from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The receiver has it.
    Delivered,
    /// The receiver wants nothing any more.
    Gone,
    /// There is no next attempt.
    GivenUp,
    /// There is one, after so many seconds.
    Again {
        /// The time.
        seconds: i64,
        /// Whether the receiver's other events wait, too.
        relieve: bool,
    },
}

fn outcome(attempts: i64, sent: &Result<Reply, Trouble>) -> Outcome {
    let (status, asked) = match sent {
        Ok(Reply { status: 200..=299, .. }) => return Outcome::Delivered,
        Ok(Reply { status: 410, .. }) => return Outcome::Gone,
        Err(Trouble::Refused(_)) => return Outcome::GivenUp,
        Ok(reply) => (reply.status, reply.retry_after),
        Err(Trouble::Failed(_)) => (0, None),
    };
    let index = usize::try_from(attempts.max(1) - 1).unwrap_or(usize::MAX);
    let Some(wait) = WAITS.get(index) else { return Outcome::GivenUp };
    let is_busy = matches!(status, 429 | 502 | 504);
    let asked = asked.map(|seconds| LONGEST_WAIT.min(seconds.cast_signed().max(0)));
    let least = asked.or(is_busy.then_some(RELIEF));
    Outcome::Again { seconds: least.map_or(*wait, |least| least.max(*wait)), relieve: least.is_some() }
}

/// Up to a tenth more, so that what failed together does not come back together.
fn jittered(time: i64) -> i64 {
    let mut random = [0; 2];
    // Without random bytes, it is just that time.
    let _ = getrandom::fill(&mut random);
    time + time / 10 * i64::from(u16::from_le_bytes(random)) / i64::from(u16::MAX)
}

/// The headers of an event, signed with each of the secrets.
fn headers(signing: &[HookSecret], id: &str, seconds: i64, body: &str) -> Vec<(&'static str, String)> {
    let signatures = signing.iter().map(|secret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("a key of any length");
        mac.update(format!("{id}.{seconds}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    });
    let signatures = signatures.collect::<Vec<_>>().join(" ");
    vec![("webhook-id", id.to_string()), ("webhook-timestamp", seconds.to_string()), ("webhook-signature", signatures)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's libraries.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let mut key = [0; 32];
        key[..24].copy_from_slice(&secret);
        // HMAC fills a short key with zeros.
        let signing = [HookSecret(key), HookSecret([0; 32])];
        let headers = headers(&signing, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        let signature = &headers.iter().find(|(name, _)| *name == "webhook-signature").expect("a signature").1;
        let (first, second) = signature.split_once(' ').expect("two");
        assert_eq!(first, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(second.starts_with("v1,") && second != first);
    }

    #[test]
    fn attempts_follow_the_schedule_and_what_receivers_ask() {
        let reply = |status, retry_after| Ok(Reply { status, retry_after });
        let again = |seconds, relieve| Outcome::Again { seconds, relieve };
        assert_eq!(outcome(1, &reply(204, None)), Outcome::Delivered);
        assert_eq!(outcome(1, &reply(410, None)), Outcome::Gone);
        for status in [199, 301, 400, 404, 500, 503] {
            assert_eq!(outcome(1, &reply(status, None)), again(5, false), "{status}");
        }
        let failed = Err(Trouble::Failed("no answer".into()));
        let waits: Vec<_> = (1..=9).map(|attempt| outcome(attempt, &failed)).collect();
        assert_eq!(waits, WAITS.map(|seconds| again(seconds, false)));
        assert_eq!(outcome(10, &failed), Outcome::GivenUp);
        assert_eq!(outcome(1, &Err(Trouble::Refused("private".into()))), Outcome::GivenUp);
        for status in [429, 502, 504] {
            assert_eq!(outcome(1, &reply(status, None)), again(60, true), "{status}");
            assert_eq!(outcome(2, &reply(status, None)), again(300, true), "{status}");
        }
        assert_eq!(outcome(1, &reply(503, Some(90))), again(90, true));
        assert_eq!(outcome(1, &reply(429, Some(1))), again(5, true));
        assert_eq!(outcome(1, &reply(429, Some(u64::MAX))), again(5, true), "no such time");
        assert_eq!(outcome(1, &reply(429, Some(9_999_999))), again(86_400, true));
    }

    #[test]
    fn times_are_spread_by_a_tenth() {
        assert!((0..100).all(|_| (300_000..=330_000).contains(&jittered(300_000))));
    }
}

//! What the tests of the store share.

use kinora_serve::Day;
use kinora_serve::store::jobs::{self, Api, Done, Job, Kind, NewJob};
use kinora_serve::store::{Terms, in_memory};
use rusqlite::{Connection, Transaction, TransactionBehavior};

/// 2026-11-28 in UTC.
pub const TODAY: i64 = 20_785;
pub const NOW: i64 = TODAY * 86_400_000;

/// A store in memory.
pub fn store() -> Connection {
    in_memory().expect("a store")
}

/// Runs `f` in a transaction that is committed, whatever comes of it: an error must have changed nothing.
pub fn write<T>(connection: &mut Connection, f: impl FnOnce(&Transaction<'_>) -> T) -> T {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).expect("a transaction");
    let value = f(&transaction);
    transaction.commit().expect("a commit");
    value
}

/// Terms without limits, in which `credits` are granted.
pub fn terms(credits: Option<i64>) -> Terms {
    Terms { day: Day(TODAY), credits, active: None, queue: None, storage: None }
}

/// A clip of the owner that costs that much.
pub fn clip(owner: &str, cost: i64) -> NewJob {
    NewJob {
        owner: owner.into(),
        api: Api::Own,
        kind: Kind::Clip,
        parent: None,
        external_id: None,
        prompt: "a red ball".into(),
        request: serde_json::json!({"prompt": "a red ball"}),
        plan: serde_json::json!({"steps": 8}),
        seed: None,
        inputs: Vec::new(),
        callback_url: None,
        paused: false,
        cost,
    }
}

/// Accepts a clip of the owner for whom everything is free.
pub fn add(connection: &mut Connection, owner: &str) -> Job {
    write(connection, |write| jobs::insert(write, &clip(owner, 0), &terms(None), NOW)).expect("an accepted clip")
}

/// Claims a clip, with no limit of running ones.
pub fn claim(connection: &mut Connection) -> Option<Job> {
    claim_limited(connection, &|_| None)
}

/// Claims a clip whose worker is believed to live for a second.
pub fn claim_limited(connection: &mut Connection, running: &dyn Fn(&str) -> Option<u64>) -> Option<Job> {
    write(connection, |write| jobs::claim(write, "w", NOW + 1000, running, NOW)).expect("a claim")
}

/// What a worker has made.
pub fn done(bytes: u64, expires_at: Option<i64>) -> Done {
    Done { result: serde_json::json!({"file": "clip.mp4"}), seed: Some(u64::MAX), bytes, expires_at }
}

/// Claims the only waiting clip and ends it with a result.
pub fn make(connection: &mut Connection, id: &str, done: &Done) {
    let job = claim(connection).expect("a waiting clip");
    assert_eq!(job.id, id);
    assert!(write(connection, |write| jobs::succeed(write, id, job.attempt, done, NOW)).expect("a result"));
}

//! Events: whatever changes the state of a clip is told within its transaction, and addresses are told one thing at a time.

use std::sync::{Arc, Mutex};

use kinora_serve::store::jobs::{self, Cancel, End, Status};
use kinora_serve::store::outbox::{self, New, Room};
use kinora_serve::{Error, Store};
use rusqlite::{Connection, Transaction};

use super::common::{NOW, add, clip, done, store, terms, write};

type Told = Arc<Mutex<Vec<(String, Status)>>>;

/// A store in a file that notes the changes it is told of.
fn listening() -> (tempfile::TempDir, Store, Told) {
    let folder = tempfile::tempdir().expect("a directory");
    let store = Store::open(&folder.path().join("store")).expect("a store");
    let told = Told::default();
    let notes = Arc::clone(&told);
    store.on_change(Box::new(move |_, changed| {
        let changed = changed.iter().map(|job| (job.id.clone(), job.status));
        notes.lock().expect("notes").extend(changed);
        Ok(())
    }));
    (folder, store, told)
}

fn insert(write: &Transaction<'_>) -> kinora_serve::Result<String> {
    jobs::insert(write, &clip("a", 0), &terms(None), NOW).map(|job| job.id)
}

fn claim(write: &Transaction<'_>) -> kinora_serve::Result<Option<jobs::Job>> {
    jobs::claim(write, "w", NOW + 1000, &|_| None, NOW)
}

type Step = Box<dyn Fn(&Transaction<'_>, &str) -> kinora_serve::Result<()> + Send>;

/// Every function that changes the state of a running clip, and the states that are told.
fn steps() -> Vec<(&'static str, Step, &'static [Status])> {
    let cancel = |write: &Transaction<'_>, id: &str| jobs::cancel(write, "a", id, NOW);
    vec![
        ("succeed", Box::new(|w, id| jobs::succeed(w, id, 1, &done(1, Some(0)), NOW).map(drop)), &[Status::Succeeded]),
        ("expire", Box::new(|w, _| jobs::expire(w, NOW, 9).map(drop)), &[]),
        ("fail", Box::new(|w, id| jobs::fail(w, id, 1, "c", "m", NOW).map(drop)), &[Status::Failed]),
        ("late", Box::new(|w, id| jobs::fail(w, id, 7, "c", "m", NOW).map(drop)), &[]),
        ("cancel", Box::new(move |w, id| cancel(w, id).map(drop)), &[]),
        ("requeue", Box::new(|w, id| jobs::requeue(w, id, 1, End::Stopped, NOW).map(drop)), &[Status::Queued]),
        ("lapse", Box::new(|w, _| jobs::lapse(w, NOW + 1000).map(drop)), &[Status::Queued]),
        ("recover", Box::new(|w, _| jobs::recover(w, NOW).map(drop)), &[Status::Queued]),
        (
            "cancelled",
            Box::new(move |w, id| {
                assert!(matches!(cancel(w, id)?, Cancel::Stopping { .. }));
                jobs::cancelled(w, id, 1, NOW).map(drop)
            }),
            &[Status::Cancelled],
        ),
    ]
}

#[tokio::test]
async fn every_change_of_state_is_told_once() {
    let (_folder, store, told) = listening();
    let take = || told.lock().expect("notes").drain(..).map(|(_, status)| status).collect::<Vec<_>>();
    let running = async || {
        store.write(insert).await.expect("accepted");
        let job = store.write(claim).await.expect("an answer").expect("a clip");
        assert_eq!(take(), [Status::Running], "to be accepted is no change");
        job.id
    };
    for (name, step, expected) in steps() {
        let id = running().await;
        store.write(move |write| step(write, &id)).await.expect(name);
        assert_eq!(take(), expected, "{name}");
        // What is left would be claimed instead of the next one.
        store.write(|write| jobs::recover(write, NOW).map(drop)).await.expect("recovered");
        store.write(|write| jobs::cancel_waiting(write, "a", NOW).map(drop)).await.expect("cancelled");
        take();
    }
    for _ in 0..2 {
        store.write(insert).await.expect("accepted");
    }
    assert_eq!(take(), []);
    store.write(|write| jobs::cancel_waiting(write, "a", NOW).map(drop)).await.expect("cancelled");
    assert_eq!(take(), [Status::Cancelled, Status::Cancelled]);
    let id = running().await;
    for death in 1..=3 {
        let own = id.clone();
        store.write(move |write| jobs::requeue(write, &own, death, End::Died, NOW).map(drop)).await.expect("requeued");
        if death < 3 {
            store.write(claim).await.expect("an answer").expect("the clip");
        }
    }
    let (queued, running, failed) = (Status::Queued, Status::Running, Status::Failed);
    assert_eq!(take(), [queued, running, queued, running, failed]);
}

#[tokio::test]
async fn a_change_and_its_event_happen_together_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("store");
    let store = Store::open(&path).expect("a store");
    let id = store.write(insert).await.expect("accepted");
    // Nobody listens yet, so this is told with the next transaction.
    store.write(claim).await.expect("an answer").expect("the clip");
    let told = Told::default();
    let notes = Arc::clone(&told);
    store.on_change(Box::new(move |write, changed| {
        for job in changed {
            notes.lock().expect("notes").push((job.id.clone(), job.status));
            let new = New { event: "e", url: "https://a.org", lane: "a", signer: None, replaces: false };
            outbox::add(write, &job.id, &new, |_| job.status.word().into(), NOW)?;
        }
        let ends = changed.iter().any(|job| job.status == Status::Failed);
        if ends { Err(Error::QueueFull { limit: 0 }) } else { Ok(()) }
    }));
    store.write(|_| Ok(())).await.expect("nothing");
    assert_eq!(told.lock().expect("notes").drain(..).collect::<Vec<_>>(), [(id.clone(), Status::Running)]);
    let own = id.clone();
    let fails = store.write(move |write| jobs::fail(write, &own, 1, "c", "m", NOW).map(drop));
    assert!(matches!(fails.await, Err(Error::QueueFull { .. })));
    let own = id.clone();
    let job = store.read(move |read| jobs::get(read, "a", &own)).await.expect("a clip");
    assert_eq!(job.status, Status::Running, "what nobody could be told of has not happened");
    let own = id.clone();
    assert!(store.write(move |write| jobs::succeed(write, &own, 1, &done(1, None), NOW)).await.expect("an answer"));
    let room = Room { lane: 9, all: 9 };
    let first = store.write(move |write| outbox::take(write, NOW, NOW + 1, room)).await.expect("events");
    assert_eq!(first.iter().map(|event| event.body.as_str()).collect::<Vec<_>>(), ["running"]);
    drop(store);
    // A server that was killed in its first attempt begins it anew, with the same name.
    let store = Store::open(&path).expect("the store");
    store.write(|write| outbox::recover(write, NOW)).await.expect("recovered");
    let again = store.write(move |write| outbox::take(write, NOW, NOW + 9, room)).await.expect("events");
    assert_eq!((&again[0].id, again[0].attempts), (&first[0].id, 2));
    let own = again[0].id.clone();
    store.write(move |write| outbox::delivered(write, &own, NOW)).await.expect("noted");
    let next = store.write(move |write| outbox::take(write, NOW, NOW + 9, room)).await.expect("events");
    assert_eq!(next.iter().map(|event| event.body.as_str()).collect::<Vec<_>>(), ["succeeded"]);
}

fn event(store: &Connection, job: &str, url: &str, lane: &str) -> Option<String> {
    let new = New { event: "e", url, lane, signer: None, replaces: false };
    outbox::add(store, job, &new, |_| "{}".into(), NOW).expect("an answer")
}

#[test]
fn addresses_wait_for_themselves_and_owners_for_nobody() {
    let mut store = store();
    let job = add(&mut store, "a").id;
    for number in 0..5 {
        event(&store, &job, &format!("https://slow.org/{number}"), "slow").expect("added");
    }
    let [first, second] = [(); 2].map(|()| event(&store, &job, "https://a.org", "a").expect("added"));
    let other = event(&store, &job, "https://b.org", "b").expect("added");
    let room = Room { lane: 2, all: 9 };
    let take =
        |store: &mut Connection, now| write(store, |write| outbox::take(write, now, now + 100, room)).expect("events");
    let lanes = |events: &[outbox::Event]| events.iter().map(|event| event.lane.clone()).collect::<Vec<_>>();
    let taken = take(&mut store, NOW);
    assert_eq!(lanes(&taken), ["slow", "slow", "a", "b"]);
    assert_eq!(taken[2].id, first, "the second event to the address waits for the first");
    assert_eq!(take(&mut store, NOW + 50), [], "there is no room in one lane, and nothing new in the others");
    outbox::delivered(&store, &other, NOW).expect("noted");
    outbox::delivered(&store, &taken[0].id, NOW).expect("noted");
    assert_eq!(lanes(&take(&mut store, NOW + 50)), ["slow"]);
    // After a failure, the next event need not wait for the next attempt.
    assert!(outbox::failed(&store, &taken[2], "HTTP 500", Some(NOW + 5000)).expect("noted"));
    let next = take(&mut store, NOW + 50);
    assert_eq!(next.iter().map(|event| &event.id).collect::<Vec<_>>(), [&second]);
    let one = Room { lane: 9, all: 1 };
    let late = write(&mut store, |write| outbox::take(write, NOW + 200, NOW + 300, one)).expect("events");
    assert_eq!(late.len(), 1, "attempts that were lost are made again, as many as there is room for");
}

#[test]
fn receivers_can_ask_for_a_pause_or_for_nothing_any_more() {
    let mut store = store();
    let job = add(&mut store, "a").id;
    let url = "https://a.org";
    let [first, _] = [(); 2].map(|()| event(&store, &job, url, "a").expect("added"));
    event(&store, &job, url, "b").expect("added");
    let room = Room { lane: 9, all: 9 };
    let take =
        |store: &mut Connection, now| write(store, |write| outbox::take(write, now, now + 10, room)).expect("events");
    let taken = take(&mut store, NOW);
    assert_eq!(taken[0].id, first);
    outbox::failed(&store, &taken[0], "HTTP 429", Some(NOW + 500)).expect("noted");
    outbox::failed(&store, &taken[1], "HTTP 500", Some(NOW + 5)).expect("noted");
    outbox::hold(&store, url, NOW + 500).expect("held");
    assert_eq!(take(&mut store, NOW + 499), []);
    let taken = take(&mut store, NOW + 500);
    assert_eq!(taken.len(), 2, "one of each lane");
    outbox::close(&store, "a", url, "HTTP 410", NOW).expect("closed");
    assert_eq!(event(&store, &job, url, "a"), None, "nothing more is added for it");
    let rest = take(&mut store, NOW + 600);
    assert_eq!(rest.iter().map(|event| event.lane.as_str()).collect::<Vec<_>>(), ["b"], "another's is another's");
    outbox::open(&store, "a", url).expect("opened");
    assert!(event(&store, &job, url, "a").is_some());
}

#[test]
fn a_full_lane_keeps_no_other_from_the_same_address() {
    let mut store = store();
    let job = add(&mut store, "a").id;
    let room = Room { lane: 1, all: 9 };
    let take = |store: &mut Connection| write(store, |write| outbox::take(write, NOW, NOW + 9, room)).expect("events");
    event(&store, &job, "https://slow.org", "slow").expect("added");
    assert_eq!(take(&mut store).len(), 1, "the lane is full");
    event(&store, &job, "https://a.org", "slow").expect("added");
    let other = event(&store, &job, "https://a.org", "b").expect("added");
    let again = event(&store, &job, "https://slow.org", "c").expect("added");
    let taken: Vec<_> = take(&mut store).into_iter().map(|event| event.id).collect();
    assert_eq!(taken, [other, again]);
}

#[test]
fn newer_events_replace_older_ones_of_the_same_clip() {
    let mut store = store();
    let [job, other] = [(); 2].map(|()| add(&mut store, "a").id);
    let (room, url) = (Room { lane: 9, all: 9 }, "https://a.org");
    let new = New { event: "e", url, lane: "a", signer: None, replaces: true };
    let tell = |store: &Connection, job: &str, body: &str| {
        outbox::add(store, job, &new, |_| body.into(), NOW).expect("an answer").expect("added")
    };
    let take = |store: &mut Connection, now| {
        let taken = write(store, |write| outbox::take(write, now, now + 10, room)).expect("events");
        taken.into_iter().next()
    };
    let body = |event: Option<outbox::Event>| event.map(|event| event.body);
    // What is under way ends there, what waits is not begun, and another clip's stays.
    tell(&store, &job, "submitted");
    let flying = take(&mut store, NOW).expect("an event");
    tell(&store, &job, "processing");
    tell(&store, &other, "other");
    tell(&store, &job, "succeed");
    assert!(outbox::failed(&store, &flying, "HTTP 500", Some(NOW + 1)).expect("noted"));
    assert_eq!(body(take(&mut store, NOW + 1)).as_deref(), Some("other"));
    let last = take(&mut store, NOW + 20).expect("an event");
    assert_eq!(last.body, "succeed", "{last:?}");
    // An attempt that was lost is not made again either.
    tell(&store, &job, "newest");
    assert_eq!(body(take(&mut store, NOW + 40)).as_deref(), Some("newest"));
    outbox::recover(&store, NOW + 50).expect("recovered");
    let rest: Vec<_> = std::iter::from_fn(|| body(take(&mut store, NOW + 60))).collect();
    assert!(!rest.contains(&"succeed".to_string()) && !rest.contains(&"submitted".to_string()), "{rest:?}");
}

#[test]
fn only_so_many_events_of_a_lane_wait() {
    let mut store = store();
    let job = add(&mut store, "a").id;
    let ids: Vec<_> = (0..5).map(|_| event(&store, &job, "https://a.org", "a").expect("added")).collect();
    event(&store, &job, "https://a.org", "b").expect("added");
    assert_eq!(outbox::trim(&store, "a", 5).expect("an answer"), 0);
    assert_eq!(outbox::trim(&store, "a", 2).expect("an answer"), 3);
    let mut rest = Vec::new();
    while let Some(event) = write(&mut store, |write| outbox::take(write, NOW, NOW + 9, Room { lane: 9, all: 9 }))
        .expect("events")
        .into_iter()
        .find(|event| event.lane == "a")
    {
        outbox::delivered(&store, &event.id, NOW).expect("noted");
        rest.push(event.id);
    }
    rest.sort();
    let mut newest = ids[3..].to_vec();
    newest.sort();
    assert_eq!(rest, newest, "the oldest are given up");
}

/// A store as the first version left it, with a clip in it.
#[tokio::test]
async fn the_first_versions_store_is_brought_up_to_date() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("store");
    let old = Connection::open(&path).expect("a database");
    old.execute_batch(include_str!("../../src/store/schema.sql")).expect("the tables");
    let row = "INSERT INTO jobs (id, owner, status, rank, created_at, api, kind, prompt, request, plan, cost) \
               VALUES ('video_1', 'a', 'queued', 1, 0, 'own', 'clip', 'x', '{}', '{}', 0); \
               INSERT INTO ledger (owner, day, job, kind, credits, at) VALUES ('a', 0, 'video_1', 'reserve', 0, 0); \
               PRAGMA application_id = 1802071663; PRAGMA user_version = 1;";
    old.execute_batch(row).expect("rows");
    drop(old);
    let store = Store::open(&path).expect("the store");
    let told = Told::default();
    let notes = Arc::clone(&told);
    store.on_change(Box::new(move |_, changed| {
        notes.lock().expect("notes").extend(changed.iter().map(|job| (job.id.clone(), job.status)));
        Ok(())
    }));
    store.write(|write| jobs::cancel(write, "a", "video_1", NOW).map(drop)).await.expect("cancelled");
    assert_eq!(*told.lock().expect("notes"), [("video_1".to_string(), Status::Cancelled)]);
    drop(store);
    Store::open(&path).expect("it opens again");
}

//! Turns, order, limits and what guards a clip.

use kinora_serve::Error;
use kinora_serve::store::jobs::{self, Cancel, End, NewJob, Status};
use kinora_serve::store::{Terms, assets};

use super::common::{NOW, add, claim, claim_limited, clip, done, make, store, terms, write};
use super::tables::upload;

#[test]
fn one_who_asks_for_a_hundred_clips_keeps_nobody_waiting() {
    let mut store = store();
    for _ in 0..100 {
        add(&mut store, "many");
    }
    for _ in 0..3 {
        assert_eq!(claim(&mut store).expect("a clip").owner, "many");
    }
    add(&mut store, "one");
    assert_eq!(claim(&mut store).expect("a clip").owner, "one");
    // With two who always want more, turns alternate.
    (0..5).for_each(|_| drop(add(&mut store, "one")));
    let turns: Vec<_> = (0..10).map(|_| claim(&mut store).expect("a clip").owner).collect();
    assert_eq!(turns, ["many", "one"].repeat(5));
    // A turn that nobody else wants is not lost.
    let rest: Vec<_> = std::iter::from_fn(|| claim(&mut store)).map(|job| job.owner).collect();
    assert_eq!(rest, ["many"].repeat(92));
}

#[test]
fn a_further_clip_waits_for_its_owners_and_for_as_many_of_others_and_one() {
    let mut store = store();
    let add = |store: &mut _, owner: &str, seconds: serde_json::Value, paused| {
        let clip = NewJob { plan: serde_json::json!({"time": {"seconds": seconds}}), paused, ..clip(owner, 0) };
        write(store, |write| jobs::insert(write, &clip, &terms(None), NOW)).expect("accepted");
    };
    for seconds in [1, 2, 4, 8] {
        add(&mut store, "many", seconds.into(), false);
    }
    add(&mut store, "many", 100.into(), true);
    let before = |store: &_, owner| jobs::before(store, owner).expect("seconds").into_iter().sum::<Option<f64>>();
    assert_eq!(before(&store, "one"), Some(1.0));
    add(&mut store, "one", 0.5.into(), false);
    assert_eq!([before(&store, "one"), before(&store, "many")], [Some(3.5), Some(15.5)]);
    add(&mut store, "one", serde_json::Value::Null, false);
    assert_eq!([before(&store, "one"), before(&store, "many"), before(&store, "new")], [None, None, Some(1.5)]);
}

#[test]
fn an_owner_who_was_away_does_not_catch_up() {
    let mut store = store();
    add(&mut store, "away");
    claim(&mut store).expect("a clip");
    (0..50).for_each(|_| drop(add(&mut store, "busy")));
    (0..20).for_each(|_| drop(claim(&mut store)));
    (0..5).for_each(|_| drop(add(&mut store, "away")));
    let turns: Vec<_> = (0..6).map(|_| claim(&mut store).expect("a clip").owner).collect();
    assert_eq!(turns, ["away", "busy"].repeat(3));
}

#[test]
fn an_owner_at_the_limit_is_passed_over() {
    let mut store = store();
    let first = add(&mut store, "a");
    add(&mut store, "a");
    let last = add(&mut store, "b");
    let one = |_: &str| Some(1);
    assert_eq!(claim_limited(&mut store, &one).expect("a clip").id, first.id);
    assert_eq!(claim_limited(&mut store, &one).expect("a clip").id, last.id);
    assert!(claim_limited(&mut store, &one).is_none());
    // One that is being cancelled still has its worker.
    write(&mut store, |write| jobs::cancel(write, "a", &first.id, NOW)).expect("a mark");
    assert!(claim_limited(&mut store, &one).is_none());
    assert!(write(&mut store, |write| jobs::cancelled(write, &first.id, 1, NOW)).expect("an end"));
    assert_eq!(claim_limited(&mut store, &one).expect("a clip").owner, "a");
}

#[test]
fn a_claim_says_who_makes_what_until_when() {
    let mut store = store();
    let new = NewJob { seed: Some(u64::MAX), ..clip("a", 0) };
    let job = write(&mut store, |write| jobs::insert(write, &new, &terms(None), NOW)).expect("accepted");
    assert_eq!((job.status, job.attempt, job.worker.as_deref(), job.lease_until), (Status::Queued, 0, None, None));
    assert_eq!((job.prompt, job.request, job.seed), (new.prompt, new.request, Some(u64::MAX)));
    let job = claim(&mut store).expect("the clip");
    assert_eq!((job.status, job.attempt, job.worker.as_deref()), (Status::Running, 1, Some("w")));
    assert_eq!((job.started_at, job.lease_until), (Some(NOW), Some(NOW + 1000)));
    assert!(write(&mut store, |write| jobs::renew(write, &job.id, 1, NOW + 5000)).expect("an answer"));
    assert_eq!(write(&mut store, |write| jobs::lapse(write, NOW + 4999)).expect("an answer"), []);
    let stage = serde_json::json!({"step": 3});
    assert!(write(&mut store, |write| jobs::progress(write, &job.id, 1, 30, Some(&stage))).expect("an answer"));
    let job = jobs::get(&store, "a", &job.id).expect("the clip");
    assert_eq!((job.progress, job.stage.as_ref(), job.lease_until), (30, Some(&stage), Some(NOW + 5000)));
    assert_eq!(jobs::held(&store).expect("clips"), [job]);
}

#[test]
fn a_worker_that_wakes_up_too_late_changes_nothing() {
    let mut store = store();
    let id = add(&mut store, "a").id;
    claim(&mut store).expect("a clip");
    assert_eq!(write(&mut store, |write| jobs::lapse(write, NOW + 1000)).expect("one").len(), 1);
    claim(&mut store).expect("the same clip");
    let before = jobs::get(&store, "a", &id).expect("the clip");
    write(&mut store, |write| {
        assert!(!jobs::progress(write, &id, 1, 90, None).expect("an answer"));
        assert!(!jobs::renew(write, &id, 1, NOW * 2).expect("an answer"));
        assert!(!jobs::succeed(write, &id, 1, &done(1, None), NOW).expect("an answer"));
        assert!(!jobs::cancelled(write, &id, 1, NOW).expect("an answer"));
        assert_eq!(jobs::fail(write, &id, 1, "x", "x", NOW).expect("an answer"), None);
        assert_eq!(jobs::requeue(write, &id, 1, End::Died, NOW).expect("an answer"), None);
    });
    assert_eq!(jobs::get(&store, "a", &id).expect("the clip"), before);
    assert!(write(&mut store, |write| jobs::succeed(write, &id, 2, &done(1, None), NOW)).expect("an answer"));
}

#[test]
fn a_result_that_comes_after_the_cancellation_is_not_kept() {
    let mut store = store();
    let id = add(&mut store, "a").id;
    claim(&mut store).expect("a clip");
    let stopping = write(&mut store, |write| jobs::cancel(write, "a", &id, NOW)).expect("an answer");
    assert_eq!(stopping, Cancel::Stopping { attempt: 1 });
    assert!(!write(&mut store, |write| jobs::succeed(write, &id, 1, &done(9, None), NOW)).expect("an answer"));
    assert!(write(&mut store, |write| jobs::cancelled(write, &id, 1, NOW)).expect("an answer"));
    let job = jobs::get(&store, "a", &id).expect("the clip");
    assert_eq!((job.status, job.bytes, job.result), (Status::Cancelled, 0, None));
    let again = write(&mut store, |write| jobs::cancel(write, "a", &id, NOW)).expect("an answer");
    assert_eq!(again, Cancel::Finished(Status::Cancelled));
}

#[test]
fn a_clip_that_kills_three_workers_fails() {
    let mut store = store();
    let id = add(&mut store, "a").id;
    let mut end = |how| {
        let attempt = claim(&mut store).expect("the clip").attempt;
        write(&mut store, |write| jobs::requeue(write, &id, attempt, how, NOW)).expect("an answer")
    };
    // That the server was ended is not the clip's fault.
    for how in [End::Died, End::Stopped, End::Stopped, End::Stopped, End::Died] {
        assert_eq!(end(how), Some(Status::Queued));
    }
    assert_eq!(end(End::Died), Some(Status::Failed));
    let job = jobs::get(&store, "a", &id).expect("the clip");
    assert_eq!((job.error_code.as_deref(), job.attempt), (Some("worker_died"), 6));
    assert!(job.error_message.expect("a message").contains("3 times"));
}

#[test]
fn a_requeued_clip_returns_to_its_place() {
    let mut store = store();
    let first = add(&mut store, "a").id;
    claim(&mut store).expect("a clip");
    let others = [add(&mut store, "a").id, add(&mut store, "a").id];
    write(&mut store, |write| jobs::requeue(write, &first, 1, End::Died, NOW)).expect("an answer");
    assert_eq!(jobs::waiting(&store, "a").expect("a queue"), [vec![first], others.to_vec()].concat());
}

/// Running clips keep their places between those that wait.
#[test]
fn a_moved_clip_does_not_pass_those_that_run() {
    let mut store = store();
    let ids: Vec<_> = (0..5).map(|_| add(&mut store, "a").id).collect();
    write(&mut store, |write| jobs::pause(write, "a", &ids[0], true)).expect("a pause");
    for id in &ids[1..3] {
        assert_eq!(&claim(&mut store).expect("a clip").id, id);
    }
    write(&mut store, |write| jobs::move_before(write, "a", &ids[4], Some(&ids[3]))).expect("a move");
    write(&mut store, |write| jobs::recover(write, NOW)).expect("an answer");
    let order = [0, 1, 2, 4, 3].map(|index: usize| ids[index].clone());
    assert_eq!(jobs::waiting(&store, "a").expect("a queue"), order);
}

/// Each move halves the gap between two neighbours, which no number survives for more than some fifty times.
#[test]
fn there_is_always_a_place_between_two_clips() {
    let mut store = store();
    let mut order: Vec<_> = (0..3).map(|_| add(&mut store, "a").id).collect();
    let running = add(&mut store, "a").id;
    write(&mut store, |write| jobs::move_before(write, "a", &running, None)).expect("a move");
    assert_eq!(claim(&mut store).expect("a clip").id, running);
    for round in 0..500 {
        let last = order[2].clone();
        write(&mut store, |write| jobs::move_before(write, "a", &last, Some(&order[1]))).expect("a move");
        order.swap(1, 2);
        assert_eq!(jobs::waiting(&store, "a").expect("a queue"), order, "round {round}");
    }
    write(&mut store, |write| jobs::requeue(write, &running, 1, End::Stopped, NOW)).expect("an answer");
    assert_eq!(jobs::waiting(&store, "a").expect("a queue"), [vec![running], order].concat());
}

#[test]
fn limits_say_what_they_are() {
    let mut store = store();
    let limited = Terms { active: Some(2), queue: Some(3), storage: Some(100), ..terms(Some(25)) };
    let mut ask = |owner: &str, cost| {
        write(&mut store, |write| jobs::insert(write, &clip(owner, cost), &limited, NOW)).map(|job| job.id)
    };
    ask("a", 10).expect("accepted");
    let error = ask("a", 16).expect_err("too dear");
    assert!(matches!(error, Error::Credits { needed: 16, left: 15 }), "{error}");
    ask("a", 15).expect("accepted");
    assert!(matches!(ask("a", 0), Err(Error::Concurrency { limit: 2 })));
    let id = ask("b", 0).expect("accepted");
    assert!(matches!(ask("c", 0), Err(Error::QueueFull { limit: 3 })));
    write(&mut store, |write| jobs::cancel_waiting(write, "a", NOW)).expect("an answer");
    make(&mut store, &id, &done(100, None));
    let refused = write(&mut store, |write| jobs::insert(write, &clip("b", 0), &limited, NOW));
    let error = refused.expect_err("no space");
    assert!(matches!(error, Error::StorageQuota { limit: 100, used: 100, .. }), "{error}");
    assert!(error.hint().is_some());
    write(&mut store, |write| jobs::insert(write, &clip("c", 0), &limited, NOW)).expect("another's space");
}

#[test]
fn what_an_unfinished_clip_needs_cannot_go() {
    let mut store = store();
    let source = add(&mut store, "a").id;
    make(&mut store, &source, &done(1, Some(NOW)));
    let picture = write(&mut store, |write| assets::insert(write, &upload("a", 5), None, NOW)).expect("kept").id;
    let new = NewJob { inputs: vec![source.clone(), picture.clone()], ..clip("a", 0) };
    let stranger = NewJob { owner: "b".into(), ..new.clone() };
    let refused = write(&mut store, |write| jobs::insert(write, &stranger, &terms(None), NOW));
    assert!(matches!(refused, Err(Error::NotFound { what: "clip", .. })));
    let child = write(&mut store, |write| jobs::insert(write, &new, &terms(None), NOW)).expect("accepted").id;
    write(&mut store, |write| {
        for refused in
            [jobs::delete(write, "a", &source, NOW).map(drop), assets::delete(write, "a", &picture).map(drop)]
        {
            assert!(matches!(refused, Err(Error::InUse { job, .. }) if job == child));
        }
        assert_eq!(jobs::expire(write, NOW, 9).expect("an answer"), []);
        assert_eq!(assets::sweep(write, NOW + 1, 9).expect("an answer"), []);
        jobs::cancel(write, "a", &child, NOW).expect("an answer");
        assert_eq!(jobs::expire(write, NOW - 1, 9).expect("an answer"), []);
        assert_eq!(jobs::expire(write, NOW, 9).expect("an answer").len(), 1);
        assert_eq!(assets::sweep(write, NOW, 9).expect("an answer"), []);
        assert_eq!(assets::sweep(write, NOW + 1, 9).expect("an answer").len(), 1);
    });
    assert_eq!(jobs::get(&store, "a", &source).expect("the clip").status, Status::Expired);
    assert_eq!(jobs::storage(&store, "a").expect("a number"), 0);
}

#[test]
fn a_deleted_clip_leaves_no_text_behind() {
    let mut store = store();
    let secret = "a secret prompt";
    let new = NewJob {
        prompt: secret.into(),
        request: secret.into(),
        plan: secret.into(),
        external_id: Some(secret.into()),
        callback_url: Some(secret.into()),
        ..clip("a", 0)
    };
    let id = write(&mut store, |write| jobs::insert(write, &new, &terms(None), NOW)).expect("accepted").id;
    let early = write(&mut store, |write| jobs::delete(write, "a", &id, NOW));
    assert!(matches!(early, Err(Error::State { status: Status::Queued, .. })));
    claim(&mut store).expect("the clip");
    write(&mut store, |write| jobs::fail(write, &id, 1, "media", secret, NOW)).expect("an answer");
    let before = write(&mut store, |write| jobs::delete(write, "a", &id, NOW)).expect("the clip");
    assert_eq!(before.prompt, secret);
    assert!(matches!(jobs::get(&store, "a", &id), Err(Error::NotFound { .. })));
    let copy = tempfile::tempdir().expect("a directory");
    let path = copy.path().join("copy");
    store.execute("VACUUM INTO ?1", [path.to_str()]).expect("a copy");
    let file = std::fs::read(path).expect("the copy");
    assert!(!file.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()));
    // The client's name is free again.
    write(&mut store, |write| jobs::insert(write, &new, &terms(None), NOW)).expect("accepted");
}

#[test]
fn names_that_clients_give_are_unique_for_each_owner() {
    let mut store = store();
    let new = NewJob { external_id: Some("x".into()), ..clip("a", 0) };
    let first = write(&mut store, |write| jobs::insert(write, &new, &terms(None), NOW)).expect("accepted");
    let second = write(&mut store, |write| jobs::insert(write, &new, &terms(None), NOW));
    assert!(matches!(second, Err(Error::Duplicate { id, .. }) if id == first.id));
    let other = NewJob { owner: "b".into(), ..new };
    write(&mut store, |write| jobs::insert(write, &other, &terms(None), NOW)).expect("accepted");
    assert_eq!(jobs::by_external(&store, "a", "x").expect("an answer").map(|job| job.id), Some(first.id));
    assert_eq!(jobs::by_external(&store, "a", "y").expect("an answer"), None);
}

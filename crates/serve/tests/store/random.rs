//! Random sequences of everything that can happen to clips, against the model, with all rules checked after every step.

use kinora_serve::Day;
use kinora_serve::store::jobs::{self, Cancel, Edit, End, NewJob, Status};
use kinora_serve::store::{Terms, ledger};
use kinora_serve::{Error, Result};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use rusqlite::Connection;

use super::common::{NOW, TODAY, claim_limited, clip, done, store, write};
use super::model::{Model, QUEUE, Refusal};

/// Something that happens. An `Index` chooses among all clips, or among those that are held.
#[derive(Debug, Clone)]
enum Step {
    Insert { owner: usize, cost: i64, paused: bool, input: Option<Index> },
    Claim,
    Report { clip: Index, report: Report, stale: bool },
    Ask { clip: Index, ask: Ask, stranger: bool },
    CancelWaiting { owner: usize },
    Recover,
    Lapse { passed: bool },
    Expire,
    Day(i64),
}

/// What a worker says.
#[derive(Debug, Clone)]
enum Report {
    Progress(u8),
    Succeed { expires: bool },
    Fail,
    Requeue(bool),
    Cancelled,
}

/// What an owner asks for.
#[derive(Debug, Clone)]
enum Ask {
    Cancel,
    Delete,
    Edit(i64),
    Pause(bool),
    Star(bool),
    Move(Option<Index>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let report = prop_oneof![
        any::<u8>().prop_map(Report::Progress),
        any::<bool>().prop_map(|expires| Report::Succeed { expires }),
        Just(Report::Fail),
        any::<bool>().prop_map(Report::Requeue),
        Just(Report::Cancelled),
    ];
    let ask = prop_oneof![
        3 => Just(Ask::Cancel),
        4 => Just(Ask::Delete),
        3 => (0..40_i64).prop_map(Ask::Edit),
        2 => any::<bool>().prop_map(Ask::Pause),
        1 => any::<bool>().prop_map(Ask::Star),
        4 => any::<Option<Index>>().prop_map(Ask::Move),
    ];
    let step = prop_oneof![
        10 => (0..3_usize, 0..25_i64, prop::bool::weighted(0.2), prop::option::weighted(0.6, any::<Index>()))
            .prop_map(|(owner, cost, paused, input)| Step::Insert { owner, cost, paused, input }),
        8 => Just(Step::Claim),
        8 => (any::<Index>(), report, prop::bool::weighted(0.2))
            .prop_map(|(clip, report, stale)| Step::Report { clip, report, stale }),
        8 => (any::<Index>(), ask, prop::bool::weighted(0.1))
            .prop_map(|(clip, ask, stranger)| Step::Ask { clip, ask, stranger }),
        1 => (0..3_usize).prop_map(|owner| Step::CancelWaiting { owner }),
        1 => Just(Step::Recover),
        1 => any::<bool>().prop_map(|passed| Step::Lapse { passed }),
        1 => Just(Step::Expire),
        4 => (-1..3_i64).prop_map(Step::Day),
    ];
    vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(steps in steps()) {
        let (mut store, mut model) = (store(), Model::new(TODAY));
        for step in &steps {
            run(&mut store, &mut model, step);
            same(&store, &model);
        }
    }
}

fn run(store: &mut Connection, model: &mut Model, step: &Step) {
    match step {
        Step::Insert { owner, cost, paused, input } => insert(store, model, *owner, *cost, *paused, *input),
        Step::Claim => {
            let claimed = claim_limited(store, &limits(model));
            let expected = model.claim().map(|index| &model.clips[index]);
            assert_eq!(claimed.map(|job| (job.id, job.attempt)), expected.map(|clip| (clip.id.clone(), clip.attempt)));
        }
        Step::Report { clip, report, stale } => tell(store, model, *clip, report, *stale),
        Step::Ask { clip, ask, stranger } => owner_asks(store, model, *clip, ask, *stranger),
        Step::CancelWaiting { owner } => {
            let cancelled = write(store, |write| jobs::cancel_waiting(write, model.owners[*owner].name, NOW));
            let waiting = model.queued(*owner);
            assert_eq!(cancelled.expect("cancelled"), ids(model, &waiting));
            for index in waiting {
                model.end(index, Status::Cancelled, false);
            }
        }
        Step::Recover => released(model, write(store, |write| jobs::recover(write, NOW)), false),
        // Leases end a second after the claim.
        Step::Lapse { passed: true } => released(model, write(store, |write| jobs::lapse(write, NOW + 1000)), true),
        Step::Lapse { passed: false } => {
            assert_eq!(write(store, |write| jobs::lapse(write, NOW + 999)).expect("nothing"), []);
        }
        Step::Expire => expire(store, model),
        Step::Day(days) => model.today += days,
    }
}

fn terms(model: &Model, owner: usize) -> Terms {
    let owner = &model.owners[owner];
    let day = Day(model.today);
    Terms { day, credits: owner.credits, active: owner.active, queue: Some(QUEUE), storage: None }
}

fn limits(model: &Model) -> impl Fn(&str) -> Option<u64> + use<> {
    let limits: Vec<_> = model.owners.iter().map(|owner| (owner.name, owner.running)).collect();
    move |name| limits.iter().find(|(owner, _)| *owner == name).and_then(|(_, limit)| *limit)
}

fn ids(model: &Model, clips: &[usize]) -> Vec<String> {
    clips.iter().map(|index| model.clips[*index].id.clone()).collect()
}

fn refusal(error: &Error) -> Refusal {
    match error {
        Error::NotFound { .. } => Refusal::NotFound,
        Error::State { .. } => Refusal::State,
        Error::InUse { .. } => Refusal::InUse,
        Error::Concurrency { .. } => Refusal::Concurrency,
        Error::QueueFull { .. } => Refusal::QueueFull,
        Error::Credits { needed, left } => Refusal::Credits { needed: *needed, left: *left },
        other => panic!("{other}"),
    }
}

fn insert(store: &mut Connection, model: &mut Model, owner: usize, cost: i64, paused: bool, input: Option<Index>) {
    let input = input.filter(|_| !model.clips.is_empty()).map(|input| input.index(model.clips.len()));
    let inputs = ids(model, input.as_slice());
    let new = NewJob { paused, inputs, ..clip(model.owners[owner].name, cost) };
    let accepted = write(store, |write| jobs::insert(write, &new, &terms(model, owner), NOW));
    match model.may_insert(owner, cost, input) {
        Ok(()) => model.insert(accepted.expect("an accepted clip").id, owner, cost, paused, input),
        Err(expected) => assert_eq!(refusal(&accepted.expect_err("a refusal")), expected),
    }
}

/// A worker reports. A stale report is of an attempt that is not the last one.
fn tell(store: &mut Connection, model: &mut Model, clip: Index, report: &Report, stale: bool) {
    let held = model.held();
    let among: Vec<usize> = if stale { (0..model.clips.len()).collect() } else { held };
    if among.is_empty() {
        return;
    }
    let index = *clip.get(&among);
    let (id, status) = (model.clips[index].id.clone(), model.clips[index].status);
    let attempt = model.clips[index].attempt - i64::from(stale);
    let counts = !stale;
    write(store, |write| match report {
        Report::Progress(percent) => {
            assert_eq!(jobs::progress(write, &id, attempt, *percent, None).expect("an answer"), counts);
            assert_eq!(jobs::renew(write, &id, attempt, NOW).expect("an answer"), counts);
            let clip = &mut model.clips[index];
            clip.progress = if counts { clip.progress.max((*percent).min(100)) } else { clip.progress };
        }
        Report::Succeed { expires } => {
            let expires_at = expires.then_some(NOW);
            let counts = counts && status == Status::Running;
            let answer = jobs::succeed(write, &id, attempt, &done(7, expires_at), NOW).expect("an answer");
            assert_eq!(answer, counts);
            if counts {
                model.end(index, Status::Succeeded, true);
                (model.clips[index].expires_at, model.clips[index].progress) = (expires_at, 100);
            }
        }
        Report::Fail => {
            let becomes = if status == Status::Cancelling { Status::Cancelled } else { Status::Failed };
            let answer = jobs::fail(write, &id, attempt, "out_of_memory", "there is none", NOW).expect("an answer");
            assert_eq!(answer, counts.then_some(becomes));
            if counts {
                model.end(index, becomes, false);
            }
        }
        Report::Requeue(died) => {
            let how = if *died { End::Died } else { End::Stopped };
            let answer = jobs::requeue(write, &id, attempt, how, NOW).expect("an answer");
            assert_eq!(answer, counts.then(|| model.requeue(index, *died)));
        }
        Report::Cancelled => {
            let counts = counts && status == Status::Cancelling;
            assert_eq!(jobs::cancelled(write, &id, attempt, NOW).expect("an answer"), counts);
            if counts {
                model.end(index, Status::Cancelled, false);
            }
        }
    });
}

/// An owner, or a stranger in the owner's place, asks for something.
fn owner_asks(store: &mut Connection, model: &mut Model, clip: Index, ask: &Ask, stranger: bool) {
    if model.clips.is_empty() {
        return;
    }
    let index = clip.index(model.clips.len());
    let owner = (model.clips[index].owner + usize::from(stranger)) % model.owners.len();
    let (id, name) = (model.clips[index].id.clone(), model.owners[owner].name);
    let (answer, expected): (Result<()>, _) = write(store, |write| match ask {
        Ask::Cancel => {
            let answer = jobs::cancel(write, name, &id, NOW);
            let expected = model.find(owner, index).map(|clip| (clip.status, clip.attempt));
            if let Ok((status, attempt)) = expected {
                assert_eq!(*answer.as_ref().expect("an answer"), cancel(model, index, status, attempt));
            }
            (answer.map(drop), expected.map(drop))
        }
        Ask::Delete => (jobs::delete(write, name, &id, NOW).map(drop), delete(model, owner, index)),
        Ask::Edit(cost) => {
            let edit = Edit {
                prompt: "blue".into(),
                request: 1.into(),
                plan: 2.into(),
                seed: Some(3),
                inputs: Vec::new(),
                cost: *cost,
            };
            let answer = jobs::edit(write, name, &id, &edit, &terms(model, owner), NOW);
            (answer.map(drop), model.edit(owner, index, *cost))
        }
        Ask::Pause(paused) => {
            let expected = model.find_queued(owner, index).map(drop);
            if expected.is_ok() {
                model.clips[index].paused = *paused;
            }
            (jobs::pause(write, name, &id, *paused), expected)
        }
        Ask::Star(starred) => {
            let expected = model.find(owner, index).map(drop);
            if expected.is_ok() {
                model.clips[index].starred = *starred;
            }
            (jobs::star(write, name, &id, *starred), expected)
        }
        Ask::Move(other) => {
            let other = other.map(|other| other.index(model.clips.len()));
            let other_id = other.map(|other| model.clips[other].id.clone());
            (jobs::move_before(write, name, &id, other_id.as_deref()), model.move_before(owner, index, other))
        }
    });
    assert_eq!(answer.map_err(|error| refusal(&error)), expected, "{ask:?}");
}

fn cancel(model: &mut Model, index: usize, status: Status, attempt: i64) -> Cancel {
    match status {
        Status::Queued => {
            model.end(index, Status::Cancelled, false);
            Cancel::Cancelled
        }
        Status::Running | Status::Cancelling => {
            model.clips[index].status = Status::Cancelling;
            Cancel::Stopping { attempt }
        }
        finished => Cancel::Finished(finished),
    }
}

fn delete(model: &mut Model, owner: usize, index: usize) -> std::result::Result<(), Refusal> {
    let clip = model.find(owner, index)?;
    if !clip.status.is_finished() {
        return Err(Refusal::State);
    }
    if model.is_needed(index) {
        return Err(Refusal::InUse);
    }
    let clip = &mut model.clips[index];
    (clip.deleted, clip.starred, clip.expires_at) = (true, false, None);
    Ok(())
}

fn released(model: &mut Model, released: Result<Vec<(String, Status)>>, died: bool) {
    let expected: Vec<_> = model.held().into_iter().map(|index| (index, model.requeue(index, died))).collect();
    let expected: Vec<_> =
        expected.into_iter().map(|(index, status)| (model.clips[index].id.clone(), status)).collect();
    assert_eq!(released.expect("an answer"), expected);
}

fn expire(store: &mut Connection, model: &mut Model) {
    let expired = write(store, |write| jobs::expire(write, NOW, 100)).expect("an answer");
    let over = |index: &usize| {
        let clip = &model.clips[*index];
        clip.status == Status::Succeeded && clip.expires_at.is_some() && !model.is_needed(*index)
    };
    let over: Vec<_> = (0..model.clips.len()).filter(over).collect();
    let mut found: Vec<_> = expired.into_iter().map(|job| job.id).collect();
    found.sort();
    assert_eq!(found, ids(model, &over));
    for index in over {
        model.clips[index].status = Status::Expired;
    }
}

/// Checks that the store is as the model says, and that the accounts add up.
fn same(store: &Connection, model: &Model) {
    ledger::check(store).expect("accounts that add up");
    let sql = "SELECT id, status, attempt, deaths, paused, progress, cost, charged, starred, deleted_at IS NOT NULL \
               FROM jobs ORDER BY id";
    let mut statement = store.prepare_cached(sql).expect("a query");
    let rows = statement.query_map([], |row| {
        let first: (String, Status, i64, i64, bool) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        let second: (u8, i64, Option<i64>, bool, bool) =
            (row.get(5)?, row.get(6)?, row.get(7)?, row.get(8)?, row.get(9)?);
        Ok((first, second))
    });
    let stored: Vec<_> = rows.expect("rows").collect::<rusqlite::Result<_>>().expect("rows");
    let expected = model.clips.iter().map(|clip| {
        let first = (clip.id.clone(), clip.status, clip.attempt, clip.deaths, clip.paused);
        (first, (clip.progress, clip.cost, clip.charged, clip.starred, clip.deleted))
    });
    assert_eq!(stored, expected.collect::<Vec<_>>());
    for (index, owner) in model.owners.iter().enumerate() {
        assert_eq!(jobs::waiting(store, owner.name).expect("a queue"), ids(model, &model.queued(index)));
        let left = ledger::left(store, owner.name, &terms(model, index)).expect("a number");
        assert_eq!(left, model.left(index));
        assert!(ledger::balance(store, owner.name).expect("a balance") >= 0);
    }
}

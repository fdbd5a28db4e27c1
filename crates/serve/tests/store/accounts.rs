//! Days, grants and what the check of the ledger finds.

use kinora_serve::store::jobs::{self, Edit};
use kinora_serve::store::{Terms, ledger};
use kinora_serve::{Day, Error};
use rusqlite::Connection;

use super::common::{NOW, TODAY, claim, clip, done, store, terms, write};

fn on(day: i64, credits: Option<i64>) -> Terms {
    Terms { day: Day(day), ..terms(credits) }
}

fn ask(store: &mut Connection, cost: i64, terms: &Terms) -> Result<String, Error> {
    write(store, |write| jobs::insert(write, &clip("a", cost), terms, NOW)).map(|job| job.id)
}

/// The owner's rows, the oldest first.
fn rows(store: &Connection) -> Vec<(i64, String, i64)> {
    let entries = ledger::entries(store, "a", None, 100).expect("entries");
    entries.into_iter().rev().map(|entry| (entry.day.0 - TODAY, entry.kind, entry.credits)).collect()
}

fn left(store: &Connection, terms: &Terms) -> Option<i64> {
    ledger::check(store).expect("accounts that add up");
    ledger::left(store, "a", terms).expect("a number")
}

#[test]
fn sixty_six_credits_are_six_short_clips() {
    let (mut store, free) = (store(), terms(Some(66)));
    for made in 0..6 {
        assert_eq!(left(&store, &free), Some(66 - 10 * made));
        ask(&mut store, 10, &free).expect("accepted");
        let job = claim(&mut store).expect("a clip");
        write(&mut store, |write| jobs::succeed(write, &job.id, 1, &done(1, None), NOW)).expect("an answer");
        assert_eq!(jobs::get(&store, "a", &job.id).expect("the clip").charged, Some(10));
    }
    assert!(matches!(ask(&mut store, 10, &free), Err(Error::Credits { needed: 10, left: 6 })));
    // The next day begins with its own credits: what was left is lost.
    let tomorrow = on(TODAY + 1, Some(66));
    assert_eq!(left(&store, &tomorrow), Some(66));
    ask(&mut store, 66, &tomorrow).expect("accepted");
    assert_eq!(left(&store, &tomorrow), Some(0));
    let rows = rows(&store);
    assert_eq!(rows[0], (0, "grant".into(), 66));
    let kinds = [(0, "expire".into(), -6), (1, "grant".into(), 66), (1, "reserve".into(), -66)];
    assert_eq!(rows[13..], kinds);
    assert_eq!(ledger::entries(&store, "a", Some(2), 9).expect("entries").len(), 1);
}

#[test]
fn credits_go_back_to_their_day() {
    let (mut store, today, tomorrow) = (store(), on(TODAY, Some(50)), on(TODAY + 1, Some(50)));
    let [first, second] = [20, 10].map(|cost| ask(&mut store, cost, &today).expect("accepted"));
    write(&mut store, |write| jobs::cancel(write, "a", &first, NOW)).expect("an answer");
    assert_eq!(left(&store, &today), Some(40));
    ask(&mut store, 5, &tomorrow).expect("accepted");
    write(&mut store, |write| jobs::cancel(write, "a", &second, NOW)).expect("an answer");
    assert_eq!(left(&store, &tomorrow), Some(45));
    assert_eq!(
        rows(&store)[4..],
        [
            (0, "expire".into(), -40),
            (1, "grant".into(), 50),
            (1, "reserve".into(), -5),
            (0, "refund".into(), 10),
            (0, "expire".into(), -10),
        ]
    );
}

#[test]
fn a_clock_that_is_set_back_grants_nothing() {
    let mut store = store();
    ask(&mut store, 30, &on(TODAY, Some(30))).expect("accepted");
    for day in [TODAY - 1, TODAY - 1000, TODAY] {
        assert!(matches!(ask(&mut store, 1, &on(day, Some(30))), Err(Error::Credits { left: 0, .. })), "{day}");
        assert_eq!(left(&store, &on(day, Some(30))), Some(0));
    }
}

#[test]
fn a_better_tier_counts_at_once() {
    let mut store = store();
    ask(&mut store, 60, &terms(Some(66))).expect("accepted");
    assert_eq!(left(&store, &terms(Some(100))), Some(40));
    ask(&mut store, 40, &terms(Some(100))).expect("accepted");
    // Back and forth brings nothing.
    for credits in [66, 100, 0, 100] {
        assert_eq!(left(&store, &terms(Some(credits))), Some(0));
        assert!(ask(&mut store, 1, &terms(Some(credits))).is_err());
    }
}

#[test]
fn without_a_limit_nothing_is_reserved() {
    let mut store = store();
    ask(&mut store, 60, &terms(Some(66))).expect("accepted");
    let id = ask(&mut store, 1_000_000, &on(TODAY + 1, None)).expect("accepted");
    assert_eq!(left(&store, &on(TODAY + 1, None)), None);
    assert_eq!(jobs::get(&store, "a", &id).expect("the clip").cost, 0);
    assert_eq!(rows(&store)[2..], [(0, "expire".into(), -6), (1, "reserve".into(), 0)]);
    assert!(matches!(ask(&mut store, -1, &terms(None)), Err(Error::Invalid { .. })));
}

#[test]
fn an_edited_clip_has_its_new_price() {
    let (mut store, terms) = (store(), terms(Some(30)));
    let id = ask(&mut store, 20, &terms).expect("accepted");
    let mut edit = |cost| {
        let edit = Edit {
            prompt: "blue".into(),
            request: "r".into(),
            plan: "p".into(),
            seed: Some(4),
            inputs: Vec::new(),
            cost,
        };
        let edited = write(&mut store, |write| jobs::edit(write, "a", &id, &edit, &terms, NOW));
        (edited, left(&store, &terms).expect("a number"))
    };
    let (job, left) = edit(30);
    let job = job.expect("the clip");
    assert_eq!((job.cost, job.prompt.as_str(), job.seed, left), (30, "blue", Some(4), 0));
    let (refused, left) = edit(31);
    assert!(matches!(refused, Err(Error::Credits { needed: 31, left: 30 })));
    assert_eq!(left, 0);
    assert_eq!(edit(5).1, 25);
    claim(&mut store).expect("the clip");
    write(&mut store, |write| jobs::succeed(write, &id, 1, &done(1, None), NOW)).expect("an answer");
    ledger::check(&store).expect("accounts that add up");
    assert_eq!(jobs::get(&store, "a", &id).expect("the clip").charged, Some(5));
}

/// What was reserved on a day that is over is lost: it does not pay for today's price.
#[test]
fn an_edit_on_the_next_day_is_paid_anew() {
    let (mut store, tomorrow) = (store(), on(TODAY + 1, Some(30)));
    let id = ask(&mut store, 20, &terms(Some(30))).expect("accepted");
    let mut edit = |cost| {
        let (request, plan) = ("r".into(), "p".into());
        let edit = Edit { prompt: String::new(), request, plan, seed: None, inputs: Vec::new(), cost };
        let edited = write(&mut store, |write| jobs::edit(write, "a", &id, &edit, &tomorrow, NOW));
        (edited.map(|job| job.cost), left(&store, &tomorrow).expect("a number"))
    };
    // The same price stays paid.
    assert!(matches!(edit(20), (Ok(20), 30)));
    assert!(matches!(edit(31), (Err(Error::Credits { needed: 31, left: 30 }), 30)));
    assert!(matches!(edit(25), (Ok(25), 5)));
    assert!(matches!(edit(10), (Ok(10), 20)));
}

/// Every rule of the check finds what breaks it.
#[test]
fn the_check_finds_what_is_wrong() {
    for (rule, damage) in [
        ("was below 0", "UPDATE ledger SET credits = 9 WHERE kind = 'grant'"),
        ("does not add up to 0", "UPDATE ledger SET day = day - 1 WHERE kind = 'grant'"),
        ("another owner's", "UPDATE jobs SET owner = 'b'"),
        ("do not fit", "DELETE FROM ledger WHERE kind = 'reserve'"),
        ("do not fit", "UPDATE jobs SET cost = 11"),
        (
            "do not fit",
            "INSERT INTO ledger (owner, day, job, kind, credits, at) SELECT owner, day, job, 'charge', 0, 0 \
          FROM ledger WHERE kind = 'reserve'",
        ),
        (
            "do not fit",
            "INSERT INTO ledger (owner, day, job, kind, credits, at) SELECT owner, day, job, 'refund', 10, 0 \
          FROM ledger WHERE kind = 'reserve'",
        ),
        ("do not fit", "UPDATE jobs SET status = 'failed', finished_at = 1, charged = 0"),
        ("do not fit", "UPDATE jobs SET status = 'succeeded', finished_at = 1, charged = 10"),
        (
            "has ended twice",
            "INSERT INTO ledger (owner, day, kind, credits, at) VALUES ('a', 1, 'grant', 2, 0), ('a', 1, 'expire', -1, 0), \
             ('a', 1, 'expire', -1, 0)",
        ),
    ] {
        let mut store = store();
        ask(&mut store, 10, &terms(Some(30))).expect("accepted");
        ledger::check(&store).expect("accounts that add up");
        store.execute(damage, []).expect("damage");
        let error = ledger::check(&store).expect_err(damage).to_string();
        assert!(error.contains(rule), "{damage}: {error}");
    }
}

//! Files: opened again, of others, of later versions; and the handle itself.

use std::path::Path;

use kinora_serve::store::jobs::{self, Status};
use kinora_serve::store::ledger;
use kinora_serve::{Error, Store};
use rusqlite::Connection;

use super::common::{NOW, clip, done, terms};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn the_database_has_no_known_fault() {
    // Up to 3.51.2, several connections with a write-ahead log could lose commits.
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
}

/// The file is left as a crash leaves it: with its log, which nobody has put in order.
#[tokio::test]
async fn what_was_written_is_there_after_a_crash() {
    let folder = folder();
    let (path, crashed) = (folder.path().join("store"), folder.path().join("crashed"));
    let store = Store::open(&path).expect("a store");
    let mut ids = Vec::new();
    for _ in 0..4 {
        let insert = |write: &rusqlite::Transaction<'_>| jobs::insert(write, &clip("a", 10), &terms(Some(66)), NOW);
        ids.push(store.write(insert).await.expect("accepted").id);
    }
    let claim = |write: &rusqlite::Transaction<'_>| jobs::claim(write, "w", NOW, &|_| None, NOW);
    for _ in 0..3 {
        store.write(claim).await.expect("an answer").expect("a clip");
    }
    let (made, stopped) = (ids[0].clone(), ids[1].clone());
    let end = move |write: &rusqlite::Transaction<'_>| {
        jobs::cancel(write, "a", &stopped, NOW)?;
        jobs::succeed(write, &made, 1, &done(1, None), NOW)
    };
    assert!(store.write(end).await.expect("an answer"));
    for file in ["", "-wal"] {
        std::fs::copy(format!("{}{file}", path.display()), format!("{}{file}", crashed.display())).expect("a copy");
    }
    assert!(std::fs::metadata(format!("{}-wal", crashed.display())).expect("a log").len() > 0);

    let store = Store::open(&crashed).expect("the store as the crash left it");
    let recovered = store.write(|write| jobs::recover(write, NOW)).await.expect("an answer");
    assert_eq!(recovered, [(ids[1].clone(), Status::Cancelled), (ids[2].clone(), Status::Queued)]);
    let statuses = store.read(move |read| {
        ledger::check(read)?;
        ids.iter().map(|id| jobs::get(read, "a", id).map(|job| job.status)).collect::<Result<Vec<_>, _>>()
    });
    let expected = [Status::Succeeded, Status::Cancelled, Status::Queued, Status::Queued];
    assert_eq!(statuses.await.expect("clips"), expected);
    assert_eq!(store.read(|read| ledger::balance(read, "a")).await.expect("a number"), 36);
}

#[tokio::test]
async fn a_store_that_is_dropped_amid_its_work_opens_again() {
    let folder = folder();
    let path = folder.path().join("store");
    let store = Store::open(&path).expect("a store");
    let insert = |write: &rusqlite::Transaction<'_>| jobs::insert(write, &clip("a", 0), &terms(None), NOW);
    store.write(insert).await.expect("accepted");
    // Nobody waits for these; they are done nevertheless.
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            tokio::spawn({
                let store = store.clone();
                async move { store.write(insert).await }
            })
        })
        .collect();
    tokio::task::yield_now().await;
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    for task in waiting {
        let _ = task.await;
    }
    drop(store);
    let store = Store::open(&path).expect("the store");
    let count = store.read(|read| jobs::count(read, "a", &jobs::Filter::default())).await.expect("a number");
    assert_eq!(count, 11);
}

#[tokio::test]
async fn an_error_or_a_panic_changes_nothing_and_ends_nothing() {
    let folder = folder();
    let store = Store::open(&folder.path().join("store")).expect("a store");
    let insert = |write: &rusqlite::Transaction<'_>| jobs::insert(write, &clip("a", 0), &terms(None), NOW);
    let error = store.write(move |write| {
        insert(write)?;
        Err::<(), _>(Error::QueueFull { limit: 0 })
    });
    assert!(matches!(error.await, Err(Error::QueueFull { .. })));
    let panics = store.write(move |write| -> Result<(), Error> {
        insert(write)?;
        std::panic::resume_unwind(Box::new("an error of the caller"));
    });
    assert!(matches!(panics.await, Err(Error::NoAnswer)));
    let panics = store.read(|_| -> Result<(), Error> { std::panic::resume_unwind(Box::new("another one")) });
    assert!(matches!(panics.await, Err(Error::NoAnswer)));
    let refused = store.read(|read| read.execute("DELETE FROM settings", []).map_err(Error::from));
    assert!(matches!(refused.await, Err(Error::Database(_))), "a reader cannot write");
    for _ in 0..20 {
        let count = |read: &Connection| jobs::count(read, "a", &jobs::Filter::default());
        assert_eq!(store.read(count).await.expect("a number"), 0);
    }
    store.write(insert).await.expect("accepted");
}

#[test]
fn files_of_others_are_refused_and_left_alone() {
    let folder = folder();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("text"), "This is no database, but a text of some length.".repeat(50)).expect("a file");
    let other = Connection::open(file("other")).expect("a database");
    other.execute("CREATE TABLE t (x)", []).expect("a table");
    drop(other);
    for name in ["text", "other"] {
        let before = std::fs::read(file(name)).expect("a file");
        let error = Store::open(&file(name)).expect_err("not a store");
        assert!(matches!(error, Error::NotAStore { .. }), "{name}: {error}");
        assert_eq!(std::fs::read(file(name)).expect("a file"), before);
    }
    let error = Store::open(&file("no/such/directory")).expect_err("no directory");
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

#[test]
fn a_later_version_is_refused_with_a_hint() {
    let folder = folder();
    let path = folder.path().join("store");
    drop(Store::open(&path).expect("a store"));
    change(&path, "PRAGMA user_version = 4");
    let error = Store::open(&path).expect_err("too new");
    assert!(error.to_string().contains("has version 4, and versions up to 3"), "{error}");
    assert!(error.hint().expect("a hint").contains("the version of the program"));
}

#[test]
fn accounts_that_do_not_add_up_are_found_at_the_start() {
    let folder = folder();
    let path = folder.path().join("store");
    drop(Store::open(&path).expect("a store"));
    change(&path, "INSERT INTO ledger (owner, day, kind, credits, at) VALUES ('a', 1, 'expire', -1, 1)");
    assert!(matches!(Store::open(&path), Err(Error::Ledger { .. })));
}

#[cfg(unix)]
#[test]
fn others_cannot_read_the_store() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let _store = Store::open(&folder.path().join("store")).expect("a store");
    let mut files = 0;
    for entry in std::fs::read_dir(folder.path()).expect("a directory") {
        let mode = entry.expect("an entry").metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        files += 1;
    }
    assert!(files >= 2, "the file and its log");
}

fn change(path: &Path, sql: &str) {
    Connection::open(path).expect("a database").execute_batch(sql).expect("a change");
}

//! Keys, answers that are kept, uploads, events and settings.

use kinora_serve::store::assets::{self, Media, NewAsset};
use kinora_serve::store::idempotency::{self, Answer, Begin};
use kinora_serve::store::keys::{self, Access};
use kinora_serve::store::outbox::{New, Room};
use kinora_serve::store::{jobs, outbox, settings};
use kinora_serve::{Error, id};

use super::common::{NOW, add, store, write};

/// An upload of that many bytes.
pub fn upload(owner: &str, bytes: u64) -> NewAsset {
    NewAsset {
        owner: owner.into(),
        media: Media::Image,
        mime: "image/png".into(),
        bytes,
        width: 832,
        height: 480,
        frames: 1,
        fps: None,
        name: "../../etc/passwd".into(),
        sha256: [7; 32],
    }
}

#[test]
fn a_key_is_told_once_and_only_its_hash_is_kept() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("store");
    let store = kinora_serve::Store::open(&path).expect("a store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let create = |write: &rusqlite::Transaction<'_>| keys::create(write, "a", "laptop", "free", None, NOW);
    let (text, key) = runtime.block_on(store.write(create)).expect("a key");
    drop(store);
    assert!(text.starts_with("kin_") && text.len() == 47, "{text}");
    assert_eq!(key.prefix, text[..11]);
    assert!(id::is(id::KEY, &key.id) && id::is(id::ACCESS_KEY, &key.access_key));
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.path()).expect("a directory") {
        let file = std::fs::read(entry.expect("an entry").path()).expect("a file");
        let has = |part: &str| file.windows(part.len()).any(|bytes| bytes == part.as_bytes());
        seen += usize::from(has(&key.prefix));
        assert!(!has(&text) && !has(&text[..12]) && !has(&text[11..]) && !has(&text[4..]));
    }
    assert!(seen > 0, "the file was not searched");
}

#[test]
fn keys_that_are_revoked_or_expired_are_refused() {
    let store = store();
    let (text, key) = keys::create(&store, "a", "laptop", "free", Some(NOW + 10), NOW).expect("a key");
    let (other, _) = keys::create(&store, "b", "", "pro", None, NOW).expect("a key");
    assert_ne!(text, other);
    assert_eq!(keys::find(&store, &text, NOW + 9).expect("an answer"), Access::Valid(key.clone()));
    assert_eq!(keys::find(&store, &text, NOW + 10).expect("an answer"), Access::Expired(key.clone()));
    let by_access_key = |now| keys::find_access_key(&store, &key.access_key, now).expect("an answer");
    assert_eq!(by_access_key(NOW), Access::Valid(key.clone()));
    assert_eq!(by_access_key(NOW + 10), Access::Expired(key.clone()));
    for wrong in ["", "kin_", &text[..46], &format!("{text}a"), &text.replace("kin_", "Kin_"), &key.prefix, &key.id] {
        assert_eq!(keys::find(&store, wrong, NOW).expect("an answer"), Access::Unknown, "{wrong}");
    }
    assert!(keys::revoke(&store, &key.id, NOW).expect("an answer"));
    assert!(!keys::revoke(&store, &key.id, NOW + 1).expect("an answer"));
    assert!(
        matches!(keys::find(&store, &text, NOW).expect("an answer"), Access::Revoked(key) if key.revoked_at == Some(NOW))
    );
    assert!(matches!(by_access_key(NOW), Access::Revoked(_)));
    assert!(matches!(keys::find(&store, &other, NOW).expect("an answer"), Access::Valid(_)));
    assert!(matches!(keys::revoke(&store, "key_x", NOW), Err(Error::NotFound { what: "key", .. })));
}

#[test]
fn keys_are_listed_and_their_use_is_noted_to_the_minute() {
    let store = store();
    assert!(!keys::any(&store).expect("an answer"));
    let [a, b] = ["a", "b"].map(|owner| keys::create(&store, owner, "", "free", None, NOW).expect("a key").1);
    assert!(keys::any(&store).expect("an answer"));
    assert_eq!(keys::list(&store, Some("b")).expect("keys"), std::slice::from_ref(&b));
    assert_eq!(keys::list(&store, None).expect("keys"), [a.clone(), b]);
    let touch = |after| keys::touch(&store, &a.id, NOW + after).expect("an answer");
    assert_eq!([touch(0), touch(59_999), touch(60_000)], [true, false, true]);
    assert_eq!(keys::get(&store, &a.id).expect("a key").last_used_at, Some(NOW + 60_000));
    assert_eq!(keys::renew_secret(&store, &a.id).expect("a version"), 2);
    assert!(keys::renew_secret(&store, "key_x").is_err());
}

#[test]
fn a_request_that_comes_twice_is_answered_as_before() {
    let store = store();
    let begin = |owner, route, key, body: u8, now| {
        idempotency::begin(&store, owner, route, key, &[body; 32], now).expect("an answer")
    };
    assert_eq!(begin("a", "create", "k", 1, NOW), Begin::New);
    assert_eq!(begin("a", "create", "k", 1, NOW), Begin::Running);
    assert_eq!(begin("a", "create", "k", 2, NOW), Begin::Other);
    // Owners, routes and keys are worlds of their own.
    assert_eq!(begin("b", "create", "k", 2, NOW), Begin::New);
    assert_eq!(begin("a", "remix", "k", 2, NOW), Begin::New);
    assert_eq!(begin("a", "create", "l", 2, NOW), Begin::New);
    let answer = Answer { code: 200, body: b"{\"id\":\"video_1\"}\xff".to_vec() };
    assert!(idempotency::finish(&store, "a", "create", "k", &answer).expect("an answer"));
    assert!(!idempotency::finish(&store, "a", "create", "k", &answer).expect("an answer"));
    assert_eq!(begin("a", "create", "k", 1, NOW + 86_399_999), Begin::Done(answer.clone()));
    assert_eq!(begin("a", "create", "k", 2, NOW + 1), Begin::Other);
    let recent = |body: u8, since| idempotency::recent(&store, "a", "create", &[body; 32], since).expect("an answer");
    assert_eq!(recent(1, NOW), Some(Begin::Done(answer)));
    assert_eq!((recent(1, NOW + 1), recent(2, NOW), recent(3, 0)), (None, Some(Begin::Running), None));
    // After a day, the key is as good as new.
    assert_eq!(begin("a", "create", "k", 2, NOW + 86_400_000), Begin::New);
}

#[test]
fn a_request_that_was_not_done_can_be_tried_again() {
    let store = store();
    let begin = |key| idempotency::begin(&store, "a", "r", key, &[1; 32], NOW).expect("an answer");
    assert_eq!([begin("k"), begin("l"), begin("m")], [Begin::New, Begin::New, Begin::New]);
    idempotency::abandon(&store, "a", "r", "k").expect("forgotten");
    assert_eq!(begin("k"), Begin::New);
    let answer = Answer { code: 200, body: Vec::new() };
    idempotency::finish(&store, "a", "r", "l", &answer).expect("kept");
    idempotency::abandon(&store, "a", "r", "l").expect("nothing");
    assert_eq!(idempotency::recover(&store).expect("a number"), 2);
    assert_eq!([begin("k"), begin("l"), begin("m")], [Begin::New, Begin::Done(answer), Begin::New]);
    assert_eq!(idempotency::sweep(&store, NOW + 86_399_999).expect("a number"), 0);
    assert_eq!(idempotency::sweep(&store, NOW + 86_400_000).expect("a number"), 3);
}

#[test]
fn uploads_belong_to_their_owner_and_fit_the_quota() {
    let mut store = store();
    let mut keep = |owner, bytes| {
        write(&mut store, |write| assets::insert(write, &upload(owner, bytes), Some(100), NOW)).map(|asset| asset.id)
    };
    let [first, second] = [60, 40].map(|bytes| keep("a", bytes).expect("kept"));
    let error = keep("a", 1).expect_err("no space");
    assert!(matches!(error, Error::StorageQuota { limit: 100, used: 100, wanted: 1 }), "{error}");
    keep("b", 1).expect("another's space");
    assert_eq!(assets::get(&store, "a", &first).expect("an upload").facts, upload("a", 60));
    let not_found = |error| matches!(error, Error::NotFound { what: "upload", .. });
    assert!(not_found(assets::get(&store, "b", &first).expect_err("another's")));
    assert!(not_found(assets::touch(&store, "b", &first, NOW).expect_err("another's")));
    assert!(not_found(write(&mut store, |write| assets::delete(write, "b", &first)).expect_err("another's")));
    let ids = |before, limit| {
        let page = assets::list(&store, "a", before, limit).expect("a page");
        page.into_iter().map(|asset| asset.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(None, 10), [second.clone(), first.clone()]);
    assert_eq!(ids(Some(&second), 10), std::slice::from_ref(&first));
    assets::touch(&store, "a", &first, NOW + 5).expect("noted");
    let swept = write(&mut store, |write| assets::sweep(write, NOW + 5, 10)).expect("uploads");
    assert_eq!(swept.len(), 2, "the second one, and that of the other owner");
    assert_eq!(write(&mut store, |write| assets::delete(write, "a", &first)).expect("an upload").facts.bytes, 60);
    assert_eq!(jobs::storage(&store, "a").expect("a number"), 0);
}

/// Room for everything.
const ROOM: Room = Room { lane: 10, all: 10 };

#[test]
fn events_are_tried_until_they_are_ended() {
    let mut store = store();
    let job = add(&mut store, "a").id;
    assert_eq!(outbox::next(&store).expect("an answer"), None);
    let new = New { event: "video.completed", url: "https://example.org", lane: "a", signer: None, replaces: false };
    let event = outbox::add(&store, &job, &new, |id| id.into(), NOW).expect("an event").expect("it is not gone");
    assert_eq!(outbox::next(&store).expect("an answer"), Some(NOW));
    let mut take = |now| write(&mut store, |write| outbox::take(write, now, now + 30, ROOM)).expect("events");
    assert_eq!(take(NOW - 1), []);
    let first = take(NOW);
    assert_eq!(
        (first[0].id.as_str(), first[0].attempts, first[0].url.as_str(), first[0].body.as_str()),
        (event.as_str(), 1, "https://example.org", event.as_str())
    );
    // Nobody else takes it meanwhile; whoever took it and went away is replaced.
    assert_eq!(take(NOW + 29), []);
    let second = take(NOW + 30);
    assert_eq!(second[0].attempts, 2);
    assert!(!outbox::failed(&store, &first[0], "late", None).expect("an answer"), "a later attempt is under way");
    assert!(outbox::failed(&store, &second[0], "HTTP 500", Some(NOW + 100)).expect("an answer"));
    let third = write(&mut store, |write| outbox::take(write, NOW + 100, NOW + 200, ROOM)).expect("events");
    assert_eq!((third[0].attempts, third[0].last_error.as_deref()), (3, Some("HTTP 500")));
    outbox::delivered(&store, &event, NOW + 101).expect("noted");
    assert!(!outbox::failed(&store, &third[0], "late", Some(NOW)).expect("an answer"));
    assert_eq!(outbox::next(&store).expect("an answer"), None);
    assert_eq!(outbox::sweep(&store, NOW * 2).expect("a number"), 0, "the clip has not ended");
    write(&mut store, |write| jobs::cancel(write, "a", &job, NOW)).expect("an answer");
    assert_eq!(outbox::sweep(&store, NOW).expect("a number"), 0);
    assert_eq!(outbox::sweep(&store, NOW + 1).expect("a number"), 1);
    assert!(outbox::add(&store, "video_x", &new, |_| "{}".into(), NOW).is_err(), "there is no such clip");
}

#[test]
fn secrets_are_made_once() {
    let store = store();
    let secret = settings::secret(&store, "links").expect("a secret");
    assert_eq!(settings::secret(&store, "links").expect("the same"), secret);
    assert_ne!(settings::secret(&store, "other").expect("another"), secret);
    assert_eq!(settings::get(&store, "nothing").expect("an answer"), None);
    settings::set(&store, "links", b"short").expect("set");
    assert_eq!(settings::get(&store, "links").expect("an answer").as_deref(), Some(&b"short"[..]));
    assert!(matches!(settings::secret(&store, "links"), Err(Error::Invalid { .. })));
}

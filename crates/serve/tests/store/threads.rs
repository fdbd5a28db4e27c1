//! Several handles of one file, and threads that claim at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kinora_serve::Store;
use kinora_serve::store::jobs::{self, Filter, Status};
use kinora_serve::store::ledger;

use super::common::{NOW, clip, done, terms};

const CLIPS: usize = 120;

/// Two handles stand for two servers. Each worker makes clips until there are none; some die on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_clip_is_claimed_twice_or_lost() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("store");
    // Both create the tables at once.
    let [first, second] = [path.clone(), path.clone()].map(|path| std::thread::spawn(move || Store::open(&path)));
    let stores = [first, second].map(|thread| thread.join().expect("no panic").expect("a store"));
    let seed = stores[0].write(|write| {
        for number in 0..CLIPS {
            jobs::insert(write, &clip(["a", "b", "c"][number % 3], 1), &terms(Some(40)), NOW)?;
        }
        Ok(())
    });
    seed.await.expect("accepted");
    let reads = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> =
        (0..8).map(|number| tokio::spawn(work(stores[number % 2].clone(), number, Arc::clone(&reads)))).collect();
    let mut made = BTreeMap::new();
    for worker in workers {
        for (id, attempt) in worker.await.expect("no panic") {
            *made.entry((id, attempt)).or_insert(0) += 1;
        }
    }
    // Every claim is one attempt, of one worker.
    assert!(made.values().all(|count| *count == 1), "{made:?}");
    assert!(reads.load(Ordering::Relaxed) > 0);
    let [store, _] = stores;
    let succeeded = Filter { statuses: vec![Status::Succeeded], ..Filter::default() };
    let counts = store.read(move |read| {
        ledger::check(read)?;
        ["a", "b", "c"].map(|owner| jobs::count(read, owner, &succeeded)).into_iter().collect::<Result<Vec<_>, _>>()
    });
    assert_eq!(counts.await.expect("numbers"), [CLIPS as u64 / 3; 3]);
    assert_eq!(made.len(), CLIPS + CLIPS / 10, "one attempt a clip, and one for each death");
}

/// Claims and makes clips until there are none. Returns what it claimed.
async fn work(store: Store, number: usize, reads: Arc<AtomicU64>) -> Vec<(String, i64)> {
    let (worker, mut claimed) = (format!("w{number}"), Vec::new());
    loop {
        let name = worker.clone();
        let claim = store.write(move |write| jobs::claim(write, &name, NOW, &|_| None, NOW));
        let Some(job) = claim.await.expect("an answer") else { return claimed };
        assert_eq!((job.status, job.worker.as_deref()), (Status::Running, Some(worker.as_str())));
        claimed.push((job.id.clone(), job.attempt));
        // Readers do not wait for those who write, and see whole transactions.
        let id = job.id.clone();
        let seen = store.read(move |read| jobs::get(read, &job.owner, &id)).await.expect("the clip");
        assert_eq!((seen.attempt, seen.status), (job.attempt, Status::Running));
        reads.fetch_add(1, Ordering::Relaxed);
        // Every tenth clip of an owner kills its first worker.
        let dies = seen.attempt == 1 && seen.rank % 10.0 == 0.0;
        let ended = store.write(move |write| {
            if dies {
                return Ok(jobs::requeue(write, &seen.id, seen.attempt, jobs::End::Died, NOW)?.is_some());
            }
            jobs::succeed(write, &seen.id, seen.attempt, &done(1, None), NOW)
        });
        assert!(ended.await.expect("an answer"));
    }
}

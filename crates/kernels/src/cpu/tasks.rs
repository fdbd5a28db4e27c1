//! [`in_order`]: tasks that threads take one after the other.

use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Does `work` for every task below `tasks`, on all threads of rayon's current pool; each thread has memory of its own from
/// `scratch`.
///
/// Threads take the next task when they are done with one, so neighbouring tasks run at the same time and share what they read
/// in the cache, and slow cores do not hold up fast ones.
pub fn in_order<S>(tasks: usize, scratch: impl Fn() -> S + Sync, work: impl Fn(&mut S, usize) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = rayon::current_num_threads().min(tasks);
    (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
        let mut scratch = scratch();
        loop {
            let task = next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                break;
            }
            work(&mut scratch, task);
        }
    });
}

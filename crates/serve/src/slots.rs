//! [`Slots`]: uploads on their way. Before the first byte of one is read, it has its turn, and its owner's storage has room for it.

use crate::error::Error;
use crate::fault::{Answer, Fault};
use axum::http::StatusCode;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Long bodies that are read at once, and of one owner.
const ALL: usize = 8;
const OWN: usize = 4;
/// How long one waits for its turn.
const WAIT: Duration = Duration::from_secs(15);

/// The uploads on their way.
pub struct Slots {
    all: Arc<Semaphore>,
    owners: Mutex<HashMap<String, Owner>>,
}

struct Owner {
    uploads: Arc<Semaphore>,
    /// Bytes of uploads that are not in the store yet.
    reserved: u64,
}

impl Default for Owner {
    fn default() -> Self {
        Self { uploads: Arc::new(Semaphore::new(OWN)), reserved: 0 }
    }
}

/// The turn of a body; it ends when this is dropped.
pub struct Slot {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Default for Slots {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL)), owners: Mutex::default() }
    }
}

impl Slots {
    fn owners(&self) -> MutexGuard<'_, HashMap<String, Owner>> {
        // A map is whole after every change.
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of a body of the owner.
    ///
    /// # Errors
    /// Too many others are read for too long.
    pub async fn turn(&self, owner: &str) -> Answer<Slot> {
        let uploads = Arc::clone(&self.owners().entry(owner.to_string()).or_default().uploads);
        let both = async {
            // The owner's own first: whoever waits for those keeps nobody else waiting.
            let own = uploads.acquire_owned().await.ok()?;
            Some(Slot { _own: own, _all: Arc::clone(&self.all).acquire_owned().await.ok()? })
        };
        tokio::time::timeout(WAIT, both).await.ok().flatten().ok_or_else(|| {
            let what = "too many uploads are on their way: send fewer at once, or try again";
            let fault = Fault::with_status(StatusCode::TOO_MANY_REQUESTS, "too_many_uploads", what);
            Fault { kind: "rate_limit_error", retry_after: Some(5), ..fault }
        })
    }
}

/// The part of an owner's storage that the files of a request will take; it is given back when this is dropped.
pub struct Reserved {
    slots: Arc<Slots>,
    owner: String,
    bytes: u64,
    /// The bytes that the owner may have, and has in the store; `None` without a limit.
    quota: Option<(u64, u64)>,
}

impl Reserved {
    /// Nothing yet, of an owner with this quota and use.
    pub fn none(slots: &Arc<Slots>, owner: &str, quota: Option<(u64, u64)>) -> Self {
        Self { slots: Arc::clone(slots), owner: owner.to_string(), bytes: 0, quota }
    }

    /// Reserves as much as makes `bytes` with what is reserved already. The store has the last word, when the file is whole.
    ///
    /// # Errors
    /// [`Error::StorageQuota`].
    pub fn cover(&mut self, bytes: u64) -> Result<(), Error> {
        let more = bytes.saturating_sub(self.bytes);
        let mut owners = self.slots.owners();
        let reserved = &mut owners.entry(self.owner.clone()).or_default().reserved;
        if let Some((limit, stored)) = self.quota {
            let used = stored.saturating_add(*reserved);
            if used.saturating_add(more) > limit {
                return Err(Error::StorageQuota { limit, used, wanted: more });
            }
        }
        *reserved += more;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(owner) = self.slots.owners().get_mut(&self.owner) {
            owner.reserved = owner.reserved.saturating_sub(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_on_their_way_count() {
        let slots = Arc::new(Slots::default());
        let of = |owner: &str| Reserved::none(&slots, owner, Some((100, 40)));
        let mut first = of("anna");
        first.cover(50).expect("room");
        first.cover(50).expect("the same bytes");
        let mut second = of("anna");
        second.cover(10).expect("the rest");
        let Err(Error::StorageQuota { limit: 100, used: 100, wanted: 1 }) = second.cover(11) else {
            panic!("there is no room for one more")
        };
        of("otto").cover(60).expect("another's storage");
        drop(first);
        second.cover(60).expect("the first one's");
        Reserved::none(&slots, "anna", None).cover(1 << 60).expect("no limit");
    }

    #[tokio::test(start_paused = true)]
    async fn one_owner_leaves_room_for_others() {
        let slots = Slots::default();
        let mut held = Vec::new();
        for _ in 0..OWN {
            held.push(slots.turn("anna").await.expect("a turn"));
        }
        let refused = slots.turn("anna").await.err().expect("no turn");
        assert_eq!((refused.code.as_str(), refused.retry_after), ("too_many_uploads", Some(5)));
        slots.turn("otto").await.expect("another's turn");
        held.pop();
        slots.turn("anna").await.expect("a turn that was given back");
    }
}

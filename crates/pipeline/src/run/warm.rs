//! [`Warm`]: networks that stay in memory between the runs of a pipeline.

use crate::Result;
use kinora_vae::{Parts, VideoVae};
use std::any::Any;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Networks that no run uses now. When they are more than the limit allows, those go that were not used for the longest time.
#[derive(Default)]
pub(crate) struct Warm(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The most bytes of weights.
    limit: u64,
    /// The last one was used last.
    parts: VecDeque<Part>,
}

struct Part {
    name: String,
    /// Bytes of its weights.
    bytes: u64,
    network: Box<dyn Any + Send>,
}

/// A network in use, which is kept again when this is dropped.
pub(crate) struct Lease<'a, T: Any + Send> {
    warm: &'a Warm,
    name: String,
    bytes: u64,
    /// `None` only while it is dropped.
    network: Option<Box<T>>,
}

/// A half of the VAE in use.
pub(crate) type WarmVae<'a> = Lease<'a, Box<dyn VideoVae>>;

impl Warm {
    /// Keeps at most `limit` bytes of weights from now on.
    pub(crate) fn fit(&self, limit: u64) {
        let mut kept = self.lock();
        kept.limit = limit;
        kept.shrink();
    }

    /// Takes out the network `name`, or loads it: `load` returns it and the bytes of its weights.
    ///
    /// # Errors
    /// That of `load`.
    pub(crate) fn take<T: Any + Send>(
        &self,
        name: String,
        load: impl FnOnce() -> Result<(T, u64)>,
    ) -> Result<Lease<'_, T>> {
        let found = {
            let parts = &mut self.lock().parts;
            let at = parts.iter().position(|part| part.name == name && part.network.is::<T>());
            at.and_then(|at| parts.remove(at))
        };
        let (network, bytes) = match found.map(|part| (part.network.downcast::<T>(), part.bytes)) {
            Some((Ok(network), bytes)) => (network, bytes),
            _ => load().map(|(network, bytes)| (Box::new(network), bytes))?,
        };
        Ok(Lease { warm: self, name, bytes, network: Some(network) })
    }

    /// Takes out a half of the VAE, as [`Warm::take`] does.
    ///
    /// # Errors
    /// That of `load`.
    pub(crate) fn vae(
        &self,
        parts: Parts,
        load: impl FnOnce() -> Result<(Box<dyn VideoVae>, u64)>,
    ) -> Result<WarmVae<'_>> {
        self.take(format!("VAE {parts:?}"), load)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A list is consistent after every change of it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn shrink(&mut self) {
        while self.parts.iter().map(|part| part.bytes).sum::<u64>() > self.limit {
            self.parts.pop_front();
        }
    }
}

impl<T: Any + Send> Deref for Lease<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.network.as_deref().expect("it is there until this is dropped")
    }
}

impl<T: Any + Send> Drop for Lease<'_, T> {
    fn drop(&mut self) {
        let Some(network) = self.network.take() else { return };
        let mut kept = self.warm.lock();
        // What a panic interrupted may be in no state to be used again.
        if !std::thread::panicking() {
            kept.parts.push_back(Part { name: std::mem::take(&mut self.name), bytes: self.bytes, network });
            kept.shrink();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    /// Uses each network in turn, of so many bytes; returns whether it was loaded.
    fn used(warm: &Warm, name: &str, bytes: u64) -> bool {
        let mut loaded = false;
        let lease = warm.take(name.to_string(), || {
            loaded = true;
            Ok((name.to_string(), bytes))
        });
        assert_eq!(lease.expect("a network").as_str(), name);
        loaded
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_first() {
        let warm = Warm::default();
        assert!(used(&warm, "a", 1) && used(&warm, "a", 1), "without a limit nothing is kept");
        warm.fit(10);
        assert!(used(&warm, "a", 4) && used(&warm, "b", 4));
        assert!(!used(&warm, "a", 4) && !used(&warm, "b", 4) && !used(&warm, "a", 4));
        assert!(used(&warm, "c", 5), "and b makes room");
        assert!(!used(&warm, "a", 4) && used(&warm, "b", 4));
        assert!(used(&warm, "huge", 11) && used(&warm, "huge", 11) && used(&warm, "a", 4));
        warm.fit(0);
        assert!(used(&warm, "a", 4));
    }

    #[test]
    fn a_network_in_use_is_no_one_elses() {
        let warm = Warm::default();
        warm.fit(10);
        let first = warm.take("a".into(), || Ok((1u8, 1))).expect("a network");
        let second = warm.take("a".into(), || Ok((2u8, 1))).expect("another");
        assert_eq!((*first, *second), (1, 2));
        drop((first, second));
        let failed = warm.take::<u16>("a".into(), || Err(Error::request("no", "no")));
        assert!(failed.is_err(), "another kind of network is not taken for it");
    }
}

//! [`Fetch`]: memory that is brought into the cache before it is needed.
#![allow(unsafe_code)]

/// A panel that comes into the L2 cache while another is multiplied, a part of it with every tile.
///
/// The processor's own prefetching sees a panel when it is first read, which is too late where panels come from main memory.
pub struct Fetch<T> {
    at: *const T,
    /// Elements that are not fetched yet.
    left: usize,
    /// Elements of a part.
    share: usize,
}

impl<T> Fetch<T> {
    /// `len` elements from `next`, if there are any, in as many parts as there are tiles.
    pub fn new(next: Option<*const T>, len: usize, tiles: usize) -> Self {
        let left = if next.is_some() { len } else { 0 };
        Self { at: next.unwrap_or(std::ptr::null()), left, share: left.div_ceil(tiles.max(1)) }
    }

    /// Fetches the next part; does nothing on processors for which Rust has no stable instruction.
    pub fn part(&mut self) {
        let len = self.share.min(self.left);
        #[cfg(target_arch = "x86_64")]
        for line in (0..len * size_of::<T>()).step_by(64) {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            // SAFETY: a hint, which may be given for any address.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(self.at.cast::<i8>().wrapping_add(line)) };
        }
        self.at = self.at.wrapping_add(len);
        self.left -= len;
    }
}

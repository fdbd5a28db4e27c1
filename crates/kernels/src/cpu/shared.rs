//! [`SharedMut`]: one output slice, written by many tasks at once in places that do not overlap.
#![allow(unsafe_code)]

use candle_core::WithDType;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

/// A mutable slice that tasks share; each must keep to elements of its own.
pub(super) struct SharedMut<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]` that is taken apart; who takes a part promises that nobody else has it.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// The elements of `range`, which must lie within the slice.
    ///
    /// # Safety
    /// While the result lives, no other part that was taken may have an element in common with it.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part outside the output");
        // SAFETY: within the slice by the check above, not aliased by the promise of the caller.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// Pointer to the element `first`, from which elements up to `last` will be written.
    pub fn pointer(&self, first: usize, last: usize) -> *mut T {
        assert!(first <= last && last < self.len, "part outside the output");
        self.start.wrapping_add(first)
    }
}

/// Sets a part of an output to zero just before it is written in full, while it is in the CPU's cache: cheaper than
/// zeroing the whole output first.
#[inline(always)]
pub(super) fn zeroed<T: WithDType>(out: &mut [MaybeUninit<T>]) -> &mut [T] {
    out.fill(MaybeUninit::new(T::zero()));
    // SAFETY: all elements were just written.
    unsafe { out.assume_init_mut() }
}

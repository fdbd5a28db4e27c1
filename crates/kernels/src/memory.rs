//! [`LargeBlocks`]: an allocator for programs whose memory is tensors; [`OrElse`]: what happens where there is none.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};

/// Bytes from which a block counts as large.
const LARGE: usize = 1 << 20;

/// Takes large blocks from the system and gives them back at once, in huge pages where the system has them; the rest is
/// left to another allocator.
///
/// An allocator that keeps freed memory would keep the tensors of one stage of a network, while the tensors of the next
/// stage, of other sizes, do not fit in their place.
pub struct LargeBlocks<A>(pub A);

// SAFETY: a block's layout says which of the two allocators has it; both give blocks as they are asked for.
unsafe impl<A: GlobalAlloc> GlobalAlloc for LargeBlocks<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller vouches.
        if is_large(layout) { system::map(layout.size()) } else { unsafe { self.0.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller vouches; fresh pages are zeros.
        if is_large(layout) { system::map(layout.size()) } else { unsafe { self.0.alloc_zeroed(layout) } }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block was given out with this layout.
        unsafe { if is_large(layout) { system::unmap(block, layout.size()) } else { self.0.dealloc(block, layout) } }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller vouches that the size is possible with this alignment.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the block was given out with this layout; the new one has room for what is copied.
        unsafe {
            if !is_large(layout) && !is_large(new) {
                return self.0.realloc(block, layout, size);
            }
            let moved = self.alloc(new);
            if !moved.is_null() {
                std::ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

/// Hands blocks of another allocator out, and calls a function with the bytes that it did not have. Without it, most of the
/// standard library ends the process with a message of its own.
pub struct OrElse<A>(pub A, pub fn(usize));

impl<A> OrElse<A> {
    fn checked(&self, block: *mut u8, bytes: usize) -> *mut u8 {
        if block.is_null() {
            (self.1)(bytes);
        }
        block
    }
}

// SAFETY: every block is the other allocator's.
unsafe impl<A: GlobalAlloc> GlobalAlloc for OrElse<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller vouches.
        self.checked(unsafe { self.0.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller vouches.
        self.checked(unsafe { self.0.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller vouches.
        unsafe { self.0.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller vouches.
        self.checked(unsafe { self.0.realloc(block, layout, size) }, size)
    }
}

fn is_large(layout: Layout) -> bool {
    cfg!(unix) && layout.size() >= LARGE && layout.align() <= 4096
}

#[cfg(unix)]
mod system {
    use std::ptr::null_mut;

    /// Fresh pages, or null.
    pub fn map(size: usize) -> *mut u8 {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
        // SAFETY: a new mapping touches nothing that exists.
        let block = unsafe { libc::mmap(null_mut(), size, access, kind, -1, 0) };
        if block == libc::MAP_FAILED {
            return null_mut();
        }
        // SAFETY: advice on the new mapping; without effect where it is not possible.
        #[cfg(target_os = "linux")]
        unsafe {
            libc::madvise(block, size, libc::MADV_HUGEPAGE);
        }
        block.cast()
    }

    /// # Safety
    /// A block of [`map`] of this size, which nobody uses any more.
    pub unsafe fn unmap(block: *mut u8, size: usize) {
        // SAFETY: as the caller vouches.
        unsafe { libc::munmap(block.cast(), size) };
    }
}

#[cfg(not(unix))]
mod system {
    pub fn map(_: usize) -> *mut u8 {
        std::ptr::null_mut()
    }

    pub unsafe fn unmap(_: *mut u8, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;

    #[test]
    fn blocks_keep_what_is_in_them_across_the_limit() {
        let allocator = LargeBlocks(System);
        let mut layout = Layout::from_size_align(1000, 64).unwrap();
        // SAFETY: the block is used within its layout, which is kept up to date.
        unsafe {
            let mut block = allocator.alloc_zeroed(layout);
            for (round, size) in [LARGE, 3 * LARGE + 5, LARGE - 1, 2 * LARGE].into_iter().enumerate() {
                block.add(999).write(round as u8 + 1);
                block = allocator.realloc(block, layout, size);
                layout = Layout::from_size_align(size, 64).unwrap();
                assert_eq!((block.add(999).read(), block.read()), (round as u8 + 1, 0));
                block.add(size - 1).write(7);
            }
            allocator.dealloc(block, layout);
            let zeros = allocator.alloc_zeroed(layout);
            assert!((0..layout.size()).all(|at| zeros.add(at).read() == 0));
            allocator.dealloc(zeros, layout);
        }
    }
}

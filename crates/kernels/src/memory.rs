//! [`LargeBlocks`]: an allocator for programs whose memory is tensors; [`OrElse`]: what happens where there is none.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};

/// Bytes from which a block counts as large.
const LARGE: usize = 1 << 20;

/// Takes large blocks from the system, in huge pages where it has them, and gives them back; the rest is left to another
/// allocator.
///
/// An allocator that keeps freed memory would keep the tensors of one stage of a network, while the tensors of the next
/// stage, of other sizes, do not fit in their place. But the layers of one stage free and take the same sizes over and over,
/// and fresh pages must be filled with zeros by the system. So a few freed blocks are kept for the next of just their size,
/// as long as the program has no more memory with them than it needed at its peak.
pub struct LargeBlocks<A>(pub A);

// SAFETY: a block's layout says which of the two allocators has it; both give blocks as they are asked for.
unsafe impl<A: GlobalAlloc> GlobalAlloc for LargeBlocks<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller vouches.
        if is_large(layout) { kept::take(layout.size()) } else { unsafe { self.0.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller vouches; fresh pages are zeros.
        if is_large(layout) { kept::fresh(layout.size()) } else { unsafe { self.0.alloc_zeroed(layout) } }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block was given out with this layout.
        unsafe { if is_large(layout) { kept::give(block, layout.size()) } else { self.0.dealloc(block, layout) } }
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

/// Freed blocks that wait for the next of their size.
mod kept {
    use super::system;
    use std::ptr::null_mut;
    use std::sync::{Mutex, MutexGuard};

    /// The most blocks that are kept: an allocator cannot use a list that grows.
    const BLOCKS: usize = 32;
    /// The most bytes that are kept, so that a program that has become small gives its memory back.
    const BYTES: usize = 512 << 20;

    struct Kept {
        /// Blocks and their sizes, the longest kept first.
        blocks: [(usize, usize); BLOCKS],
        count: usize,
        /// Bytes of the blocks.
        bytes: usize,
        /// Bytes of blocks in use, now and at most so far.
        live: usize,
        most: usize,
    }

    static KEPT: Mutex<Kept> = Mutex::new(Kept { blocks: [(0, 0); BLOCKS], count: 0, bytes: 0, live: 0, most: 0 });

    fn lock() -> MutexGuard<'static, Kept> {
        KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A block with any contents, or null.
    pub fn take(size: usize) -> *mut u8 {
        let mut kept = lock();
        match kept.blocks[..kept.count].iter().rposition(|block| block.1 == size) {
            Some(at) => {
                kept.live += size;
                kept.remove(at) as *mut u8
            }
            None => kept.map(size),
        }
    }

    /// A block of zeros, or null.
    pub fn fresh(size: usize) -> *mut u8 {
        lock().map(size)
    }

    /// # Safety
    /// A block of [`take`] or [`fresh`] of this size, which nobody uses any more.
    pub unsafe fn give(block: *mut u8, size: usize) {
        let mut kept = lock();
        kept.live -= size;
        if kept.count == BLOCKS {
            kept.shrink();
        }
        let count = kept.count;
        kept.blocks[count] = (block as usize, size);
        kept.count += 1;
        kept.bytes += size;
        kept.fit();
    }

    impl Kept {
        fn map(&mut self, size: usize) -> *mut u8 {
            self.live += size;
            self.most = self.most.max(self.live);
            self.fit();
            let mut block = system::map(size);
            while block.is_null() && self.count > 0 {
                self.shrink();
                block = system::map(size);
            }
            if block.is_null() {
                self.live -= size;
                return null_mut();
            }
            block
        }

        /// Gives blocks back until the rest may be kept.
        fn fit(&mut self) {
            while self.count > 0 && (self.bytes > BYTES || self.live + self.bytes > self.most) {
                self.shrink();
            }
        }

        /// Gives the longest kept block back.
        fn shrink(&mut self) {
            let size = self.blocks[0].1;
            let block = self.remove(0) as *mut u8;
            // SAFETY: it was mapped with this size, and nobody uses it.
            unsafe { system::unmap(block, size) };
        }

        fn remove(&mut self, at: usize) -> usize {
            let (block, size) = self.blocks[at];
            self.blocks.copy_within(at + 1..self.count, at);
            self.count -= 1;
            self.bytes -= size;
            block
        }
    }
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
            zeros.write_bytes(7, layout.size());
            allocator.dealloc(zeros, layout);
            // A block that is taken again may have any contents, but not where zeros are asked for.
            let again = allocator.alloc_zeroed(layout);
            assert!((0..layout.size()).all(|at| again.add(at).read() == 0));
            allocator.dealloc(again, layout);
        }
    }
}

/// Many threads take and free blocks of a few sizes; nobody has another's.
#[cfg(all(test, unix))]
#[test]
fn kept_blocks_have_one_owner() {
    let allocator = &LargeBlocks(std::alloc::System);
    std::thread::scope(|scope| {
        for thread in 1..=4u8 {
            scope.spawn(move || {
                for round in 0..200usize {
                    let layout =
                        Layout::from_size_align(LARGE * (1 + (round * 7 + usize::from(thread)) % 3), 64).unwrap();
                    // SAFETY: blocks are used within their layouts.
                    unsafe {
                        let blocks = [allocator.alloc(layout), allocator.alloc(layout)];
                        blocks.iter().enumerate().for_each(|(i, block)| block.write_bytes(2 * thread + i as u8, 4096));
                        std::thread::yield_now();
                        for (i, block) in blocks.into_iter().enumerate() {
                            assert!((0..4096).all(|at| block.add(at).read() == 2 * thread + i as u8));
                            allocator.dealloc(block, layout);
                        }
                    }
                }
            });
        }
    });
}

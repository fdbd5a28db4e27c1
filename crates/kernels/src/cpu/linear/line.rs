//! [`Line`]: the unit of packed weights and of sums.

use super::super::tile::COLUMNS;

/// 32 numbers, aligned to a cache line, because reads across two lines take twice as long.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line<T>(pub [T; COLUMNS]);

/// 32 bytes: two of them share a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct ByteLine<T>(pub [T; COLUMNS]);

/// Four weights of each of 32 outputs, in the order that [`Kernel::place`](super::int8_tile::Kernel::place) says.
pub(super) type Quad = [i8; 4];

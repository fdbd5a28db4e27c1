//! [`Line`]: the unit of packed weights and of sums.

use super::super::tile::COLUMNS;

/// 32 numbers, aligned to a cache line, because reads across two lines take twice as long.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line<T>(pub [T; COLUMNS]);

/// The weights of one output for four inputs.
pub(super) type Quad = [i8; 4];

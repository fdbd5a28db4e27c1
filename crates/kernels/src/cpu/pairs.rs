//! [`multiply_tile`]: products of bf16, by instructions that multiply several elements at a time and add them to a sum in
//! f32. Products are exact; numbers below the smallest normal one count as zeros.
#![allow(unsafe_code)]

#[cfg_attr(target_arch = "x86_64", path = "pairs/x86.rs")]
#[cfg_attr(target_arch = "aarch64", path = "pairs/neon.rs")]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), path = "pairs/none.rs")]
mod machine;

use super::fetch::Fetch;
use super::tile::COLUMNS;
use half::bf16;
use machine::ROWS;

/// Elements of a column that lie beside each other in a panel, because one instruction multiplies them.
pub use machine::GROUP;
/// Whether this machine has the instructions, and they may be used.
pub use machine::available;
/// Whether they take less time than those of f32.
pub use machine::fast;
/// Rounds `x` to bf16; lengths are equal multiples of 32.
///
/// # Safety
/// The instructions are [`available`].
pub use machine::to_bf16;

/// Left matrix `[m, K]`, `K` in whole groups: element `(i, p)` is at `data[i · row + p]`.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub data: &'a [bf16],
    pub row: usize,
    pub count: usize,
}

/// 32 columns of a result: element `(i, j)`, times `scale`, goes to `data[i · row + j]`, and is added to it if
/// `accumulate`.
pub struct Out<'a> {
    pub data: &'a mut [f32],
    pub row: usize,
    pub scale: f32,
    pub accumulate: bool,
}

/// Calls `$f::<R>` with `R` the number of rows, so that the sums are registers.
macro_rules! by_rows {
    ($f:ident, $rows:expr, $args:tt, $($r:literal)*) => {
        match $rows {
            $($r => by_rows!(@ $f, $r, $args),)*
            _ => unreachable!("more rows than registers"),
        }
    };
    (@ $f:ident, $r:literal, ($($arg:expr),*)) => { $f::<$r>($($arg),*) };
}
pub(super) use by_rows;

/// `out [m, 32] = rows [m, K] · panel [K / GROUP, 32, GROUP]`; meanwhile the panel `next`, of the same size or smaller, is
/// brought into the cache.
///
/// # Safety
/// These instructions are [`available`].
pub unsafe fn multiply_tile(rows: Rows, panel: &[bf16], next: Option<*const bf16>, out: &mut Out) {
    let Rows { data, row, count } = rows;
    if count == 0 {
        return;
    }
    let inputs = panel.len() / COLUMNS;
    assert!(panel.len().is_multiple_of(GROUP * COLUMNS), "groups of 32 columns");
    assert!((count - 1) * row + inputs <= data.len() && (count - 1) * out.row + COLUMNS <= out.data.len());
    let mut fetch = Fetch::new(next, panel.len(), count.div_ceil(ROWS));
    for first in (0..count).step_by(ROWS) {
        fetch.part();
        let left = data[first * row..].as_ptr();
        let to = Target {
            data: out.data[first * out.row..].as_mut_ptr(),
            row: out.row,
            scale: out.scale,
            accumulate: out.accumulate,
        };
        let count = ROWS.min(count - first);
        // SAFETY: all lengths were checked; the instructions are there.
        unsafe { machine::multiply(count, left, row, panel, &to) }
    }
}

/// [`Out`] from a tile's first row on.
struct Target {
    data: *mut f32,
    row: usize,
    scale: f32,
    accumulate: bool,
}

//! Other machines, which have no such instructions.

use super::Target;
use half::bf16;

pub const ROWS: usize = 1;
pub const GROUP: usize = 1;

pub fn available() -> bool {
    false
}

pub fn fast() -> bool {
    false
}

pub unsafe fn multiply(_: usize, _: *const bf16, _: usize, _: &[bf16], _: &Target) {
    unreachable!("they are not available");
}

pub unsafe fn to_bf16(_: &[f32], _: &mut [bf16]) {
    unreachable!("they are not available");
}

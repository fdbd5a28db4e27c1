//! The peaks of `AArch64` beside that of f32. Instructions without stable functions in Rust are written as assembly.

use super::{ROUNDS, SUMS, black_box};
#[allow(clippy::wildcard_imports)]
use std::arch::aarch64::*;
use std::arch::asm;

/// Runs `$instruction` on each of the sums `$sum` and the operands `$a` and `$b`, again and again.
macro_rules! rounds {
    ($instruction:literal, $sum:expr, $a:expr, $b:expr) => {{
        let mut sums = [$sum; SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                // SAFETY: it reads and writes these registers alone, and the machine has it.
                unsafe {
                    asm!($instruction, inout(vreg) *sum, in(vreg) $a, in(vreg) $b,
                        options(pure, nomem, nostack, preserves_flags));
                }
            }
        }
        black_box(sums);
    }};
}

#[target_feature(enable = "neon,bf16")]
pub fn bf16() -> f64 {
    let one_half = vdupq_n_u16(black_box(0x3f00));
    rounds!("bfmmla {0:v}.4s, {1:v}.8h, {2:v}.8h", vdupq_n_f32(0.0), one_half, one_half);
    (2 * ROUNDS * SUMS * 16) as f64
}

#[target_feature(enable = "neon,i8mm")]
pub fn i8mm() -> f64 {
    let (a, b) = (vdupq_n_s8(black_box(3)), vdupq_n_s8(black_box(2)));
    rounds!("smmla {0:v}.4s, {1:v}.16b, {2:v}.16b", vdupq_n_s32(0), a, b);
    (2 * ROUNDS * SUMS * 32) as f64
}

#[target_feature(enable = "neon,dotprod")]
pub fn dotprod() -> f64 {
    let (a, b) = (vdupq_n_s8(black_box(3)), vdupq_n_s8(black_box(2)));
    rounds!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", vdupq_n_s32(0), a, b);
    (2 * ROUNDS * SUMS * 16) as f64
}

/// Two products are summed in 16 bits, and then widened.
#[target_feature(enable = "neon")]
pub fn neon() -> f64 {
    let (mut a, b) = (vdup_n_s8(black_box(3)), vdup_n_s8(black_box(2)));
    let mut sums = [vdupq_n_s32(0); SUMS];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            // SAFETY: no instruction at all; it hides from the compiler that the products are always the same.
            unsafe { asm!("/* {0:v} */", inout(vreg) a, options(nomem, nostack, preserves_flags)) };
            *sum = vpadalq_s16(*sum, vmlal_s8(vmull_s8(a, b), a, b));
        }
    }
    black_box(sums);
    (2 * ROUNDS * SUMS * 16) as f64
}

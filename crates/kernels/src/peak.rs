//! [`peak`]: what this machine's arithmetic could do at most, measured; the yardstick of the operators.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
mod neon;

use crate::Level;
use pulp::{Simd, WithSimd};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// 10⁹ operations per second of all threads together, from registers alone; a multiplication and an addition are two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// f32 multiply-add on the vectors of the process's level.
    pub f32: f64,
    /// Products of bf16 with sums in f32, where the CPU's kernels use instructions for them.
    pub bf16: Option<f64>,
    /// Products of any bytes with exact 32-bit sums, by the fastest instructions of the level that do them.
    pub int8: Option<f64>,
}

/// Rounds between two looks at the clock: less than a millisecond, but on emulated machines.
const ROUNDS: usize = 100_000;
/// The least time of one measurement.
const LEAST: Duration = Duration::from_millis(30);
const REPEATS: usize = 3;
/// Independent sums: more than latency times throughput of any machine, fewer than it has registers.
const SUMS: usize = if cfg!(target_arch = "aarch64") { 24 } else { 12 };

/// Measures with the threads of rayon's current pool; a fraction of a second.
pub fn peak() -> Peak {
    let arch = crate::level::arch();
    Peak {
        f32: fastest(|| arch.dispatch(MultiplyAdd)),
        bf16: bf16_rounds().map(fastest),
        int8: int8_rounds().map(fastest),
    }
}

/// `work` returns the operations that it did.
fn fastest(work: impl Fn() -> f64 + Sync) -> f64 {
    let rate = |_: usize| {
        let rates = rayon::broadcast(|_| {
            let (start, mut operations) = (Instant::now(), 0.0);
            while start.elapsed() < LEAST {
                operations += work();
            }
            operations / start.elapsed().as_secs_f64() / 1e9
        });
        rates.into_iter().sum::<f64>()
    };
    (0..REPEATS).map(rate).fold(0.0, f64::max)
}

struct MultiplyAdd;

impl WithSimd for MultiplyAdd {
    type Output = f64;

    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled for the vector instructions found at run time")]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let (a, b) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(0.5)));
        let mut sums = [simd.splat_f32s(0.0); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(a, *sum, b);
            }
        }
        let total = sums.into_iter().fold(simd.splat_f32s(0.0), |total, sum| simd.add_f32s(total, sum));
        black_box(simd.reduce_sum_f32s(total));
        (2 * ROUNDS * SUMS * S::F32_LANES) as f64
    }
}

fn bf16_rounds() -> Option<fn() -> f64> {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::multiplies_bf16(candle_core::DType::BF16) {
        // SAFETY: the machine has the instructions.
        return Some(|| unsafe { x86::bf16() });
    }
    #[cfg(target_arch = "aarch64")]
    if crate::cpu::multiplies_bf16(candle_core::DType::BF16) {
        // SAFETY: the machine has the instructions.
        return Some(|| unsafe { neon::bf16() });
    }
    None
}

#[cfg(target_arch = "x86_64")]
fn int8_rounds() -> Option<fn() -> f64> {
    match Level::current() {
        // SAFETY: the machine has the instructions.
        Level::Avx512 if is_x86_feature_detected!("avx512vnni") => Some(|| unsafe { x86::avx512_vnni() }),
        // SAFETY: the machine has the instructions.
        Level::AvxVnni => Some(|| unsafe { x86::avx_vnni() }),
        // SAFETY: the machine has the instructions.
        Level::Avx2 | Level::Avx512 => Some(|| unsafe { x86::avx2() }),
        _ => None,
    }
}

#[cfg(target_arch = "aarch64")]
fn int8_rounds() -> Option<fn() -> f64> {
    match Level::current() {
        // SAFETY: the machine has the instructions.
        Level::I8mm => Some(|| unsafe { neon::i8mm() }),
        // SAFETY: the machine has the instructions.
        Level::Dotprod => Some(|| unsafe { neon::dotprod() }),
        // SAFETY: the machine has the instructions.
        Level::Neon => Some(|| unsafe { neon::neon() }),
        _ => None,
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn int8_rounds() -> Option<fn() -> f64> {
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{ROUNDS, SUMS, black_box};
    use std::arch::asm;
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm256_add_epi32, _mm256_dpbusd_avx_epi32, _mm256_madd_epi16, _mm256_set1_epi8,
        _mm256_set1_epi16, _mm256_setzero_si256, _mm512_dpbf16_ps, _mm512_dpbusd_epi32, _mm512_set1_epi8,
        _mm512_set1_epi32, _mm512_setzero_ps, _mm512_setzero_si512,
    };
    use std::mem::transmute;

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn bf16() -> f64 {
        let one_half = _mm512_set1_epi32(black_box(0x3f00_3f00));
        // SAFETY: all bits are numbers.
        let (a, b) = unsafe { (transmute::<__m512i, __m512bh>(one_half), transmute::<__m512i, __m512bh>(one_half)) };
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, b);
            }
        }
        black_box(sums);
        (2 * ROUNDS * SUMS * 32) as f64
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub fn avx512_vnni() -> f64 {
        let (a, b) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(2)));
        let mut sums = [_mm512_setzero_si512(); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
        (2 * ROUNDS * SUMS * 64) as f64
    }

    #[target_feature(enable = "avx2,avxvnni")]
    pub fn avx_vnni() -> f64 {
        let (a, b) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi8(black_box(2)));
        let mut sums = [_mm256_setzero_si256(); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm256_dpbusd_avx_epi32(*sum, a, b);
            }
        }
        black_box(sums);
        (2 * ROUNDS * SUMS * 32) as f64
    }

    /// Bytes are widened to 16 bits first: `maddubs`, which multiplies bytes, cuts off sums of two products that do not fit
    /// in 16 bits.
    #[target_feature(enable = "avx2")]
    pub fn avx2() -> f64 {
        let (mut a, b) = (_mm256_set1_epi16(black_box(3)), _mm256_set1_epi16(black_box(2)));
        let mut sums = [_mm256_setzero_si256(); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                // SAFETY: no instruction at all; it hides from the compiler that the products are always the same.
                unsafe { asm!("/* {0} */", inout(ymm_reg) a, options(nomem, nostack, preserves_flags)) };
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(a, b));
            }
        }
        black_box(sums);
        (2 * ROUNDS * SUMS * 16) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_those_of_a_computer() {
        let Peak { f32, bf16, int8 } = peak();
        // An emulated computer does a few million operations a second.
        assert!((0.1..1e6).contains(&f32), "{f32}");
        assert!(bf16.is_none_or(|bf16| (0.1..1e7).contains(&bf16)), "{bf16:?}");
        assert!(int8.is_none_or(|int8| (0.1..1e7).contains(&int8)), "{int8:?}");
    }
}

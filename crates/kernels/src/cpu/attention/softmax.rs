//! The running softmax: exponentials relative to the largest score so far.

use super::block::KEYS;
use pulp::{Simd, WithSimd};

/// The state of each query's softmax over the scores so far, in units of ln 2.
#[derive(Default)]
pub struct Running {
    /// The largest.
    max: Vec<f32>,
    /// The sum of exponentials.
    sum: Vec<f32>,
}

impl Running {
    /// Forgets everything; for `queries` queries.
    pub fn reset(&mut self, queries: usize) {
        self.max.clear();
        // Not -∞, whose difference from a score of -∞ would be NaN.
        self.max.resize(queries, f32::MIN);
        self.sum.clear();
        self.sum.resize(queries, 0.0);
    }

    /// Returns the factor of a query's summed values.
    pub fn scale(&self, query: usize) -> f32 {
        1.0 / self.sum[query]
    }
}

/// Turns the scores of a block of keys into exponentials, `2^(score - max)`, and rescales the sums of earlier blocks.
pub struct Exponentiate<'a, B> {
    pub running: &'a mut Running,
    /// `[m, KEYS]`, of which `keys` count.
    pub scores: &'a mut [[f32; KEYS]],
    pub keys: usize,
    /// `[m, width]`: sums of values so far.
    pub values: &'a mut [f32],
    pub width: usize,
    /// Returns the biases of a query's scores, in natural units.
    pub biases: B,
}

impl<'b, B: Fn(usize) -> [Option<&'b [f32]>; 2]> WithSimd for Exponentiate<'_, B> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let padded = self.keys.next_multiple_of(S::F32_LANES);
        let values = self.values.chunks_exact_mut(self.width.max(1));
        let running = self.running.max.iter_mut().zip(&mut self.running.sum);
        for (query, ((scores, values), (max, sum))) in self.scores.iter_mut().zip(values).zip(running).enumerate() {
            for bias in (self.biases)(query).into_iter().flatten() {
                // Not -∞, as above.
                let scores = scores.iter_mut().zip(bias);
                scores.for_each(|(score, bias)| *score = (*score + bias * std::f32::consts::LOG2_E).max(f32::MIN));
            }
            scores[self.keys..padded].fill(f32::NEG_INFINITY);
            let scores = S::as_mut_simd_f32s(&mut scores[..padded]).0;
            let new_max = largest(simd, scores, *max);
            let new_sum = exponentiate(simd, scores, new_max);
            if new_max > *max {
                let scale = (*max - new_max).exp2();
                *max = new_max;
                *sum *= scale;
                let scale = simd.splat_f32s(scale);
                for value in S::as_mut_simd_f32s(values).0 {
                    *value = simd.mul_f32s(*value, scale);
                }
            }
            *sum += new_sum;
        }
    }
}

/// Returns the largest of the scores and `max`.
#[inline(always)]
fn largest<S: Simd>(simd: S, scores: &[S::f32s], max: f32) -> f32 {
    let max = scores.iter().fold(simd.splat_f32s(max), |max, &score| simd.max_f32s(score, max));
    simd.reduce_max_f32s(max)
}

/// Replaces the scores by `2^(score - max)` and returns their sum.
#[inline(always)]
fn exponentiate<S: Simd>(simd: S, scores: &mut [S::f32s], max: f32) -> f32 {
    let max = simd.splat_f32s(max);
    let mut sum = simd.splat_f32s(0.0);
    for score in scores {
        *score = exp2(simd, simd.sub_f32s(*score, max));
        sum = simd.add_f32s(sum, *score);
    }
    simd.reduce_sum_f32s(sum)
}

/// `2ˣ` for x ≤ 0, within 2 units in the last place; 0 below -126, where the result would be subnormal. NaN stays NaN.
#[inline(always)]
fn exp2<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    /// Adding it to a small number leaves that number's nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// The polynomial of least relative error, 7.5e-8, over -1/2..1/2.
    const POLYNOMIAL: [f32; 6] = [1.327_647_2e-3, 9.675_541e-3, 5.550_713e-2, 0.240_221_2, 0.693_146_94, 1.000_000_1];
    let splat = |x| simd.splat_f32s(x);
    let rounded = simd.add_f32s(x, splat(ROUND));
    let fraction = simd.sub_f32s(x, simd.sub_f32s(rounded, splat(ROUND)));
    let [first, rest @ ..] = POLYNOMIAL;
    let p = rest.into_iter().fold(splat(first), |p, next| simd.mul_add_e_f32s(p, fraction, splat(next)));
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    let power = simd.transmute_f32s_u32s(simd.add_u32s(exponent, simd.splat_u32s(1.0f32.to_bits())));
    simd.select_f32s(simd.less_than_f32s(x, splat(-126.0)), splat(0.0), simd.mul_f32s(p, power))
}

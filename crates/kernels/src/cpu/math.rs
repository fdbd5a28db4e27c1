//! Elementary functions that the compiler can vectorise: no branches, no calls, no fused multiply-add.

/// `eˣ` within 2 units in the last place; 0 below -87.3, where the result would be subnormal, and constant above
/// 88.37, near the largest f32. NaN stays NaN.
///
/// Argument reduction and polynomial are those of Cephes' `expf` (<https://www.netlib.org/cephes/>).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding it to a small number leaves that number's nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Not clamp or min and max: those would turn NaN into a number.
    let bounded = if x > 88.37 { 88.37 } else { x };
    let bounded = if bounded < -87.3 { -87.3 } else { bounded };
    let rounded = bounded * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = bounded - n * LN_2_HIGH - n * LN_2_LOW;
    let p = 1.987_569_1e-4 * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    if x < -87.3 { 0.0 } else { p * power }
}

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x · sigmoid(x)`.
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `x / 2 · (1 + tanh u)` with `u = √(2/π) (x + 0.044715 x³)`, written as `x · sigmoid(2u)`.
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    /// `2 √(2/π)`
    const SCALE: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
    x / (1.0 + exp(-SCALE * (x + 0.044_715 * x * x * x)))
}

/// `sin² x` within 3e-7 for `|x|` up to 10⁴, and beyond within `|x|` · 3e-7, which is what rounding `x` itself makes of it; from 0 to 1
/// for every number. NaN and infinite values give NaN.
///
/// It has the period π, which is subtracted in three parts (those of Cephes' `sinf`, <https://www.netlib.org/cephes/>, times
/// four); the polynomial is Taylor's, whose error at π/2 is below 1e-9.
#[inline(always)]
pub(super) fn sin_squared(x: f32) -> f32 {
    /// As in [`exp`].
    const ROUND: f32 = 12_582_912.0;
    const PI_HIGH: f32 = 3.140_625;
    const PI_MIDDLE: f32 = 9.675_026e-4;
    const PI_LOW: f32 = 1.509_958e-7;
    let n = (x * std::f32::consts::FRAC_1_PI + ROUND) - ROUND;
    let r = x - n * PI_HIGH - n * PI_MIDDLE - n * PI_LOW;
    let z = r * r;
    let p = 1.605_904_4e-10 * z - 2.505_210_8e-8;
    let p = p * z + 2.755_732e-6;
    let p = p * z - 1.984_127e-4;
    let p = p * z + 8.333_334e-3;
    let p = p * z - 1.666_666_7e-1;
    let sine = r + r * z * p;
    let square = sine * sine;
    // Where even `n` is rounded; not `min`, which would turn NaN into a number.
    if square > 1.0 { 1.0 } else { square }
}

/// The sum of `f(x)` over a slice, in sixteen partial sums.
#[inline(always)]
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<16>();
    let mut partial = [0f32; 16];
    for chunk in chunks {
        for (partial, &x) in partial.iter_mut().zip(chunk) {
            *partial += f(x);
        }
    }
    partial.iter().sum::<f32>() + rest.iter().map(|&x| f(x)).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate() {
        let worst = (-87_299..88_370)
            .map(|i| {
                let x = i as f32 * 1e-3;
                let expected = f64::from(x).exp();
                (f64::from(exp(x)) / expected - 1.0).abs()
            })
            .fold(0.0, f64::max);
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "{worst:e}");
        assert_eq!(exp(0.0).to_bits(), 1.0f32.to_bits());
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sin_squared_is_accurate() {
        for (step, largest, tolerance) in [(1e-3, 30.0, 3e-7), (0.37, 1e4, 3e-7), (771.3, 1e7, 3.0)] {
            let count = (largest / step) as i32;
            for i in -count..count {
                let x = i as f32 * step;
                let (found, error) = (sin_squared(x), (f64::from(sin_squared(x)) - f64::from(x).sin().powi(2)).abs());
                assert!(error <= tolerance && (0.0..=1.0).contains(&found), "{x}: {found}, {error:e}");
            }
        }
        assert_eq!(sin_squared(0.0).to_bits(), 0);
        assert!((0.0..=1.0).contains(&sin_squared(f32::MAX)));
        assert!(sin_squared(f32::NAN).is_nan() && sin_squared(f32::INFINITY).is_nan());
    }
}

//! Small floating-point numbers.

use half::f16;

/// The number of four exponent bits and three of mantissa (e4m3fn): no infinity, one NaN per sign, largest value 448.
/// <https://arxiv.org/abs/2209.05433>
pub fn f32_from_e4m3(bits: u8) -> f32 {
    let (exponent, mantissa) = (u32::from(bits >> 3 & 15), u32::from(bits & 7));
    let magnitude = match (exponent, mantissa) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa as f32 / 512.0,
        _ => f32::from_bits(((exponent + 120) << 23) | (mantissa << 20)),
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The number of five exponent bits and two of mantissa: the upper byte of an f16.
pub fn f32_from_e5m2(bits: u8) -> f32 {
    f16::from_bits(u16::from(bits) << 8).to_f32()
}

/// The power of two of eight exponent bits; NaN for 255. Scales of blocks are stored so.
/// <https://www.opencompute.org/documents/ocp-microscaling-formats-mx-v1-0-spec-final-pdf>
pub fn f32_from_e8m0(bits: u8) -> f32 {
    match bits {
        0 => f32::from_bits(1 << 22), // below the smallest normal number
        255 => f32::NAN,
        bits => f32::from_bits(u32::from(bits) << 23),
    }
}

/// The number of two exponent bits and one of mantissa in the low half of `bits`.
pub fn f32_from_e2m1(bits: u8) -> f32 {
    const MAGNITUDES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let magnitude = MAGNITUDES[usize::from(bits & 7)];
    if bits & 8 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_their_definitions() {
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let check = |found: &[f32], expected: &[f32]| assert_eq!(bits(found), bits(expected));
        check(&[0, 1, 0x7e, 0x38, 0xb8].map(f32_from_e4m3), &[0.0, 1.0 / 512.0, 448.0, 1.0, -1.0]);
        assert!([0x7f, 0xff].into_iter().all(|bits| f32_from_e4m3(bits).is_nan()));
        check(&[0x7b, 1, 0x3c, 0xbc].map(f32_from_e5m2), &[57344.0, 2f32.powi(-16), 1.0, -1.0]);
        check(&[127, 128, 1, 0].map(f32_from_e8m0), &[1.0, 2.0, 2f32.powi(-126), 2f32.powi(-127)]);
        check(&[1, 7, 8 + 5].map(f32_from_e2m1), &[0.5, 6.0, -3.0]);
    }
}

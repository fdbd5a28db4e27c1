//! [`rotate`]: the rotation that spreads large values over a group before it is quantised (`ConvRot`).

/// Whether groups of so many values can be rotated: powers of 4.
pub fn is_rotation(group: usize) -> bool {
    group.is_power_of_two() && group.trailing_zeros().is_multiple_of(2)
}

/// Multiplies each group of `group` values by the regular Hadamard matrix of that size, divided by the root of its size: the
/// Kronecker power of `[[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]]`. It is its own inverse.
///
/// # Panics
/// If `group` is no power of 4, or `values` are no whole groups.
// Called within loops that are compiled for the machine's instructions.
#[allow(clippy::inline_always)]
#[inline(always)]
pub fn rotate(values: &mut [f32], group: usize) {
    assert!(is_rotation(group) && values.len().is_multiple_of(group), "groups of {group}");
    let scale = (group as f32).sqrt().recip(); // a power of two
    let mut step = 1;
    while step < group {
        for four in values.chunks_exact_mut(4 * step) {
            let (ab, cd) = four.split_at_mut(2 * step);
            let ((a, b), (c, d)) = (ab.split_at_mut(step), cd.split_at_mut(step));
            for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                let sum = (*a + *b) + (*c + *d);
                (*a, *b, *c, *d) = (sum - 2.0 * *d, sum - 2.0 * *c, sum - 2.0 * *b, sum - 2.0 * *a);
            }
        }
        step *= 4;
    }
    for value in values {
        *value *= scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_kronecker_power_and_its_own_inverse() {
        const FOUR: [[i32; 4]; 4] = [[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]];
        for one in 0..16 {
            let mut column = [0f32; 16];
            column[one] = 1.0;
            rotate(&mut column, 16);
            for (row, value) in column.iter().enumerate() {
                let expected = FOUR[row / 4][one / 4] * FOUR[row % 4][one % 4];
                assert!((value - expected as f32 / 4.0).abs() < 1e-6);
            }
            rotate(&mut column, 16);
            assert!(column.iter().enumerate().all(|(i, value)| (value - f32::from(u8::from(i == one))).abs() < 1e-6));
        }
        assert!([4, 16, 64, 256].into_iter().all(is_rotation) && ![0, 2, 8, 12, 128].into_iter().any(is_rotation));
    }
}

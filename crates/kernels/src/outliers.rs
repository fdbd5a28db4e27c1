//! Finds the columns of a matrix that are so much larger than the others that they need a scale of their own when the
//! matrix is quantised to eight bits. Trained transformers have a few such channels in every layer:
//! <https://arxiv.org/abs/2208.07339>.

use crate::level::vectorised;
use rayon::prelude::*;

/// Rows that are examined: an outlying channel is outlying in every token.
const SAMPLE: usize = 64;
/// The largest element of an outlying column is at least so many times that of the typical column. No column of normally
/// distributed numbers is.
const RATIO: f32 = 3.0;
/// At most one column in so many is split off, and at most [`MOST`] in all.
const SHARE: usize = 32;
/// The most outlying columns: sums over them, in units of their scale, fit 31 bits.
pub(crate) const MOST: usize = 512;

/// Returns the outlying columns of a matrix of `rows` rows and `columns` columns, in order; `row` writes one row, as f32.
pub(crate) fn outlying_columns(rows: usize, columns: usize, row: impl Fn(usize, &mut [f32]) + Sync) -> Vec<usize> {
    let step = rows.div_ceil(SAMPLE).max(1);
    let zeros = || (vec![0f32; columns], vec![0f32; columns]);
    let larger = |(mut largest, mut buffer): (Vec<f32>, Vec<f32>), i: usize| {
        vectorised(
            #[inline(always)]
            || {
                row(i * step, &mut buffer);
                raise(&mut largest, &buffer);
            },
        );
        (largest, buffer)
    };
    let both = |(mut largest, buffer): (Vec<f32>, Vec<f32>), (other, _): (Vec<f32>, Vec<f32>)| {
        raise(&mut largest, &other);
        (largest, buffer)
    };
    let sample = (0..rows.div_ceil(step)).into_par_iter().with_min_len(8);
    let (largest, mut buffer) = sample.fold(zeros, larger).reduce(zeros, both);
    buffer.copy_from_slice(&largest);
    let (_, typical, _) = buffer.select_nth_unstable_by(columns / 2, f32::total_cmp);
    let bound = *typical * RATIO;
    let mut outlying: Vec<usize> = (0..columns).filter(|&i| bound > 0.0 && largest[i] > bound).collect();
    outlying.sort_by(|&a, &b| largest[b].total_cmp(&largest[a]));
    outlying.truncate((columns / SHARE).min(MOST));
    outlying.sort_unstable();
    outlying
}

/// Takes the magnitudes of `x` where they are larger; NaN counts as nothing.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled for the vector instructions found at run time")]
fn raise(largest: &mut [f32], x: &[f32]) {
    for (largest, x) in largest.iter_mut().zip(x) {
        *largest = if x.abs() > *largest { x.abs() } else { *largest };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_columns_that_are_far_larger_are_outlying() {
        let element = |row: usize, column: usize| {
            let x = ((row * 7919 + column * 104_729) % 1009) as f32 / 504.0 - 1.0;
            if matches!(column, 7 | 90) { 30.0 * x } else { x }
        };
        let find = |rows, f: &(dyn Fn(usize, usize) -> f32 + Sync)| {
            outlying_columns(rows, 100, |row, out| out.iter_mut().enumerate().for_each(|(i, x)| *x = f(row, i)))
        };
        assert_eq!(find(1000, &element), [7, 90]);
        assert!(find(1000, &|row, column| element(row, column % 7)).is_empty());
        assert!(find(10, &|_, _| 0.0).is_empty());
        // No more than the allowed share, and the largest of them.
        let many = |row, column| if column < 20 { 40.0 + column as f32 } else { element(row, 1) };
        assert_eq!(find(1000, &many), [17, 18, 19]);
    }
}

//! [`Entry`]: the place of a tensor in its file.

use safetensors::Dtype;
use std::ops::Range;

/// The place of a tensor in its file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Strides in elements, if the elements are not in row-major order (.pth only).
    pub(crate) strides: Option<Vec<usize>>,
    /// The byte range of the elements in the file.
    pub(crate) range: Range<usize>,
}

impl Entry {
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.elements() * self.dtype.bitsize() / 8
    }
}

/// Returns the number of elements, if it and every stride fit in `usize` (an empty tensor may have huge dimensions).
pub(crate) fn count_elements(shape: &[usize]) -> Option<usize> {
    let without_empty = shape.iter().try_fold(1usize, |n, d| n.checked_mul((*d).max(1)))?;
    Some(if shape.contains(&0) { 0 } else { without_empty })
}

//! [`Entry`]: the place of a tensor in its file.

use kinora_formats::Format;
use std::ops::Range;

/// The place of a tensor in its file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) format: Format,
    pub(crate) shape: Vec<usize>,
    /// Strides in elements, if the elements are not in row-major order (.pth only).
    pub(crate) strides: Option<Vec<usize>>,
    /// Whether leading dimensions of 1 may have been lost (GGUF only).
    pub(crate) loose: bool,
    /// The byte range of the elements in the file.
    pub(crate) range: Range<usize>,
}

impl Entry {
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.format.bytes(self.elements()).unwrap_or_default()
    }

    /// Whether the elements, in their order, are a tensor of `shape`.
    pub(crate) fn fits(&self, shape: &[usize]) -> bool {
        self.shape == shape || (self.loose && without_ones(&self.shape) == without_ones(shape))
    }
}

/// A shape without its leading dimensions of 1.
fn without_ones(shape: &[usize]) -> &[usize] {
    let first = shape.iter().position(|size| *size != 1).unwrap_or(shape.len());
    &shape[first..]
}

/// Returns the number of elements, if it and every stride fit in `usize` (an empty tensor may have huge dimensions).
pub(crate) fn count_elements(shape: &[usize]) -> Option<usize> {
    let without_empty = shape.iter().try_fold(1usize, |n, d| n.checked_mul((*d).max(1)))?;
    Some(if shape.contains(&0) { 0 } else { without_empty })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_ones_are_forgiven_where_files_lose_them() {
        let fits = |loose: bool, shape: &[usize], wanted: &[usize]| {
            let (format, shape, range) = (Format::F32, shape.to_vec(), 0..0);
            Entry { format, shape, strides: None, loose, range }.fits(wanted)
        };
        assert!(fits(false, &[6, 8], &[6, 8]) && !fits(false, &[6, 8], &[1, 6, 8]));
        assert!(fits(true, &[6, 8], &[1, 6, 8]) && fits(true, &[1, 1, 8], &[8]) && fits(true, &[], &[1, 1]));
        for (shape, wanted) in [(&[6, 8][..], &[8, 6][..]), (&[6, 8], &[48]), (&[6, 1, 8], &[6, 8]), (&[8], &[8, 1])] {
            assert!(!fits(true, shape, wanted), "{shape:?} {wanted:?}");
        }
    }
}

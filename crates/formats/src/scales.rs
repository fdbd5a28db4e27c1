//! [`Scales`]: what the stored values of a matrix are multiplied by.

use crate::{f32_from_e4m3, f32_from_e8m0};

/// The scales of a matrix `[rows, columns]`.
#[derive(Clone, Debug)]
pub enum Scales {
    /// Values are the stored ones.
    None,
    /// One for all.
    Whole(f32),
    /// One per row.
    Rows(Vec<f32>),
    /// One per `size` values of a row, `[rows, columns / size]`, rounded up.
    Blocks {
        /// The number of values that share a scale.
        size: usize,
        /// The scales, row by row.
        values: BlockScales,
    },
}

/// Scales of blocks, as small as they are stored.
#[derive(Clone, Debug)]
pub enum BlockScales {
    /// f32.
    F32(Vec<f32>),
    /// e4m3, times one for the whole matrix.
    E4m3(Vec<u8>, f32),
    /// Powers of two.
    E8m0(Vec<u8>),
}

impl Scales {
    /// The values that share a scale, where that is not the whole row.
    pub fn block(&self) -> Option<usize> {
        match self {
            Self::Blocks { size, .. } => Some(*size),
            _ => None,
        }
    }

    /// The number of scales; `None` for none.
    pub(crate) fn count(&self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Whole(_) => Some(1),
            Self::Rows(scales) => Some(scales.len()),
            Self::Blocks { values, .. } => Some(values.len()),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::None | Self::Whole(_) => 0,
            Self::Rows(scales) | Self::Blocks { values: BlockScales::F32(scales), .. } => {
                size_of_val(scales.as_slice())
            }
            Self::Blocks { values: BlockScales::E4m3(scales, _) | BlockScales::E8m0(scales), .. } => scales.len(),
        }
    }

    /// Whether one is NaN or infinite.
    pub(crate) fn has_no_number(&self) -> bool {
        match self {
            Self::None => false,
            Self::Whole(scale) => !scale.is_finite(),
            Self::Rows(scales) => scales.iter().any(|scale| !scale.is_finite()),
            Self::Blocks { values, .. } => (0..values.len()).any(|at| !values.get(at).is_finite()),
        }
    }
}

impl BlockScales {
    fn len(&self) -> usize {
        match self {
            Self::F32(scales) => scales.len(),
            Self::E4m3(bytes, _) | Self::E8m0(bytes) => bytes.len(),
        }
    }

    /// The scale at this place.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> f32 {
        match self {
            Self::F32(scales) => scales[at],
            Self::E4m3(scales, whole) => whole * f32_from_e4m3(scales[at]),
            Self::E8m0(scales) => f32_from_e8m0(scales[at]),
        }
    }
}

/// Returns scales `[rows, columns]` in rows, from the order in which cuBLAS reads scales of blocks: padded to tiles of
/// 128 × 4, which lie one after the other, with 32 lines of 4 × 4 in each. `None` if the number of scales is another.
/// <https://docs.nvidia.com/cuda/cublas/index.html#d-block-scaling-factors-layout>
pub fn deswizzled(scales: &[u8], rows: usize, columns: usize) -> Option<Vec<u8>> {
    const TILE: [usize; 2] = [128, 4];
    let across = columns.div_ceil(TILE[1]);
    if scales.len() != rows.div_ceil(TILE[0]) * across * TILE[0] * TILE[1] {
        return None;
    }
    let place = |row: usize, column: usize| {
        let tile = row / TILE[0] * across + column / TILE[1];
        tile * TILE[0] * TILE[1] + row % 32 * 16 + row % TILE[0] / 32 * 4 + column % TILE[1]
    };
    Some((0..rows).flat_map(|row| (0..columns).map(move |column| scales[place(row, column)])).collect())
}

//! [`Matrix`]: a matrix as its file stores it.

use crate::{BlockScales, Blocks, Format, Scales, f32_from_e2m1, f32_from_e4m3, f32_from_e5m2, is_rotation, rotate};
use half::{bf16, f16};

/// A matrix `[rows, columns]` in the form in which it is stored. Its rows can be read apart, and so can whole units of
/// columns.
#[derive(Clone, Debug)]
pub struct Matrix {
    parts: Parts,
}

/// What a [`Matrix`] is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// How values are written: floating-point numbers, [`Format::I8`], [`Format::F4`] with the first value in the high half
    /// of a byte, or blocks.
    pub format: Format,
    /// The number of rows.
    pub rows: usize,
    /// The number of columns.
    pub columns: usize,
    /// The number of values that a row has in the file, where it is padded.
    pub stride: usize,
    /// Rows of `stride` values; more rows may follow.
    pub bytes: Vec<u8>,
    /// What values are multiplied by.
    pub scales: Scales,
    /// The size of the groups that were rotated after scaling ([`rotate`]), 1 for none.
    pub rotation: usize,
}

impl Matrix {
    /// Checks that the parts belong together.
    ///
    /// # Errors
    /// What does not fit, as the end of a sentence about the matrix.
    pub fn new(parts: Parts) -> Result<Self, String> {
        let Parts { format, rows, columns, stride, bytes, scales, rotation } = &parts;
        let plain = matches!(
            format,
            Format::F32 | Format::F16 | Format::Bf16 | Format::F8E4m3 | Format::F8E5m2 | Format::I8 | Format::F4
        );
        if !plain && format.blocks().is_none() {
            return Err(format!("is stored as {format}, which is no format of matrices"));
        }
        let (unit, _) = format.unit();
        let Some(row) = format.bytes(*stride).filter(|_| stride >= columns) else {
            return Err(format!("has rows of {stride} values, which are no whole number of blocks of {unit}"));
        };
        if row.checked_mul(*rows).is_none_or(|needed| needed > bytes.len()) {
            return Err(format!("has {} bytes, which are too few for {rows} rows of {stride} values", bytes.len()));
        }
        let expected = match scales {
            Scales::None => None,
            Scales::Whole(_) => Some(1),
            Scales::Rows(_) => Some(*rows),
            Scales::Blocks { size: 0, .. } => return Err("has scales of blocks without values".to_string()),
            Scales::Blocks { size, .. } => Some(rows * columns.div_ceil(*size)),
        };
        if let (Some(found), Some(expected)) = (scales.count(), expected)
            && found != expected
        {
            return Err(format!("has {found} scales, not {expected}"));
        }
        if scales.has_no_number() {
            return Err("has a scale that is NaN or infinite".to_string());
        }
        if *rotation != 1 && !(is_rotation(*rotation) && columns.is_multiple_of(*rotation)) {
            return Err(format!("has {columns} columns, which cannot be rotated in groups of {rotation}"));
        }
        Ok(Self { parts })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.parts.rows
    }

    /// The number of columns.
    pub fn columns(&self) -> usize {
        self.parts.columns
    }

    /// How values are written.
    pub fn format(&self) -> Format {
        self.parts.format
    }

    /// What values are multiplied by.
    pub fn scales(&self) -> &Scales {
        &self.parts.scales
    }

    /// The size of the groups that were rotated, 1 for none.
    pub fn rotation(&self) -> usize {
        self.parts.rotation
    }

    /// ggml's blocks, if they are all that there is.
    pub fn blocks(&self) -> Option<Blocks> {
        let plain = matches!(self.parts.scales, Scales::None) && self.parts.rotation == 1;
        self.format().blocks().filter(|_| plain && self.parts.stride == self.parts.columns)
    }

    /// The bytes of one row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[u8] {
        let (unit, bytes) = self.format().unit();
        let len = self.parts.stride / unit * bytes;
        &self.parts.bytes[row * len..(row + 1) * len]
    }

    /// The bytes of all rows.
    pub fn bytes(&self) -> &[u8] {
        &self.parts.bytes
    }

    /// The memory that it takes, in bytes.
    pub fn memory(&self) -> usize {
        self.parts.bytes.len() + self.parts.scales.bytes()
    }

    /// The number of columns that [`Matrix::dequantise`] starts at multiples of.
    pub fn unit(&self) -> usize {
        let largest = self.format().unit().0.max(self.parts.rotation);
        // All of them are powers of two.
        largest.max(self.parts.scales.block().unwrap_or(1).next_power_of_two())
    }

    /// Writes the values of `row` from the column `first` on, a multiple of [`Matrix::unit`], to `out`, which ends at one
    /// or with the row.
    ///
    /// # Panics
    /// If there is no such row or column.
    // Called within loops that are compiled for the machine's instructions.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub fn dequantise(&self, row: usize, first: usize, out: &mut [f32]) {
        let bytes = self.row(row);
        match self.format() {
            Format::F32 => each(&bytes[4 * first..], out, |[a, b, c, d]| f32::from_le_bytes([a, b, c, d])),
            Format::F16 => each(&bytes[2 * first..], out, |[a, b]| f16::from_le_bytes([a, b]).to_f32()),
            Format::Bf16 => each(&bytes[2 * first..], out, |[a, b]| bf16::from_le_bytes([a, b]).to_f32()),
            Format::F8E4m3 => each(&bytes[first..], out, |[a]| f32_from_e4m3(a)),
            Format::F8E5m2 => each(&bytes[first..], out, |[a]| f32_from_e5m2(a)),
            Format::F4 => {
                for (at, out) in (first..).zip(out.iter_mut()) {
                    let byte = bytes[at / 2];
                    *out = f32_from_e2m1(if at.is_multiple_of(2) { byte >> 4 } else { byte & 15 });
                }
            }
            Format::Blocks(blocks) => {
                let (values, size) = (blocks.values(), blocks.bytes());
                let bytes = &bytes[first / values * size..];
                blocks.dequantise(&bytes[..out.len() / values * size], out);
            }
            _ => each(&bytes[first..], out, |[a]| f32::from(a as i8)),
        }
        self.scale(row, first, out);
        if self.parts.rotation > 1 {
            rotate(out, self.parts.rotation);
        }
    }

    /// Returns whether the stored numbers of a row are finite, and whether they are all zeros. (Scales beside the matrix were
    /// checked when it was made.)
    ///
    /// # Panics
    /// If there is no such row.
    #[allow(clippy::verbose_bit_mask, reason = "masks are all but the sign")]
    pub fn row_is(&self, row: usize) -> (bool, bool) {
        let bytes = self.row(row);
        let all = |finite: fn(u8) -> bool, zero: fn(u8) -> bool| {
            (bytes.iter().all(|byte| finite(*byte)), bytes.iter().all(|byte| zero(*byte)))
        };
        match self.format() {
            Format::F8E4m3 => all(|byte| byte & 0x7f != 0x7f, |byte| byte & 0x7f == 0),
            Format::F8E5m2 => all(|byte| byte & 0x7f < 0x7c, |byte| byte & 0x7f == 0),
            Format::F4 => all(|_| true, |byte| byte & 0x77 == 0),
            Format::Blocks(blocks) => {
                let blocks_of = || bytes.chunks_exact(blocks.bytes());
                (blocks_of().all(|block| blocks.is_finite(block)), blocks_of().all(|block| blocks.is_zero(block)))
            }
            Format::I8 => all(|_| true, |byte| byte == 0),
            _ => {
                let mut values = vec![0f32; self.columns()];
                self.dequantise(row, 0, &mut values);
                (values.iter().all(|x| x.is_finite()), values.iter().all(|x| *x == 0.0))
            }
        }
    }

    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn scale(&self, row: usize, first: usize, out: &mut [f32]) {
        let times = |out: &mut [f32], scale: f32| {
            for out in out {
                *out *= scale;
            }
        };
        match &self.parts.scales {
            Scales::None => {}
            Scales::Whole(scale) => times(out, *scale),
            Scales::Rows(scales) => times(out, scales[row]),
            Scales::Blocks { size, values } => {
                let start = row * self.parts.columns.div_ceil(*size) + first / size;
                let scale = |block: usize| BlockScales::get(values, start + block);
                out.chunks_mut(*size).enumerate().for_each(|(block, out)| times(out, scale(block)));
            }
        }
    }
}

#[allow(clippy::inline_always)]
#[inline(always)]
fn each<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *out = value(*bytes);
    }
}

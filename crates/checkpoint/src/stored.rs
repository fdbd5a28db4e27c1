//! Weights in the form in which they are stored: [`read_matrix`] and the values of one.

use crate::companions::{Coding, Kind};
use crate::convert::{Element, Wanted};
use crate::entry::Entry;
use crate::file::TensorFile;
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use half::{bf16, f16};
use kinora_formats::{BlockScales, Format, Matrix, Parts, Scales, deswizzled};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Values of a row that share a scale, in nvfp4 and in mxfp8.
const NVFP4: usize = 16;
const MXFP8: usize = 32;

/// A tensor with its file.
pub(crate) type Place<'a> = (&'a TensorFile, &'a Entry);

/// Reads the weight `name` as a matrix: `[first dimension, all others]` of `shape`, or, where they do not lie so in the file, any
/// other whole rows that follow one another.
///
/// `find` returns other tensors of the checkpoint by their names in the file.
///
/// # Errors
/// Scales that do not fit, and a file that cannot be read; the error names the tensor.
pub(crate) fn read_matrix<'a>(
    name: &str,
    (file, entry): Place<'a>,
    shape: &[usize],
    coding: Option<&Coding>,
    find: impl Fn(&str) -> Option<Place<'a>>,
) -> Result<Matrix> {
    let rows = shape.first().copied().unwrap_or(1);
    let columns: usize = shape.iter().skip(1).product();
    let bytes = file.bytes_of(entry)?;
    let parts = if let Some(coding) = coding {
        Coded { name, file, coding, size: [rows, columns] }.parts(entry, bytes, find)?
    } else {
        let (unit, _) = entry.format.unit();
        // Blocks follow one another, so that rows of any whole number of them have the same values.
        let fits = columns.is_multiple_of(unit);
        let (rows, columns) = if fits { (rows, columns) } else { (entry.elements() / unit, unit) };
        Parts { format: entry.format, rows, columns, stride: columns, bytes, scales: Scales::None, rotation: 1 }
    };
    Matrix::new(parts).map_err(|problem| coding_error(file, name, problem))
}

fn coding_error(file: &TensorFile, name: &str, problem: String) -> Error {
    Error::Coding { path: file.path().to_path_buf(), name: name.to_string(), problem }
}

/// A weight whose values follow from several tensors.
struct Coded<'a> {
    name: &'a str,
    file: &'a TensorFile,
    coding: &'a Coding,
    /// `[rows, columns]` of the model's matrix.
    size: [usize; 2],
}

impl Coded<'_> {
    fn parts<'a>(&self, entry: &Entry, bytes: Vec<u8>, find: impl Fn(&str) -> Option<Place<'a>>) -> Result<Parts> {
        let [rows, columns] = self.size;
        let found = |name: &str| find(name).ok_or_else(|| self.invalid(format!("has no scale `{name}`")));
        let scale = found(&self.coding.scale)?;
        let [stored_rows, stored_columns] = match *entry.shape.as_slice() {
            [rows, columns] => [rows, columns],
            _ => self.size,
        };
        let plain =
            Parts { format: Format::I8, rows, columns, stride: columns, bytes, scales: Scales::None, rotation: 1 };
        Ok(match &self.coding.kind {
            Kind::Scaled(format) => Parts { format: *format, scales: self.scales(scale)?, ..plain },
            Kind::Rotated(group) => Parts { rotation: *group, scales: self.scales(scale)?, ..plain },
            Kind::Nvfp4(whole) => {
                let stride = 2 * stored_columns;
                let whole = floats(found(whole)?, whole)?;
                let &[whole] = whole.as_slice() else {
                    return Err(self.invalid(format!("has {} scales of the whole", whole.len())));
                };
                let values = BlockScales::E4m3(self.swizzled(scale, [stored_rows, stride], NVFP4)?, whole);
                Parts { format: Format::F4, stride, scales: Scales::Blocks { size: NVFP4, values }, ..plain }
            }
            Kind::Mxfp8 => {
                let values = BlockScales::E8m0(self.swizzled(scale, [stored_rows, stored_columns], MXFP8)?);
                let scales = Scales::Blocks { size: MXFP8, values };
                Parts { format: Format::F8E4m3, stride: stored_columns, scales, ..plain }
            }
        })
    }

    /// Scales in f32: one, one per row, or `[rows, blocks, 1]`.
    fn scales(&self, scale: Place) -> Result<Scales> {
        let [rows, columns] = self.size;
        let shape = &scale.1.shape;
        let scales = scales_of(floats(scale, &self.coding.scale)?, shape, rows, columns);
        scales.ok_or_else(|| self.invalid(format!("[{rows}, {columns}] has scales of shape {shape:?}")))
    }

    /// Scales of blocks in the order of cuBLAS, for a matrix of the `stored` size, cut to the model's.
    fn swizzled(&self, (file, entry): Place, stored: [usize; 2], block: usize) -> Result<Vec<u8>> {
        let [rows, columns] = self.size;
        let across = stored[1].div_ceil(block);
        let all = deswizzled(&file.bytes_of(entry)?, stored[0], across);
        let all = all.ok_or_else(|| self.invalid(format!("has scales of shape {:?}", entry.shape)))?;
        let wanted = columns.div_ceil(block);
        Ok(all.chunks_exact(across.max(1)).take(rows).flat_map(|row| row[..wanted].to_vec()).collect())
    }

    fn invalid(&self, problem: String) -> Error {
        coding_error(self.file, self.name, problem)
    }
}

fn floats((file, _): Place, name: &str) -> Result<Vec<f32>> {
    Ok(file.tensor(name)?.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?)
}

/// The scales of a matrix: one, one per row, or `[rows, blocks, 1]`.
fn scales_of(scales: Vec<f32>, shape: &[usize], rows: usize, columns: usize) -> Option<Scales> {
    Some(match *shape {
        [] | [1] => Scales::Whole(*scales.first()?),
        [found] | [found, 1] if found == rows => Scales::Rows(scales),
        [found, blocks, 1] if found == rows && blocks > 0 && columns.is_multiple_of(blocks) => {
            Scales::Blocks { size: columns / blocks, values: BlockScales::F32(scales) }
        }
        _ => return None,
    })
}

/// Whether the values of `shape` in the file are as the model's `[rows, columns]`, which may be padded there.
pub(crate) fn fits(coding: &Coding, stored: &[usize], shape: &[usize]) -> bool {
    let (&[rows, columns], &[wanted_rows, wanted_columns]) = (stored, shape) else { return stored == shape };
    let padded = |size: usize, wanted: usize, to: usize| size == wanted || size == wanted.next_multiple_of(to);
    match coding.kind {
        Kind::Nvfp4(_) => padded(rows, wanted_rows, 16) && padded(2 * columns, wanted_columns, 16),
        Kind::Mxfp8 => padded(rows, wanted_rows, MXFP8) && padded(columns, wanted_columns, MXFP8),
        _ => stored == shape,
    }
}

/// Returns the values of `matrix` as a tensor of `shape`, as it is `wanted`.
///
/// # Errors
/// As [`check`], and values that the dtype cannot hold.
pub(crate) fn values_of(name: &str, matrix: &Matrix, shape: &[usize], wanted: &Wanted) -> Result<Tensor> {
    check(name, matrix, wanted.zeros || shape.iter().filter(|size| **size > 1).count() < 2)?;
    match wanted.dtype {
        DType::F32 => typed::<f32>(name, matrix, shape, wanted),
        DType::BF16 => typed::<bf16>(name, matrix, shape, wanted),
        DType::F16 => typed::<f16>(name, matrix, shape, wanted),
        DType::F64 => typed::<f64>(name, matrix, shape, wanted),
        other => Err(Error::Dtype { name: name.to_string(), dtype: other.as_str().to_string() }),
    }
}

fn typed<T: Element>(name: &str, matrix: &Matrix, shape: &[usize], wanted: &Wanted) -> Result<Tensor> {
    let mut values = T::zeros(matrix.rows() * matrix.columns());
    let rows = values.par_chunks_mut(matrix.columns().max(1)).enumerate();
    let too_large = rows.map_init(
        || vec![0f32; matrix.columns()],
        |wide, (row, out)| {
            matrix.dequantise(row, 0, wide);
            let mut too_large = None;
            for (out, value) in out.iter_mut().zip(&*wide) {
                *out = T::narrow_f32(*value);
                too_large = too_large.or((!out.finite()).then_some(*value));
            }
            too_large
        },
    );
    if let Some(value) = too_large.find_map_any(|value| value) {
        let (name, value) = (name.to_string(), f64::from(value));
        return Err(Error::OutOfRange { name, value, dtype: wanted.dtype.as_str() });
    }
    Ok(Tensor::from_vec(values, shape, wanted.device)?)
}

/// Checks that f16 holds the values.
///
/// # Errors
/// [`Error::OutOfRange`].
pub(crate) fn check_f16(name: &str, matrix: &Matrix) -> Result<()> {
    let rows = (0..matrix.rows()).into_par_iter();
    let largest = rows.map_init(
        || vec![0f32; matrix.columns()],
        |wide, row| {
            matrix.dequantise(row, 0, wide);
            wide.iter().fold(0f32, |largest, value| largest.max(value.abs()))
        },
    );
    match largest.find_any(|largest| !f16::from_f32(*largest).is_finite()) {
        Some(value) => {
            let (name, value) = (name.to_string(), f64::from(value));
            Err(Error::OutOfRange { name, value, dtype: DType::F16.as_str() })
        }
        None => Ok(()),
    }
}

/// Checks that the values are numbers and, unless they may be, not all zeros.
///
/// # Errors
/// [`Error::NotFinite`] and [`Error::Zeros`].
pub(crate) fn check(name: &str, matrix: &Matrix, zeros: bool) -> Result<()> {
    let has_value = AtomicBool::new(zeros || matrix.rows() * matrix.columns() == 0);
    let finite = (0..matrix.rows()).into_par_iter().all(|row| {
        let (finite, zero) = matrix.row_is(row);
        if !zero {
            has_value.store(true, Ordering::Relaxed);
        }
        finite
    });
    let name = || name.to_string();
    match (finite, has_value.into_inner()) {
        (false, _) => Err(Error::NotFinite { name: name() }),
        (true, false) => Err(Error::Zeros { name: name() }),
        (true, true) => Ok(()),
    }
}

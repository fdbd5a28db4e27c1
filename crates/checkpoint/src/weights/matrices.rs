//! Matrices of [`Weights`] in the form in which they are stored.

use super::{Asked, Source, Weights, placeholder};
use crate::Result;
use crate::lora::Change;
use crate::stored::check_f16;
use candle_core::{DType, Shape, Tensor};
use kinora_formats::{Format, Matrix};

/// Changes of low rank beside the matrix that they change.
pub struct LowRank {
    /// The view from which the matrix is read without its changes.
    pub unchanged: Weights,
    /// Pairs `(down [r, columns], up [rows, r])` in f32 on the CPU, whose products are added to the matrix; none where headers only
    /// were read.
    pub pairs: Vec<(Tensor, Tensor)>,
    /// The bytes of all pairs.
    pub bytes: usize,
}

/// A matrix that stays in the form in which it is stored.
pub enum StoredMatrix {
    /// The matrix.
    Matrix(Matrix),
    /// Zeros that take no memory, of weights whose headers only were read.
    Placeholder(Tensor),
}

impl Weights {
    /// Returns the matrix `name [rows, columns]` below this view in the form in which it is stored, if that is not a dtype that
    /// tensors have (then [`Weights::get_stored`] returns it): 8-bit and 4-bit numbers with their scales, or blocks. A matrix that is
    /// changed is not returned so, either.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Option<StoredMatrix>> {
        let name = self.full(name);
        if !self.changes_of(&name).is_empty() {
            return Ok(None);
        }
        let (matrix, bytes) = match &self.inner.source {
            Source::Files(checkpoint) if !self.unread => match checkpoint.matrix(&name, shape, self.zeros)? {
                Some(matrix) => {
                    // CPUs widen them to f32.
                    if self.inner.dtype == DType::F16 && !self.target().is_cpu() {
                        check_f16(&name, &matrix)?;
                    }
                    let bytes = matrix.memory();
                    (StoredMatrix::Matrix(matrix), bytes)
                }
                None => return Ok(None),
            },
            Source::Headers(checkpoint) | Source::Files(checkpoint) => match checkpoint.matrix_bytes(&name, shape)? {
                Some(bytes) => {
                    let zeros = placeholder(&Shape::from(shape.to_vec()), DType::F32, &self.inner.device)?;
                    (StoredMatrix::Placeholder(zeros), bytes)
                }
                None => return Ok(None),
            },
            Source::Random(random) if !self.unread => match random.matrix(&name, shape)? {
                Some(matrix) => {
                    let bytes = matrix.memory();
                    (StoredMatrix::Matrix(matrix), bytes)
                }
                None => return Ok(None),
            },
            Source::Random(random) => match random.blocks().filter(|blocks| shape[1].is_multiple_of(blocks.values())) {
                Some(blocks) => {
                    let zeros = placeholder(&Shape::from(shape.to_vec()), DType::F32, &self.inner.device)?;
                    (StoredMatrix::Placeholder(zeros), shape[0] * shape[1] / blocks.values() * blocks.bytes())
                }
                None => return Ok(None),
            },
            Source::Tensors(_) | Source::Recorder => return Ok(None),
        };
        self.lock().insert(name, Asked { shape: shape.to_vec(), bytes });
        Ok(Some(matrix))
    }

    /// Returns the changes of the matrix `name` below this view apart from it, as [`LowRank`], if they are of low rank and would
    /// suffer or cost memory when they were added to it: where it is quantised, or stored in fewer bits than `dtype` has. `None`
    /// if it is to be read with its changes, or has none.
    ///
    /// # Errors
    /// NaN and infinite values, and a file that cannot be read.
    pub fn low_rank(&self, name: &str, dtype: DType) -> Result<Option<LowRank>> {
        let name = self.full(name);
        let changes = self.changes_of(&name);
        let is_apart = self.quant.is_some() || self.bytes_per_value(&name) < dtype.size_in_bytes() as f64;
        if changes.is_empty() || !is_apart || !changes.iter().all(Change::is_low_rank) {
            return Ok(None);
        }
        let bytes = changes.iter().map(Change::low_rank_bytes).sum();
        let pairs = if self.answers_zeros() {
            Vec::new()
        } else {
            changes.iter().filter_map(|change| change.low_rank().transpose()).collect::<Result<_>>()?
        };
        Ok(Some(LowRank { unchanged: Self { changes: None, ..self.clone() }, pairs, bytes }))
    }

    pub(super) fn changes_of(&self, name: &str) -> &[Change] {
        self.changes.as_ref().map_or(&[], |changes| changes.of(name))
    }

    /// Bytes that a value of the tensor takes where it is stored; of one that is stored nowhere, those of the model's dtype.
    fn bytes_per_value(&self, name: &str) -> f64 {
        match &self.inner.source {
            Source::Files(checkpoint) | Source::Headers(checkpoint) => {
                checkpoint.info(name).map(|info| info.bytes as f64 / info.shape.iter().product::<usize>().max(1) as f64)
            }
            Source::Random(random) if random.blocks().is_some() => Some(1.0),
            Source::Tensors(tensors) => tensors.get(name).map(|tensor| tensor.dtype().size_in_bytes() as f64),
            Source::Random(_) | Source::Recorder => None,
        }
        .unwrap_or(self.inner.dtype.size_in_bytes() as f64)
    }

    /// Returns how the values of the matrix `name` below this view are written in its file, if it is in one.
    pub fn stored_format(&self, name: &str) -> Option<Format> {
        match &self.inner.source {
            Source::Files(checkpoint) | Source::Headers(checkpoint) => {
                checkpoint.info(&self.full(name)).map(|info| info.format)
            }
            Source::Random(random) => random.blocks().map(Format::Blocks),
            Source::Tensors(_) | Source::Recorder => None,
        }
    }
}

//! [`Embedding`]: a table whose rows are looked up in the form in which they are stored.

use candle_core::{DType, Device, Result, Tensor};
use kinora_checkpoint::{StoredMatrix, Weights};
use kinora_formats::Matrix;

/// A table of vectors `[count, C]`.
pub struct Embedding {
    table: Table,
    device: Device,
}

enum Table {
    Tensor(Tensor),
    Stored(Matrix),
}

impl Embedding {
    /// Reads the table `weight` below `weights`.
    ///
    /// # Errors
    /// A table that is missing, has another shape or holds what no weight is.
    pub fn new(weights: &Weights, count: usize, channels: usize) -> kinora_checkpoint::Result<Self> {
        let table = match weights.matrix("weight", [count, channels])? {
            Some(StoredMatrix::Matrix(matrix)) => Table::Stored(matrix),
            Some(StoredMatrix::Placeholder(zeros)) => Table::Tensor(zeros),
            None => Table::Tensor(weights.get_stored("weight", (count, channels))?),
        };
        Ok(Self { table, device: weights.device().clone() })
    }

    /// Returns the vectors of `ids`, u32 of any shape, as `[number of ids, C]`.
    ///
    /// # Errors
    /// An id that the table does not have.
    pub fn forward(&self, ids: &Tensor, dtype: DType) -> Result<Tensor> {
        let ids = ids.flatten_all()?;
        let matrix = match &self.table {
            Table::Tensor(table) => return table.index_select(&ids, 0)?.to_dtype(dtype),
            Table::Stored(matrix) => matrix,
        };
        let ids = ids.to_vec1::<u32>()?;
        let mut rows = vec![0f32; ids.len() * matrix.columns()];
        for (id, row) in ids.iter().zip(rows.chunks_exact_mut(matrix.columns().max(1))) {
            let id = *id as usize;
            if id >= matrix.rows() {
                candle_core::bail!("embedding: there is no row {id} of {}", matrix.rows());
            }
            matrix.dequantise(id, 0, row);
        }
        Tensor::from_vec(rows, (ids.len(), matrix.columns()), &self.device)?.to_dtype(dtype)
    }
}

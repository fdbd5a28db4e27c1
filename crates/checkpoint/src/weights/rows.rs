//! Rows of the tables of [`Weights`], without the rest.

use super::{Asked, Source, Weights, placeholder};
use crate::convert::Wanted;
use crate::stored::values_of;
use crate::{Error, Result};
use candle_core::{DType, Shape, Tensor};

impl Weights {
    /// Returns the rows `ids` of the table `name` below this view, which must have `shape`, as `[number of ids, shape[1]]` in
    /// `dtype`. Others are not read, unless scales or changes belong to the table.
    ///
    /// # Errors
    /// As [`Weights::get`], of these rows; an id that the table does not have.
    pub fn rows(&self, name: &str, shape: [usize; 2], ids: &[u32], dtype: DType) -> Result<Tensor> {
        let (full, wanted_shape) = (self.full(name), [ids.len(), shape[1]]);
        if let Some(id) = ids.iter().find(|id| **id as usize >= shape[0]) {
            let message = format!("`{full}` has no row {id} of {}", shape[0]);
            return Err(Error::Candle(candle_core::Error::Msg(message)));
        }
        let device = &self.inner.device;
        let rows = match &self.inner.source {
            Source::Files(checkpoint) if !self.unread && self.changes_of(&full).is_empty() => {
                match checkpoint.rows(&full, shape, ids)? {
                    Some(rows) => {
                        let wanted = Wanted { dtype, device, zeros: true };
                        Some(values_of(&full, &rows, &wanted_shape, &wanted)?)
                    }
                    None => None,
                }
            }
            Source::Random(random) if !self.unread => Some(random.get(&full, &wanted_shape, dtype, device)?),
            _ => None,
        };
        let (rows, bytes) = match rows {
            Some(rows) => (rows, ids.len() * shape[1] * dtype.size_in_bytes()),
            None if self.answers_zeros() => {
                self.get_dtype(name, (shape[0], shape[1]), dtype)?;
                (placeholder(&Shape::from(wanted_shape.to_vec()), dtype, device)?, 0)
            }
            None => {
                let ids = Tensor::new(ids, device)?;
                return Ok(self.get_dtype(name, (shape[0], shape[1]), dtype)?.index_select(&ids, 0)?);
            }
        };
        self.lock().insert(full, Asked { shape: shape.to_vec(), bytes });
        Ok(rows)
    }
}

//! [`Stored`]: a tensor of a LoRA file that is read when it is needed; [`Factor`]: a matrix made of such tensors.

use super::error::LoraError;
use crate::convert::Wanted;
use crate::file::TensorFile;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use std::path::PathBuf;
use std::sync::Arc;

/// A tensor of a LoRA file, which is read when it is needed.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) file: Arc<TensorFile>,
    pub(super) key: String,
    pub(super) shape: Vec<usize>,
}

impl Stored {
    /// The values, f32 on the CPU.
    ///
    /// # Errors
    /// NaN and infinite values, and a file that cannot be read.
    pub(super) fn read(&self) -> Result<Tensor> {
        let wanted = Wanted { dtype: DType::F32, device: &Device::Cpu, zeros: true };
        self.file.weights(&self.key, self.file.entry(&self.key)?, &self.shape, &wanted)
    }

    /// The values as a matrix, whose columns are all axes but the first.
    fn matrix(&self) -> Result<Tensor> {
        Ok(self.read()?.reshape((self.rows(), self.columns()))?)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.file.path().to_path_buf()
    }

    fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    fn columns(&self) -> usize {
        self.shape.iter().skip(1).product()
    }
}

/// A matrix: a tensor, or the product of two, perhaps with a core between them.
#[derive(Clone)]
pub(super) enum Factor {
    Whole(Stored),
    Product(Product),
}

/// `up · down`, or, with a core `[p, q, ..]` between them, Σ up\[o, p\] · core\[p, q, ..\] · down\[q, i\].
#[derive(Clone)]
pub(super) struct Product {
    pub(super) up: Stored,
    pub(super) down: Stored,
    pub(super) core: Option<Stored>,
    /// Whether `up` is stored as `[rank, out]`, as LyCORIS does beside a core: `rebuild_tucker` of
    /// <https://github.com/KohakuBlueleaf/LyCORIS/blob/v3.2.0/lycoris/functional/general.py>.
    pub(super) transposed: bool,
}

impl Factor {
    /// Rows and columns, where axes behind the second are columns.
    pub(super) fn size(&self) -> [usize; 2] {
        match self {
            Self::Whole(stored) => [stored.rows(), stored.columns()],
            Self::Product(product) => product.size(),
        }
    }

    /// The values.
    pub(super) fn matrix(&self) -> Result<Tensor> {
        match self {
            Self::Whole(stored) => stored.matrix(),
            Self::Product(product) => {
                let (down, up) = product.pair()?;
                Ok(up.matmul(&down)?)
            }
        }
    }

    /// The inner size of a product.
    pub(super) fn rank(&self) -> Option<usize> {
        match self {
            Self::Whole(_) => None,
            Self::Product(product) => Some(product.down.rows()),
        }
    }

    /// The key to name in messages.
    pub(super) fn key(&self) -> &Stored {
        match self {
            Self::Whole(stored) => stored,
            Self::Product(product) => &product.down,
        }
    }

    /// All tensors.
    pub(super) fn stored(&self) -> Vec<&Stored> {
        match self {
            Self::Whole(stored) => vec![stored],
            Self::Product(product) => [&product.down, &product.up].into_iter().chain(&product.core).collect(),
        }
    }
}

impl Product {
    /// Checks that the factors fit each other.
    pub(super) fn checked(self) -> Result<Self> {
        let inner = if self.transposed { self.up.rows() } else { self.up.columns() };
        let differ = |first: &Stored, second: &Stored| {
            Err(Error::from(LoraError::Rank {
                path: first.path(),
                first: first.key.clone(),
                first_shape: first.shape.clone(),
                second: second.key.clone(),
                second_shape: second.shape.clone(),
            }))
        };
        match &self.core {
            None if inner != self.down.rows() => differ(&self.down, &self.up),
            Some(core) if core.shape.len() < 2 || core.shape[0] != inner => differ(core, &self.up),
            Some(core) if core.shape[1] != self.down.rows() => differ(core, &self.down),
            _ => Ok(self),
        }
    }

    fn size(&self) -> [usize; 2] {
        let rows = if self.transposed { self.up.columns() } else { self.up.rows() };
        let taps: usize = self.core.iter().flat_map(|core| core.shape.iter().skip(2)).product();
        [rows, self.down.columns().saturating_mul(taps)]
    }

    /// `(down [r, columns], up [rows, r])`, f32; a core is part of `down`.
    pub(super) fn pair(&self) -> Result<(Tensor, Tensor)> {
        let up = self.up.matrix()?;
        let up = if self.transposed { up.t()?.contiguous()? } else { up };
        let down = self.down.matrix()?;
        let Some(core) = &self.core else { return Ok((down, up)) };
        let (outer, inner) = (core.shape[0], core.shape[1]);
        let taps: usize = core.shape.iter().skip(2).product();
        let columns = self.down.columns();
        let core = core.read()?.reshape((outer, inner, taps))?.permute((0, 2, 1))?.contiguous()?;
        let down = core.reshape((outer * taps, inner))?.matmul(&down)?;
        let down = down.reshape((outer, taps, columns))?.permute((0, 2, 1))?.contiguous()?;
        Ok((down.reshape((outer, columns * taps))?, up))
    }
}

//! The timestep's embedding, and the shifts, scales and gates made from it.

use super::WanConfig;
use crate::timesteps::{Rows, distinct};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{Epilogue, silu};
use kinora_nn::{Linear, timestep_embedding};

/// `time_embedding` and `time_projection`.
pub(super) struct TimeEmbedding {
    freq_dim: usize,
    first: Linear,
    second: Linear,
    projection: Linear,
    dtype: DType,
}

impl TimeEmbedding {
    pub(super) fn new(config: &WanConfig, weights: &Weights) -> Result<Self> {
        let (dim, freq_dim) = (config.dim(), config.freq_dim);
        let mlp = weights.pp("time_embedding");
        Ok(Self {
            freq_dim,
            first: Linear::with_dtype(&mlp.pp(0), freq_dim, dim, DType::F32)?,
            second: Linear::with_dtype(&mlp.pp(2), dim, dim, DType::F32)?,
            projection: Linear::new(&weights.pp("time_projection").pp(1), dim, 6 * dim)?,
            dtype: weights.dtype(),
        })
    }

    /// Embeds `timestep [B]` or `[B, L]`, f32, on the model's `device`: in f32 up to the embedding, in the model's dtype
    /// from there.
    pub(super) fn forward(&self, timestep: &Tensor, device: &Device) -> Result<Time> {
        let (timestep, rows) = distinct(timestep, device)?;
        let embedding = timestep_embedding(&timestep, self.freq_dim)?; // [U, freq_dim]
        let embedding =
            self.second.forward(&self.first.forward_then(&embedding, Epilogue::Silu)?)?.to_dtype(self.dtype)?;
        let projection = self.projection.forward(&silu(&embedding)?)?; // [U, 6 · dim]
        let (u, width) = projection.dims2()?;
        Ok(Time {
            embedding: embedding.to_dtype(DType::F32)?.unsqueeze(1)?, // [U, 1, dim]
            projection: projection.to_dtype(DType::F32)?.reshape((u, 6, width / 6))?,
            rows,
        })
    }
}

/// The embedded timesteps of one forward pass, f32, with one row per distinct timestep.
pub(super) struct Time {
    /// `[U, 1, dim]`, for the head.
    embedding: Tensor,
    /// `[U, 6, dim]`, for the blocks.
    projection: Tensor,
    rows: Rows,
}

impl Time {
    /// Returns other embedded timesteps of the same clips or tokens: `embedding [U, 1, dim]`, `projection [U, 6, dim]`.
    pub(super) fn with(&self, embedding: Tensor, projection: Tensor) -> Self {
        Self { embedding, projection, rows: self.rows.clone() }
    }

    /// Whether all tokens of a clip have the same timestep.
    pub(super) fn is_per_clip(&self) -> bool {
        self.rows.is_per_clip()
    }

    /// Returns the embedded timesteps `[U, 1, dim]`, f32.
    pub(super) fn embedding(&self) -> &Tensor {
        &self.embedding
    }

    /// Returns their projections `[U, 6, dim]`, f32.
    pub(super) fn projection(&self) -> &Tensor {
        &self.projection
    }

    /// Returns the modulation of a block's self-attention and of its feed-forward layer; `table [1, 6, dim]` f32.
    pub(super) fn for_block(&self, table: &Tensor) -> Result<[Modulation<'_>; 2]> {
        let all = self.projection.broadcast_add(table)?;
        let layer = |first| Ok::<_, Error>(Modulation { table: all.narrow(1, first, 3)?, rows: &self.rows });
        Ok([layer(0)?, layer(3)?])
    }

    /// Returns shift and scale before the head's projection, f32 `[B, 1|L, dim]`; `table [1, 2, dim]` f32.
    pub(super) fn for_head(&self, table: &Tensor) -> Result<[Tensor; 2]> {
        // One by one: adding tensors of equal shapes copies no strides to a GPU, so that the pass can be recorded.
        let part = |index| self.rows.spread(&self.embedding.broadcast_add(&table.narrow(1, index, 1)?)?);
        Ok([part(0)?, part(1)?])
    }
}

/// The shift and scale before a layer and the gate after it, each f32 `[B, 1|L, dim]`. Each is made when it is asked for,
/// because with timesteps per token it is as large as the tokens themselves.
pub(super) struct Modulation<'a> {
    /// `[U, 3, dim]`.
    table: Tensor,
    rows: &'a Rows,
}

impl Modulation<'_> {
    pub(super) fn shift(&self) -> Result<Tensor> {
        self.rows.spread(&self.table.narrow(1, 0, 1)?)
    }

    pub(super) fn scale(&self) -> Result<Tensor> {
        self.rows.spread(&self.table.narrow(1, 1, 1)?)
    }

    pub(super) fn gate(&self) -> Result<Tensor> {
        self.rows.spread(&self.table.narrow(1, 2, 1)?)
    }
}

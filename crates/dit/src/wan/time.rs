//! The timestep's embedding, and the shifts, scales and gates made from it.

use super::WanConfig;
use crate::{Error, Result};
use candle_core::{D, DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{Epilogue, silu};
use kinora_nn::{Linear, timestep_embedding};
use std::collections::HashMap;

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
        matches!(self.rows, Rows::PerClip)
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

/// Says which of the distinct timesteps each clip or token has.
#[derive(Clone)]
enum Rows {
    /// One timestep per clip, in order.
    PerClip,
    /// Indices `[B · L]` into the distinct timesteps.
    PerToken { indices: Tensor, clips: usize },
}

impl Rows {
    /// `[U, 1, dim]` → `[B, 1|L, dim]`.
    fn spread(&self, values: &Tensor) -> Result<Tensor> {
        match self {
            Self::PerClip => Ok(values.contiguous()?),
            Self::PerToken { indices, clips } => {
                let (tokens, dim) = (indices.elem_count() / clips, values.dim(D::Minus1)?);
                Ok(values.squeeze(1)?.contiguous()?.index_select(indices, 0)?.reshape((*clips, tokens, dim))?)
            }
        }
    }
}

/// Returns the timesteps to embed. One per token would make tables as large as the clip, so a timestep that tokens share,
/// as the tokens of a frame do, is embedded once.
fn distinct(timestep: &Tensor, device: &Device) -> Result<(Tensor, Rows)> {
    match timestep.rank() {
        1 => Ok((timestep.to_device(device)?.to_dtype(DType::F32)?, Rows::PerClip)),
        2 => distinct_of_tokens(timestep, device),
        _ => {
            let (what, found) = ("timestep", timestep.dims().to_vec());
            Err(Error::Shape { what, found, expected: "one per clip or one per token".to_string() })
        }
    }
}

fn distinct_of_tokens(timestep: &Tensor, device: &Device) -> Result<(Tensor, Rows)> {
    let per_clip = timestep.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let uniform = |tokens: &Vec<f32>| tokens.iter().all(|t| t.to_bits() == tokens[0].to_bits());
    if per_clip.iter().all(uniform) {
        let first: Vec<f32> = per_clip.iter().filter_map(|tokens| tokens.first().copied()).collect();
        return Ok((Tensor::new(first, device)?, Rows::PerClip));
    }
    let (mut values, mut places) = (Vec::new(), HashMap::new());
    let mut place = |t: f32| {
        *places.entry(t.to_bits()).or_insert_with(|| {
            values.push(t);
            values.len() as u32 - 1
        })
    };
    let indices: Vec<u32> = per_clip.iter().flatten().map(|t| place(*t)).collect();
    let rows = Rows::PerToken { indices: Tensor::new(indices, device)?, clips: per_clip.len() };
    Ok((Tensor::new(values, device)?, rows))
}

//! The timesteps' embeddings, and the shifts, scales and gates made from them.

use super::config::{LtxConfig, TextModulation};
use super::stream::Stream;
use crate::Result;
use crate::timesteps::{Rows, distinct};
use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{Epilogue, silu};
use kinora_nn::{Linear, timestep_embedding};

/// Width of the sinusoidal embedding, in every released model.
const FREQ_DIM: usize = 256;
/// Shift and scale of a stream in the attention of video to sound, and in that of sound to video.
const BETWEEN: usize = 4;

/// The tensors of a [`Time`].
pub(super) const TIMES: usize = 5;

/// The embeddings of one stream.
pub(super) struct TimeEmbedding {
    own: Embedding,
    /// Shift and scale of the text's keys and values, where they depend on the timestep.
    text: Option<Embedding>,
    between: Embedding,
    gate: Embedding,
    gate_multiplier: f64,
    /// Whether the attention to the other stream is modulated by the other stream's timestep.
    of_other: bool,
}

impl TimeEmbedding {
    pub(super) fn new(config: &LtxConfig, stream: Stream, weights: &Weights) -> Result<Self> {
        let dim = stream.config(config).dim();
        let embedding = |name: String, rows| Embedding::new(&weights.pp(name), dim, rows);
        let text = || embedding(stream.name("prompt_adaln_single"), 2);
        let gate = match stream {
            Stream::Video => "a2v",
            Stream::Audio => "v2a",
        };
        Ok(Self {
            own: embedding(stream.name("adaln_single"), config.modulations())?,
            text: (config.text_modulation == TextModulation::All).then(text).transpose()?,
            between: embedding(format!("av_ca_{}_scale_shift_adaln_single", stream.kind()), BETWEEN)?,
            gate: embedding(format!("av_ca_{gate}_gate_adaln_single"), 1)?,
            gate_multiplier: config.gate_multiplier,
            of_other: config.cross_timestep,
        })
    }

    /// Embeds `timestep [B]`, or `tokens [B, L]` where tokens have their own, and that of the other stream, `other [B]`, f32,
    /// on the model's `device`.
    pub(super) fn forward(
        &self,
        timestep: &Tensor,
        tokens: Option<&Tensor>,
        other: &Tensor,
        device: &Device,
    ) -> Result<Time> {
        let (own, rows) = distinct(tokens.unwrap_or(timestep), device)?;
        let (between, between_rows) =
            if self.of_other { distinct(other, device)? } else { (own.clone(), rows.clone()) };
        let (embedding, own) = self.own.forward(&own)?;
        let of_text = |text: &Embedding| Ok::<_, crate::Error>(text.forward(&distinct(timestep, device)?.0)?.1);
        Ok(Time {
            embedding,
            own,
            text: self.text.as_ref().map(of_text).transpose()?,
            gate: self.gate.forward(&(&between * self.gate_multiplier)?)?.1,
            between: self.between.forward(&between)?.1,
            rows,
            between_rows,
        })
    }
}

/// A table of shifts, scales and gates for each timestep (`AdaLayerNormSingle`).
struct Embedding {
    first: Linear,
    second: Linear,
    projection: Linear,
    rows: usize,
    dtype: DType,
}

impl Embedding {
    fn new(weights: &Weights, dim: usize, rows: usize) -> Result<Self> {
        let mlp = weights.pp("emb").pp("timestep_embedder");
        Ok(Self {
            first: Linear::with_dtype(&mlp.pp("linear_1"), FREQ_DIM, dim, DType::F32)?,
            second: Linear::with_dtype(&mlp.pp("linear_2"), dim, dim, DType::F32)?,
            projection: Linear::new(&weights.pp("linear"), dim, rows * dim)?,
            rows,
            dtype: weights.dtype(),
        })
    }

    /// `timestep [U]`, f32 → the embedding `[U, 1, dim]` and the table `[U, rows, dim]`, both f32: computed in f32 up to the
    /// embedding, in the model's dtype from there.
    fn forward(&self, timestep: &Tensor) -> Result<(Tensor, Tensor)> {
        let embedding = timestep_embedding(timestep, FREQ_DIM)?; // [U, FREQ_DIM]
        let embedding = self.second.forward(&self.first.forward_then(&embedding, Epilogue::Silu)?)?;
        let embedding = embedding.to_dtype(self.dtype)?;
        let table = self.projection.forward(&silu(&embedding)?)?.to_dtype(DType::F32)?; // [U, rows · dim]
        let (u, width) = table.dims2()?;
        let table = table.reshape((u, self.rows, width / self.rows))?;
        Ok((embedding.to_dtype(DType::F32)?.unsqueeze(1)?, table))
    }
}

/// The embedded timesteps of one stream in one pass, f32, with one row per distinct timestep.
pub(super) struct Time {
    /// `[U, 1, dim]`, for the head.
    embedding: Tensor,
    /// `[U, 6, dim]` or `[U, 9, dim]`, for the blocks.
    own: Tensor,
    /// `[B, 2, dim]`, for the text's keys and values.
    text: Option<Tensor>,
    /// `[V, 4, dim]` and `[V, 1, dim]`, for the attention between the streams.
    between: Tensor,
    gate: Tensor,
    rows: Rows,
    between_rows: Rows,
}

impl Time {
    /// Returns all tensors; that of the text may be another.
    pub(super) fn tensors(&self) -> [Tensor; TIMES] {
        let text = self.text.as_ref().unwrap_or(&self.gate);
        [&self.embedding, &self.own, text, &self.between, &self.gate].map(Tensor::clone)
    }

    /// Returns other embedded timesteps of the same clips or tokens, from such tensors.
    pub(super) fn with(&self, [embedding, own, text, between, gate]: [Tensor; TIMES]) -> Self {
        let text = self.text.as_ref().map(|_| text);
        let (rows, between_rows) = (self.rows.clone(), self.between_rows.clone());
        Self { embedding, own, text, between, gate, rows, between_rows }
    }

    /// Whether all tokens of a clip have the same timestep.
    pub(super) fn is_per_clip(&self) -> bool {
        self.rows.is_per_clip()
    }

    /// Returns the embedded timesteps `[U, 1, dim]`, f32.
    pub(super) fn embedding(&self) -> &Tensor {
        &self.embedding
    }

    /// Returns the modulation of a block; `table [1, 6|9, dim]` f32.
    pub(super) fn for_block(&self, table: &Tensor) -> Result<Modulation<'_>> {
        Ok(Modulation { table: self.own.broadcast_add(table)?, rows: &self.rows })
    }

    /// Returns the modulation of the attention between the streams, of which the last row is the gate's; `table [1, 5, dim]` f32.
    pub(super) fn for_exchange(&self, table: &Tensor) -> Result<Modulation<'_>> {
        let rows = [&self.between, &self.gate];
        Ok(Modulation { table: Tensor::cat(&rows, 1)?.broadcast_add(table)?, rows: &self.between_rows })
    }

    /// Returns shift and scale of the text's keys and values, f32 `[B, 2, dim]`, where they depend on the timestep.
    pub(super) fn for_text(&self) -> Option<&Tensor> {
        self.text.as_ref()
    }

    /// Returns shift and scale before the head's projection, f32 `[B, 1|L, dim]`; `table [1, 2, dim]` f32.
    pub(super) fn for_head(&self, table: &Tensor) -> Result<[Tensor; 2]> {
        // One by one: adding tensors of equal shapes copies no strides to a GPU, so that the pass can be recorded.
        let part = |index| self.rows.spread(&self.embedding.broadcast_add(&table.narrow(1, index, 1)?)?);
        Ok([part(0)?, part(1)?])
    }
}

/// Shifts, scales and gates. Each is made when it is asked for, because with timesteps per token it is as large as the tokens
/// themselves.
pub(super) struct Modulation<'a> {
    /// `[U, rows, dim]`.
    table: Tensor,
    rows: &'a Rows,
}

impl Modulation<'_> {
    /// Returns one row, f32 `[B, 1|L, dim]`.
    pub(super) fn row(&self, index: usize) -> Result<Tensor> {
        self.rows.spread(&self.table.narrow(1, index, 1)?)
    }
}

//! Timesteps per clip or per token, each embedded once.

use crate::{Error, Result};
use candle_core::{D, DType, Device, Tensor};
use std::collections::HashMap;

/// Says which of the distinct timesteps each clip or token has.
#[derive(Clone)]
pub(crate) enum Rows {
    /// One timestep per clip, in order.
    PerClip,
    /// Indices `[B · L]` into the distinct timesteps.
    PerToken { indices: Tensor, clips: usize },
}

impl Rows {
    /// Whether all tokens of a clip have the same timestep.
    pub(crate) fn is_per_clip(&self) -> bool {
        matches!(self, Self::PerClip)
    }

    /// `[U, 1, dim]` → `[B, 1|L, dim]`.
    pub(crate) fn spread(&self, values: &Tensor) -> Result<Tensor> {
        match self {
            Self::PerClip => Ok(values.contiguous()?),
            Self::PerToken { indices, clips } => {
                let (tokens, dim) = (indices.elem_count() / clips, values.dim(D::Minus1)?);
                Ok(values.squeeze(1)?.contiguous()?.index_select(indices, 0)?.reshape((*clips, tokens, dim))?)
            }
        }
    }
}

/// Returns the timesteps to embed, f32 `[U]` on `device`, of `timestep [B]` or `[B, L]`. One per token would make tables as
/// large as the clip, so a timestep that tokens share, as the tokens of a frame do, is embedded once.
pub(crate) fn distinct(timestep: &Tensor, device: &Device) -> Result<(Tensor, Rows)> {
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

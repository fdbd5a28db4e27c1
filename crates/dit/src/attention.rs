//! What the attentions of all families share: the kernels that a quantised model takes, and the split into heads.

use crate::Result;
use candle_core::Tensor;
use kinora_checkpoint::Quant;
use kinora_kernels::{BlockMask, Choice, attention, attention_fp8, attention_int8};
use kinora_kernels::{attention_blocks, attention_int8_blocks, choose_blocks};

/// [`attention`], or the version that quantises its operands as the linear layers do.
type Dense = fn(&Tensor, &Tensor, &Tensor, f64, Option<&Tensor>) -> candle_core::Result<Tensor>;

/// The same between blocks that were chosen.
type Sparse = fn(&Tensor, &Tensor, &Tensor, f64, &BlockMask) -> candle_core::Result<Tensor>;

/// The attention between heads of one width, in the arithmetic of the model's linear layers.
pub(crate) struct Kernels {
    dense: Dense,
    sparse: Sparse,
    scale: f64,
}

impl Kernels {
    /// Chooses the kernels for layers quantised to `quant`, and heads of `head_dim`.
    pub(crate) fn new(quant: Option<Quant>, head_dim: usize) -> Self {
        Self {
            dense: match quant {
                None => attention,
                Some(Quant::Int8) => attention_int8,
                Some(Quant::Fp8) => attention_fp8,
            },
            sparse: match quant {
                None | Some(Quant::Fp8) => attention_blocks,
                Some(Quant::Int8) => attention_int8_blocks,
            },
            scale: (head_dim as f64).sqrt().recip(),
        }
    }

    /// Attends from each of `q [B, L, N, D]` to all of `k v [B, S, N, D]` → `[B, L, N, D]`.
    pub(crate) fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        Ok((self.dense)(q, k, v, self.scale, bias)?)
    }

    /// Attends between `q k v [B, L, N, D]` of the same tokens: between the blocks of `choice`, if it is sparse.
    pub(crate) fn attend_to_itself(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        choice: Option<Choice>,
    ) -> Result<Tensor> {
        let Some(choice) = choice else { return self.attend(q, k, v, None) };
        let mask = choose_blocks(q, k, self.scale, &choice)?;
        Ok((self.sparse)(q, k, v, self.scale, &mask)?)
    }
}

/// Keys and values of one attention, `[B, S, N, D]`.
#[derive(Clone)]
pub(crate) struct KeysValues {
    pub(crate) keys: Tensor,
    pub(crate) values: Tensor,
}

/// `[B, L, dim]` → `[B, L, N, D]`.
pub(crate) fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, l, dim) = x.dims3()?;
    Ok(x.reshape((b, l, heads, dim / heads))?)
}

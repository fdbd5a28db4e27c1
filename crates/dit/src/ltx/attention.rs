//! One attention of a block: to its own stream, to a text, or to the other stream.

use super::positions::Rope;
use crate::Result;
use crate::attention::{Kernels, KeysValues, split_heads};
use candle_core::Tensor;
use kinora_checkpoint::Weights;
use kinora_kernels::{Choice, Prologue, gate_heads};
use kinora_nn::{Linear, RmsNorm};

/// Multi-head attention; queries and keys are normalised over all heads together, before the split. Its output goes through
/// `o`, which the block applies together with the residual.
pub(super) struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    pub(super) o: Linear,
    /// One gate per head, made of the queries' tokens, where attentions are gated.
    gate: Option<Linear>,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    heads: usize,
    kernels: Kernels,
}

/// The widths of an attention.
pub(super) struct Widths {
    /// Width of the tokens that queries are made of, and of the result.
    pub(super) queries: usize,
    /// Width of the tokens that keys and values are made of.
    pub(super) keys: usize,
    pub(super) heads: usize,
    pub(super) head_dim: usize,
}

/// Queries `[B, L, N, D]`, and the gates `[B, L, N]` of what is attended to from them.
pub(super) struct Queries {
    queries: Tensor,
    gates: Option<Tensor>,
}

impl Attention {
    pub(super) fn new(widths: &Widths, gated: bool, eps: f64, weights: &Weights) -> Result<Self> {
        let &Widths { queries, keys, heads, head_dim } = widths;
        let inner = heads * head_dim;
        let linear = |name: &str, inputs, outputs| Linear::new(&weights.pp(name), inputs, outputs);
        let norm = |name: &str| RmsNorm::new(&weights.pp(name), inner, eps);
        Ok(Self {
            q: linear("to_q", queries, inner)?,
            k: linear("to_k", keys, inner)?,
            v: linear("to_v", keys, inner)?,
            o: Linear::new(&weights.pp("to_out").pp(0), inner, queries)?,
            gate: gated.then(|| linear("to_gate_logits", queries, heads)).transpose()?,
            norm_q: norm("q_norm")?,
            norm_k: norm("k_norm")?,
            heads,
            kernels: Kernels::new(weights.quant(), head_dim),
        })
    }

    /// Computes the self-attention of the norm of `x [B, L, dim]`, with rotary positions → `[B, L, N·D]`; between the blocks of
    /// `choice`, if it is sparse.
    pub(super) fn to_itself(&self, x: &Tensor, norm: Prologue, rope: &Rope, choice: Option<Choice>) -> Result<Tensor> {
        let mut parts = match &self.gate {
            Some(gate) => Linear::forward_each([&self.q, &self.k, &self.v, gate], x, norm)?,
            None => Linear::forward_each([&self.q, &self.k, &self.v], x, norm)?,
        };
        let gates = parts.split_off(3).pop();
        let part = |index: usize| split_heads(&parts[index], self.heads);
        let v = part(2)?;
        let (q, k) = (rope.normed(&part(0)?, &self.norm_q)?, rope.normed(&part(1)?, &self.norm_k)?);
        drop(parts);
        gated(&self.kernels.attend_to_itself(&q, &k, &v, choice)?, gates.as_ref())
    }

    /// Computes the values of the norm of `x [B, L, dim]`, gated, in place of the self-attention → `[B, L, N·D]`.
    pub(super) fn values_alone(&self, x: &Tensor, norm: Prologue) -> Result<Tensor> {
        let mut parts = match &self.gate {
            Some(gate) => Linear::forward_each([&self.v, gate], x, norm)?,
            None => Linear::forward_each([&self.v], x, norm)?,
        };
        let gates = parts.split_off(1).pop();
        gated(&split_heads(&parts[0], self.heads)?, gates.as_ref())
    }

    /// Computes queries and gates of the norm of `x [B, L, dim]`, with rotary positions if there are any.
    pub(super) fn queries(&self, x: &Tensor, norm: Prologue, rope: Option<&Rope>) -> Result<Queries> {
        let mut parts = match &self.gate {
            Some(gate) => Linear::forward_each([&self.q, gate], x, norm)?,
            None => Linear::forward_each([&self.q], x, norm)?,
        };
        let gates = parts.split_off(1).pop();
        Ok(Queries { queries: self.normed(&parts[0], &self.norm_q, rope)?, gates })
    }

    /// Computes keys and values of the norm of `x [B, S, dim]`, keys with rotary positions if there are any.
    pub(super) fn keys_values(&self, x: &Tensor, norm: Prologue, rope: Option<&Rope>) -> Result<KeysValues> {
        let parts = Linear::forward_each([&self.k, &self.v], x, norm)?;
        let keys = self.normed(&parts[0], &self.norm_k, rope)?;
        Ok(KeysValues { keys, values: split_heads(&parts[1], self.heads)? })
    }

    /// Attends from all queries to all keys → `[B, L, N·D]`.
    pub(super) fn attend(&self, from: &Queries, to: &KeysValues) -> Result<Tensor> {
        gated(&self.kernels.attend(&from.queries, &to.keys, &to.values, None)?, from.gates.as_ref())
    }

    /// `x [B, L, N·D]` → `[B, L, N, D]`, normalised over all heads.
    fn normed(&self, x: &Tensor, norm: &RmsNorm, rope: Option<&Rope>) -> Result<Tensor> {
        match rope {
            Some(rope) => Ok(rope.normed(&split_heads(x, self.heads)?, norm)?),
            None => split_heads(&norm.forward(x)?, self.heads),
        }
    }
}

/// `y [B, L, N, D]` → `[B, L, N·D]`.
fn gated(y: &Tensor, gates: Option<&Tensor>) -> Result<Tensor> {
    match gates {
        Some(gates) => Ok(gate_heads(y, gates)?.flatten_from(2)?),
        None => Ok(y.flatten_from(2)?),
    }
}

//! One transformer block: self-attention, cross-attention to the text, feed-forward.

use super::WanConfig;
use super::rope::Rope;
use super::time::{Modulation, Time};
use crate::{KeysValues, Result};
use candle_core::{DType, Tensor};
use kinora_checkpoint::{Quant, Weights};
use kinora_kernels::{Epilogue, attention, attention_int8, layer_norm_modulate};
use kinora_nn::{LayerNorm, Linear, RmsNorm};

/// `blocks.N`.
pub(super) struct Block {
    modulation: Tensor,
    self_attention: Attention,
    cross_norm: Option<LayerNorm>,
    cross_attention: Attention,
    feed_forward: FeedForward,
    eps: f64,
}

impl Block {
    pub(super) fn new(config: &WanConfig, weights: &Weights) -> Result<Self> {
        let (dim, eps) = (config.dim(), config.eps);
        let cross_norm = config.cross_attn_norm.then(|| LayerNorm::affine(&weights.pp("norm3"), dim, eps));
        Ok(Self {
            modulation: weights.get_dtype("modulation", (1, 6, dim), DType::F32)?,
            self_attention: Attention::new(config, &weights.pp("self_attn"))?,
            cross_norm: cross_norm.transpose()?,
            cross_attention: Attention::new(config, &weights.pp("cross_attn"))?,
            feed_forward: FeedForward::new(config, &weights.pp("ffn"))?,
            eps,
        })
    }

    /// `x [B, L, dim]` → the same; `text_bias` is added to the scores of the text's rows.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        time: &Time,
        rope: &Rope,
        text: &KeysValues,
        text_bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let [attention, feed_forward] = time.for_block(&self.modulation)?;
        let y = self.self_attention.to_itself(&norm_modulate(x, &attention, self.eps)?, rope)?;
        let x = self.self_attention.o.forward_then(&y, Epilogue::GatedResidual { x, gate: &attention.gate()? })?;
        let y = match &self.cross_norm {
            Some(norm) => self.cross_attention.to_text(&norm.forward(&x)?, text, text_bias)?,
            None => self.cross_attention.to_text(&x, text, text_bias)?,
        };
        let x = self.cross_attention.o.forward_then(&y, Epilogue::Residual(&x))?;
        let y =
            self.feed_forward.first.forward_then(&norm_modulate(&x, &feed_forward, self.eps)?, Epilogue::GeluTanh)?;
        let gate = &feed_forward.gate()?;
        Ok(self.feed_forward.second.forward_then(&y, Epilogue::GatedResidual { x: &x, gate })?)
    }

    /// Keys and values of the cross-attention; `context [B, S, dim]` is the embedded text.
    pub(super) fn text_keys_values(&self, context: &Tensor) -> Result<KeysValues> {
        self.cross_attention.keys_values(context)
    }
}

/// Layer norm without parameters, then shift and scale, rounded to `x`'s dtype once, at the end.
pub(super) fn norm_modulate(x: &Tensor, modulation: &Modulation, eps: f64) -> Result<Tensor> {
    Ok(layer_norm_modulate(x, &modulation.shift()?, &modulation.scale()?, eps)?)
}

/// Multi-head attention; queries and keys are normalised over all heads together, before the split. Its output goes
/// through `o`, which [`Block`] applies together with the residual.
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    heads: usize,
    scale: f64,
    kernel: AttentionKernel,
}

/// [`attention`], or what rounds for it as its linear layers do.
type AttentionKernel = fn(&Tensor, &Tensor, &Tensor, f64, Option<&Tensor>) -> candle_core::Result<Tensor>;

impl Attention {
    fn new(config: &WanConfig, weights: &Weights) -> Result<Self> {
        let dim = config.dim();
        let square = |name: &str| Linear::new(&weights.pp(name), dim, dim);
        let norm = |name: &str| RmsNorm::new(&weights.pp(name), dim, config.eps);
        Ok(Self {
            q: square("q")?,
            k: square("k")?,
            v: square("v")?,
            o: square("o")?,
            norm_q: norm("norm_q")?,
            norm_k: norm("norm_k")?,
            heads: config.num_heads,
            scale: (config.head_dim as f64).sqrt().recip(),
            kernel: match weights.quant() {
                None => attention,
                Some(Quant::Int8) => attention_int8,
            },
        })
    }

    /// Self-attention of `x [B, L, dim]`, positions rotated in.
    fn to_itself(&self, x: &Tensor, rope: &Rope) -> Result<Tensor> {
        let part = |linear: &Linear| self.split_heads(&linear.forward(x)?);
        let (q, k) = (rope.normed(&part(&self.q)?, &self.norm_q)?, rope.normed(&part(&self.k)?, &self.norm_k)?);
        self.attend(&q, &k, &part(&self.v)?, None)
    }

    /// Cross-attention of `x [B, L, dim]`; every row of the text counts, its padding too.
    fn to_text(&self, x: &Tensor, text: &KeysValues, bias: Option<&Tensor>) -> Result<Tensor> {
        let q = self.split_heads(&self.norm_q.forward(&self.q.forward(x)?)?)?;
        self.attend(&q, &text.keys, &text.values, bias)
    }

    /// Of the text.
    fn keys_values(&self, x: &Tensor) -> Result<KeysValues> {
        let keys = self.split_heads(&self.norm_k.forward(&self.k.forward(x)?)?)?;
        Ok(KeysValues { keys, values: self.split_heads(&self.v.forward(x)?)? })
    }

    /// `q [B, L, N, D]`, `k v [B, S, N, D]` → `[B, L, dim]`.
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        Ok((self.kernel)(q, k, v, self.scale, bias)?.flatten_from(2)?)
    }

    /// `[B, L, dim]` → `[B, L, N, D]`.
    fn split_heads(&self, x: &Tensor) -> Result<Tensor> {
        let (b, l, dim) = x.dims3()?;
        Ok(x.reshape((b, l, self.heads, dim / self.heads))?)
    }
}

/// Two linear layers, with a tanh GELU between them.
struct FeedForward {
    first: Linear,
    second: Linear,
}

impl FeedForward {
    fn new(config: &WanConfig, weights: &Weights) -> Result<Self> {
        let (dim, inner) = (config.dim(), config.ffn_dim);
        let first = Linear::new(&weights.pp(0), dim, inner)?;
        Ok(Self { first, second: Linear::new(&weights.pp(2), inner, dim)? })
    }
}

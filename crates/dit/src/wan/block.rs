//! One transformer block: self-attention, cross-attention to the text and to pictures, feed-forward.

use super::WanConfig;
use super::positions::Positions;
use super::prepared::{CrossKeysValues, Prepared};
use super::time::Time;
use crate::Result;
use crate::attention::{Kernels, KeysValues, split_heads};
use candle_core::{DType, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{Choice, Epilogue, Prologue};
use kinora_nn::{LayerNorm, Linear, RmsNorm};

/// The inputs that all blocks of one pass share.
pub(super) struct Pass<'a> {
    pub(super) time: &'a Time,
    pub(super) positions: &'a Positions,
    /// How blocks are chosen, where the self-attention is sparse.
    pub(super) choice: Option<Choice>,
    pub(super) prepared: &'a Prepared,
}

/// `blocks.N`.
pub(super) struct Block {
    modulation: Tensor,
    self_attention: Attention,
    cross_norm: Option<LayerNorm>,
    cross_attention: Attention,
    image_attention: Option<ImageAttention>,
    feed_forward: FeedForward,
    eps: f64,
}

impl Block {
    pub(super) fn new(config: &WanConfig, weights: &Weights) -> Result<Self> {
        let (dim, eps) = (config.dim(), config.eps);
        let cross_norm = config.cross_attn_norm.then(|| LayerNorm::affine(&weights.pp("norm3"), dim, eps));
        let image = config.image_dim.map(|_| ImageAttention::new(config, &weights.pp("cross_attn")));
        Ok(Self {
            modulation: weights.get_dtype("modulation", (1, 6, dim), DType::F32)?,
            self_attention: Attention::new(config, &weights.pp("self_attn"))?,
            cross_norm: cross_norm.transpose()?,
            cross_attention: Attention::new(config, &weights.pp("cross_attn"))?,
            image_attention: image.transpose()?,
            feed_forward: FeedForward::new(config, &weights.pp("ffn"))?,
            eps,
        })
    }

    /// `x [B, L, dim]` → the same shape; `index` is the block's place in the KV cache; the first is never sparse.
    pub(super) fn forward(&self, x: &Tensor, pass: &Pass, index: usize) -> Result<Tensor> {
        let [attention, feed_forward] = pass.time.for_block(&self.modulation)?;
        let (shift, scale) = (attention.shift()?, attention.scale()?);
        let choice = pass.choice.filter(|_| index > 0);
        let y = self.self_attention.to_itself(x, modulated(&shift, &scale, self.eps), pass.positions, choice)?;
        let x = self.self_attention.o.forward_then(&y, Epilogue::GatedResidual { x, gate: &attention.gate()? })?;
        let y = self.cross(&x, pass.prepared, index)?;
        let x = self.cross_attention.o.forward_then(&y, Epilogue::Residual(&x))?;
        let (shift, scale, gate) = (feed_forward.shift()?, feed_forward.scale()?, &feed_forward.gate()?);
        let FeedForward { first, second } = &self.feed_forward;
        let norm = modulated(&shift, &scale, self.eps);
        Ok(Linear::mlp([first, second], &x, norm, Epilogue::GatedResidual { x: &x, gate })?)
    }

    /// Computes the cross-attention of `x [B, L, dim]`, without its output projection.
    fn cross(&self, x: &Tensor, prepared: &Prepared, index: usize) -> Result<Tensor> {
        let norm = self.cross_norm.as_ref().map_or(Prologue::None, LayerNorm::prologue);
        let keys_values = || self.cross_keys_values(&prepared.context, prepared.image.as_ref());
        let keys_values = prepared.kv_cache.get(index, keys_values)?;
        self.cross_attention.to_others(x, norm, &keys_values, prepared.bias.as_ref())
    }

    /// Computes keys and values of the cross-attention; `context [B, S, dim]` is the embedded text, `image [B, T, dim]`
    /// are the embedded pictures.
    pub(super) fn cross_keys_values(&self, context: &Tensor, image: Option<&Tensor>) -> Result<CrossKeysValues> {
        let text = self.cross_attention.keys_values(context)?;
        let image = match (&self.image_attention, image) {
            (Some(attention), Some(image)) => Some(attention.keys_values(image)?),
            _ => None,
        };
        Ok(CrossKeysValues { text, image })
    }
}

/// Layer norm without parameters, then shift and scale; the result is rounded to the input's dtype once, at the end.
pub(super) fn modulated<'a>(shift: &'a Tensor, scale: &'a Tensor, eps: f64) -> Prologue<'a> {
    Prologue::LayerNormModulate { shift, scale, eps }
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
    kernels: Kernels,
}

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
            kernels: Kernels::new(weights.quant(), config.head_dim),
        })
    }

    /// Computes the self-attention of the norm of `x [B, L, dim]`, with rotary positions; between the blocks of `choice`, if
    /// it is sparse.
    fn to_itself(&self, x: &Tensor, norm: Prologue, positions: &Positions, choice: Option<Choice>) -> Result<Tensor> {
        let parts = Linear::forward_each([&self.q, &self.k, &self.v], x, norm)?;
        let part = |index: usize| split_heads(&parts[index], self.heads);
        let (rope, v) = (&positions.rope, part(2)?);
        let (q, k) = (rope.normed(&part(0)?, &self.norm_q)?, rope.normed(&part(1)?, &self.norm_k)?);
        Ok(self.kernels.attend_to_itself(&q, &k, &v, choice)?.flatten_from(2)?)
    }

    /// Computes the cross-attention of the norm of `x [B, L, dim]` to the text, padding included, plus that of the same
    /// queries to the pictures.
    fn to_others(&self, x: &Tensor, norm: Prologue, cross: &CrossKeysValues, bias: Option<&Tensor>) -> Result<Tensor> {
        let q = split_heads(&self.norm_q.forward(&self.q.forward_after(x, norm)?)?, self.heads)?;
        let to_text = self.attend(&q, &cross.text.keys, &cross.text.values, bias)?;
        match &cross.image {
            Some(image) => Ok((to_text + self.attend(&q, &image.keys, &image.values, None)?)?),
            None => Ok(to_text),
        }
    }

    /// Computes keys and values of the text `[B, S, dim]`.
    fn keys_values(&self, x: &Tensor) -> Result<KeysValues> {
        keys_values(x, &self.k, &self.norm_k, &self.v, self.heads)
    }

    /// `q [B, L, N, D]`, `k v [B, S, N, D]` → `[B, L, dim]`.
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.kernels.attend(q, k, v, bias)?.flatten_from(2)?)
    }
}

/// `k_img`, `v_img` and `norm_k_img` of a cross-attention, whose queries and output projection they share.
struct ImageAttention {
    k: Linear,
    v: Linear,
    norm_k: RmsNorm,
    heads: usize,
}

impl ImageAttention {
    fn new(config: &WanConfig, weights: &Weights) -> Result<Self> {
        let dim = config.dim();
        Ok(Self {
            k: Linear::new(&weights.pp("k_img"), dim, dim)?,
            v: Linear::new(&weights.pp("v_img"), dim, dim)?,
            norm_k: RmsNorm::new(&weights.pp("norm_k_img"), dim, config.eps)?,
            heads: config.num_heads,
        })
    }

    /// Computes keys and values of the pictures `[B, T, dim]`.
    fn keys_values(&self, x: &Tensor) -> Result<KeysValues> {
        keys_values(x, &self.k, &self.norm_k, &self.v, self.heads)
    }
}

fn keys_values(x: &Tensor, k: &Linear, norm_k: &RmsNorm, v: &Linear, heads: usize) -> Result<KeysValues> {
    let keys = split_heads(&norm_k.forward(&k.forward(x)?)?, heads)?;
    Ok(KeysValues { keys, values: split_heads(&v.forward(x)?, heads)? })
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

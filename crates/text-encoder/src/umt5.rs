//! UMT5 encoder: T5 with gated GELU and a relative position bias of its own in every layer.
//!
//! Maths: T5 <https://arxiv.org/abs/1910.10683>, UMT5 <https://arxiv.org/abs/2304.09151>. Names are those of Wan's
//! release, <https://github.com/Wan-Video/Wan2.1/blob/9737cba9c1c3/wan/modules/t5.py>; numbers are those of
//! <https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/models/umt5/modeling_umt5.py>.

mod keys;

use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::Epilogue;
use kinora_nn::{Embedding, Linear, RmsNorm};
use serde::Deserialize;

pub use keys::{canonical_from_llama_cpp, canonical_from_transformers, key_maps};

/// Shape of a UMT5 encoder, read from transformers' `config.json` (other keys are ignored).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Umt5Config {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Channels of the hidden states.
    pub d_model: usize,
    /// Channels of one attention head; `num_heads · d_kv` may differ from `d_model`.
    pub d_kv: usize,
    /// Inner channels of the feed-forward layer.
    pub d_ff: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Buckets of relative distance, both directions together.
    #[serde(default = "default_buckets")]
    pub relative_attention_num_buckets: usize,
    /// Distance in tokens from which on all fall into the last bucket.
    #[serde(default = "default_max_distance")]
    pub relative_attention_max_distance: usize,
    /// Epsilon of every norm.
    #[serde(default = "default_epsilon")]
    pub layer_norm_epsilon: f64,
    /// Kind of feed-forward layer; only `gated-gelu` (tanh approximation) is computed.
    pub feed_forward_proj: String,
    /// The token that ends every text.
    #[serde(default = "default_eos")]
    pub eos_token_id: u32,
}

impl Umt5Config {
    /// Reads transformers' `config.json` and checks that it describes an encoder that can be computed.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let config: Self = serde_json::from_slice(json).map_err(|e| Error::Config { reason: e.to_string() })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::Config { reason });
        if self.feed_forward_proj != "gated-gelu" {
            return refuse(format!(
                "feed_forward_proj `{}` is not supported, only `gated-gelu`",
                self.feed_forward_proj
            ));
        }
        let sizes = [self.vocab_size, self.d_model, self.d_kv, self.d_ff, self.num_heads];
        if sizes.contains(&0) {
            return refuse(format!("vocab_size, d_model, d_kv, d_ff, num_heads are {sizes:?}, none may be 0"));
        }
        if self.num_heads.checked_mul(self.d_kv).is_none() {
            return refuse(format!("num_heads {} times d_kv {} is out of range", self.num_heads, self.d_kv));
        }
        let (buckets, distance) = (self.relative_attention_num_buckets, self.relative_attention_max_distance);
        if buckets < 4 || buckets % 2 != 0 || distance <= buckets / 4 {
            return refuse(format!(
                "relative_attention_num_buckets {buckets} must be even and at least 4, \
                 relative_attention_max_distance {distance} greater than a quarter of it"
            ));
        }
        Ok(())
    }
}

fn default_buckets() -> usize {
    32
}

fn default_max_distance() -> usize {
    128
}

fn default_epsilon() -> f64 {
    1e-6
}

fn default_eos() -> u32 {
    1
}

/// The encoder.
pub struct Umt5 {
    config: Umt5Config,
    embedding: Embedding,
    blocks: Vec<Block>,
    norm: RmsNorm,
    device: Device,
    dtype: DType,
}

impl Umt5 {
    /// Reads the parameters below `weights`; the embedding table stays in the form in which it is stored.
    pub fn new(config: &Umt5Config, weights: &Weights) -> Result<Self> {
        config.check()?;
        let blocks = (0..config.num_layers)
            .map(|i| Block::new(config, &weights.pp("blocks").pp(i)))
            .collect::<kinora_checkpoint::Result<_>>()?;
        Ok(Self {
            config: config.clone(),
            embedding: Embedding::new(&weights.pp("token_embedding"), config.vocab_size, config.d_model)?,
            blocks,
            norm: RmsNorm::new(&weights.pp("norm"), config.d_model, config.layer_norm_epsilon)?,
            device: weights.device().clone(),
            dtype: weights.dtype(),
        })
    }

    /// Returns the configuration that it was built from.
    pub fn config(&self) -> &Umt5Config {
        &self.config
    }

    /// Computes the hidden states `[B, S, C]` of `ids [B, S]` (u32); row `b` has `lengths[b]` real tokens (1 to S), the rest
    /// is padding that nothing attends to and whose own states mean nothing.
    pub fn forward(&self, ids: &Tensor, lengths: &[usize]) -> Result<Tensor> {
        let (b, s) = ids.dims2()?;
        if lengths.len() != b {
            return Err(Error::Length { tokens: lengths.len(), text_len: b });
        }
        if let Some(&tokens) = lengths.iter().find(|&&length| length == 0 || length > s) {
            return Err(Error::Length { tokens, text_len: s });
        }
        let buckets = self.buckets(s)?;
        let mask = padding_bias(lengths, s, &self.device)?;
        let rows = self.embedding.forward(ids, self.dtype)?;
        let mut x = rows.reshape((b, s, self.config.d_model))?; // [B, S, C]
        for block in &self.blocks {
            x = block.forward(&x, &buckets, mask.as_ref())?;
        }
        Ok(self.norm.forward(&x)?)
    }

    /// Computes the context `[1, text_len, C]` of one prompt: the hidden states of `ids`, then rows of zeros.
    ///
    /// Padding is never computed: nothing attends to it and its rows are zeroed in the end.
    pub fn context(&self, ids: &[u32], text_len: usize) -> Result<Tensor> {
        let s = ids.len();
        if s == 0 || s > text_len {
            return Err(Error::Length { tokens: s, text_len });
        }
        let vocab_size = self.config.vocab_size;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::TokenId { id, vocab_size });
        }
        let x = self.forward(&Tensor::from_slice(ids, (1, s), &self.device)?, &[s])?; // [1, S, C]
        Ok(x.pad_with_zeros(1, 0, text_len - s)?)
    }

    /// Returns the bucket of every distance from query to key, `[2 · S - 1]` u32, from `1 - S` on.
    fn buckets(&self, s: usize) -> Result<Tensor> {
        let (buckets, distance) =
            (self.config.relative_attention_num_buckets, self.config.relative_attention_max_distance);
        let reach = s as i64 - 1;
        let ids: Vec<u32> = (-reach..=reach).map(|relative| relative_bucket(relative, buckets, distance)).collect();
        Ok(Tensor::new(ids, &self.device)?)
    }
}

/// One layer: attention, then the feed-forward layer, each on normed input and added to its input.
struct Block {
    norm1: RmsNorm,
    attn: Attention,
    norm2: RmsNorm,
    ffn: FeedForward,
}

impl Block {
    fn new(config: &Umt5Config, weights: &Weights) -> kinora_checkpoint::Result<Self> {
        let norm = |name: &str| RmsNorm::new(&weights.pp(name), config.d_model, config.layer_norm_epsilon);
        Ok(Self {
            norm1: norm("norm1")?,
            attn: Attention::new(config, weights)?,
            norm2: norm("norm2")?,
            ffn: FeedForward::new(config, &weights.pp("ffn"))?,
        })
    }

    fn forward(&self, x: &Tensor, buckets: &Tensor, mask: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let y = self.attn.forward(&self.norm1.forward(x)?, buckets, mask)?;
        let x = self.attn.o.forward_then(&y, Epilogue::Residual(x))?;
        let y = self.ffn.forward(&self.norm2.forward(&x)?)?;
        self.ffn.fc2.forward_then(&y, Epilogue::Residual(&x))
    }
}

/// Self-attention with a learned bias per head and bucket of relative distance, and scores that are not scaled. [`Block`]
/// applies `o` together with the residual.
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    position: Tensor, // [buckets, N] f32
    heads: usize,
    head_dim: usize,
}

impl Attention {
    fn new(config: &Umt5Config, block: &Weights) -> kinora_checkpoint::Result<Self> {
        let (heads, head_dim) = (config.num_heads, config.d_kv);
        let weights = block.pp("attn");
        let project = |name: &str| Linear::no_bias(&weights.pp(name), config.d_model, heads * head_dim);
        let table = (config.relative_attention_num_buckets, heads);
        Ok(Self {
            q: project("q")?,
            k: project("k")?,
            v: project("v")?,
            o: Linear::no_bias(&weights.pp("o"), heads * head_dim, config.d_model)?,
            position: block.pp("pos_embedding").pp("embedding").get_dtype("weight", table, DType::F32)?,
            heads,
            head_dim,
        })
    }

    fn forward(&self, x: &Tensor, buckets: &Tensor, mask: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let (b, s, _) = x.dims3()?;
        let (n, d) = (self.heads, self.head_dim);
        let heads = |linear: &Linear| linear.forward(x)?.reshape((b, s, n, d));
        let (q, k, v) = (heads(&self.q)?, heads(&self.k)?, heads(&self.v)?); // [B, S, N, D]
        let relative = self.position.index_select(buckets, 0)?.t()?; // [N, 2S - 1]
        let y = kinora_kernels::attention_relative(&q, &k, &v, 1.0, &relative, mask)?;
        y.reshape((b, s, n * d))
    }
}

/// `fc2(gelu(gate x) · fc1 x)`; [`Block`] applies `fc2` together with the residual.
struct FeedForward {
    gate: Linear,
    fc1: Linear,
    fc2: Linear,
}

impl FeedForward {
    fn new(config: &Umt5Config, weights: &Weights) -> kinora_checkpoint::Result<Self> {
        let (dim, inner) = (config.d_model, config.d_ff);
        Ok(Self {
            gate: Linear::no_bias(&weights.pp("gate.0"), dim, inner)?,
            fc1: Linear::no_bias(&weights.pp("fc1"), dim, inner)?,
            fc2: Linear::no_bias(&weights.pp("fc2"), inner, dim)?,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let gate = self.gate.forward_then(x, Epilogue::GeluTanh)?;
        self.fc1.forward_then(x, Epilogue::Product(&gate))
    }
}

/// Returns T5's bucket of the distance `relative` = key − query. Half of the buckets are for later keys; of each half, one
/// half is exact, the other logarithmic up to `max_distance`. Computed in f32, as in the reference.
fn relative_bucket(relative: i64, buckets: usize, max_distance: usize) -> u32 {
    let side = buckets / 2;
    let exact = side / 2;
    let start = if relative > 0 { side } else { 0 };
    let distance = relative.unsigned_abs() as usize;
    let bucket = if distance < exact {
        distance
    } else {
        let span = (max_distance as f64 / exact as f64).ln() as f32;
        let ratio = (distance as f32 / exact as f32).ln() / span;
        (exact + (ratio * (side - exact) as f32) as usize).min(side - 1)
    };
    (start + bucket) as u32
}

/// Returns the mask `[B, 1, 1, S]`: 0 for real tokens, the least f32 for padding; none if no row is padded.
fn padding_bias(lengths: &[usize], s: usize, device: &Device) -> candle_core::Result<Option<Tensor>> {
    if lengths.iter().all(|&length| length == s) {
        return Ok(None);
    }
    let row = |&length: &usize| (0..s).map(move |key| if key < length { 0f32 } else { f32::MIN });
    let bias: Vec<f32> = lengths.iter().flat_map(row).collect();
    Tensor::from_vec(bias, (lengths.len(), 1, 1, s), device).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Table {
        buckets: usize,
        max_distance: usize,
        from: i64,
        expected: Vec<u32>,
    }

    #[test]
    fn buckets_are_those_of_transformers() {
        let json = include_str!("../../../tests/fixtures/text/buckets.json");
        let tables: Vec<Table> = serde_json::from_str(json).unwrap();
        assert!(!tables.is_empty());
        for Table { buckets, max_distance, from, expected } in tables {
            let range = from..from + expected.len() as i64;
            let found: Vec<u32> = range.map(|relative| relative_bucket(relative, buckets, max_distance)).collect();
            assert_eq!(found, expected, "{buckets} buckets, max distance {max_distance}");
        }
    }
}

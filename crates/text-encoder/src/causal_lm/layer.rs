//! One layer: attention, then a gated feed-forward layer, each on normed input and added to its input.

use super::config::{Activation, AttentionConfig, CausalLmConfig};
use super::positions::Positions;
use crate::rope::rotate_halves;
use candle_core::{DType, Result, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{Epilogue, attention, rms_norm};
use kinora_nn::Linear;

/// The last segment of the name of a norm's weight to which 1 was added when its file was written.
pub(super) const WITH_OFFSET: &str = "scale";

/// RMS norm over the last axis; its weight is f32 whatever the model's dtype.
pub(super) struct Norm {
    weight: Tensor,
    eps: f64,
}

impl Norm {
    /// Reads `weight [dim]`, or the one to which 1 was added.
    pub(super) fn new(config: &CausalLmConfig, weights: &Weights, dim: usize) -> kinora_checkpoint::Result<Self> {
        let weight = if config.norm_offset && weights.contains(WITH_OFFSET) {
            weights.get_dtype(WITH_OFFSET, dim, DType::F32)?
        } else {
            let weight = weights.get_dtype("weight", dim, DType::F32)?;
            if config.norm_offset { (weight + 1.0)? } else { weight }
        };
        Ok(Self { weight, eps: config.norm_eps })
    }

    /// Returns a norm without a weight.
    fn plain(config: &CausalLmConfig, weights: &Weights, dim: usize) -> Result<Self> {
        Ok(Self { weight: Tensor::ones(dim, DType::F32, weights.device())?, eps: config.norm_eps })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        rms_norm(x, &self.weight, self.eps)
    }
}

/// One layer.
pub(super) struct Layer {
    attention: Residual<Attention>,
    feed_forward: Residual<FeedForward>,
    scalar: Option<f64>,
}

/// A part of a layer with the norms around it.
struct Residual<T> {
    before: Norm,
    inner: T,
    after: Option<Norm>,
}

impl<T> Residual<T> {
    fn forward(&self, x: &Tensor, inner: impl Fn(&T, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let y = inner(&self.inner, &self.before.forward(x)?)?;
        match &self.after {
            Some(after) => x + after.forward(&y)?,
            None => x + y,
        }
    }
}

impl Layer {
    /// Reads the layer `index` below `weights`.
    pub(super) fn new(config: &CausalLmConfig, index: usize, weights: &Weights) -> kinora_checkpoint::Result<Self> {
        let norm = |name: &str| Norm::new(config, &weights.pp(name), config.hidden_size);
        // With norms behind, the usual name of the second one in front is that of the first one behind.
        let post = |name: &str| config.post_norms.then(|| norm(name)).transpose();
        let second = if config.post_norms { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
        let scalar = if config.layer_scalar {
            let scalar = weights.get_dtype("layer_scalar", 1, DType::F32)?;
            scalar.to_vec1::<f32>()?.first().map(|scalar| f64::from(*scalar))
        } else {
            None
        };
        Ok(Self {
            attention: Residual {
                before: norm("input_layernorm")?,
                inner: Attention::new(config, config.attention(index), &weights.pp("self_attn"))?,
                after: post("post_attention_layernorm")?,
            },
            feed_forward: Residual {
                before: norm(second)?,
                inner: FeedForward::new(config, &weights.pp("mlp"))?,
                after: post("post_feedforward_layernorm")?,
            },
            scalar,
        })
    }

    /// Computes the hidden states `[1, S, C]` after the layer from those before it.
    pub(super) fn forward(&self, x: &Tensor, positions: &Positions) -> Result<Tensor> {
        let x = self.attention.forward(x, |attention, x| attention.forward(x, positions))?;
        let x = self.feed_forward.forward(&x, FeedForward::forward)?;
        match self.scalar {
            Some(scalar) => x * scalar,
            None => Ok(x),
        }
    }
}

/// Causal self-attention, in which several heads of the queries share keys and values.
struct Attention {
    q: Linear,
    k: Linear,
    v: Option<Linear>,
    o: Linear,
    /// Norms of queries, of keys and of values.
    norms: [Option<Norm>; 3],
    config: AttentionConfig,
}

impl Attention {
    fn new(model: &CausalLmConfig, config: &AttentionConfig, weights: &Weights) -> kinora_checkpoint::Result<Self> {
        let (hidden, dim) = (model.hidden_size, config.head_dim);
        let project = |name: &str, heads: usize| {
            let weights = weights.pp(name);
            let make = if model.attention_bias { Linear::new } else { Linear::no_bias };
            make(&weights, hidden, heads * dim)
        };
        let norm = |name: &str| model.qk_norm.then(|| Norm::new(model, &weights.pp(name), dim)).transpose();
        let v_norm = model.v_norm.then(|| Norm::plain(model, weights, dim)).transpose()?;
        Ok(Self {
            q: project("q_proj", config.heads)?,
            k: project("k_proj", config.kv_heads)?,
            v: (!config.keys_are_values).then(|| project("v_proj", config.kv_heads)).transpose()?,
            o: Linear::no_bias(&weights.pp("o_proj"), config.heads * dim, hidden)?,
            norms: [norm("q_norm")?, norm("k_norm")?, v_norm],
            config: config.clone(),
        })
    }

    fn forward(&self, x: &Tensor, positions: &Positions) -> Result<Tensor> {
        let (b, s, _) = x.dims3()?;
        let AttentionConfig { heads, kv_heads, head_dim, scale, .. } = self.config;
        let split = |linear: &Linear, heads: usize| linear.forward(x)?.reshape((b, s, heads, head_dim));
        let (q, k) = (split(&self.q, heads)?, split(&self.k, kv_heads)?); // [B, S, N, D]
        let v = self.v.as_ref().map_or_else(|| Ok(k.clone()), |v| split(v, kv_heads))?;
        let [q, k, v] = [(q, &self.norms[0]), (k, &self.norms[1]), (v, &self.norms[2])]
            .map(|(x, norm)| norm.as_ref().map_or_else(|| Ok(x.clone()), |norm| norm.forward(&x)));
        let rotate = |x: Tensor| rotate_halves(&x, &positions.cos, &positions.sin);
        let (q, k, v) = (rotate(q?)?, repeated(&rotate(k?)?, heads)?, repeated(&v?, heads)?);
        let y = attention(&q, &k, &v, scale, Some(&positions.mask))?;
        self.o.forward(&y.reshape((b, s, heads * head_dim))?)
    }
}

/// Returns `x [B, S, N, D]` with every head as often as makes `heads` of them.
fn repeated(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, s, n, d) = x.dims4()?;
    if n == heads {
        return Ok(x.clone());
    }
    x.unsqueeze(3)?.broadcast_as((b, s, n, heads / n, d))?.reshape((b, s, heads, d))
}

/// `down(activation(gate x) · up x)`.
struct FeedForward {
    gate: Linear,
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl FeedForward {
    fn new(config: &CausalLmConfig, weights: &Weights) -> kinora_checkpoint::Result<Self> {
        let (dim, inner) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            gate: Linear::no_bias(&weights.pp("gate_proj"), dim, inner)?,
            up: Linear::no_bias(&weights.pp("up_proj"), dim, inner)?,
            down: Linear::no_bias(&weights.pp("down_proj"), inner, dim)?,
            activation: config.activation,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let activation = match self.activation {
            Activation::GeluTanh => Epilogue::GeluTanh,
            Activation::Silu => Epilogue::Silu,
        };
        let gate = self.gate.forward_then(x, activation)?;
        self.down.forward(&self.up.forward_then(x, Epilogue::Product(&gate))?)
    }
}

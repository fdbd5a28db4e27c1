//! [`CausalLmConfig`]: the shape of a causal language model.

use crate::{Error, Result};

/// The most layers, and the largest size, that a configuration may have.
const MOST_LAYERS: usize = 1 << 10;
const LARGEST: usize = 1 << 20;

/// The shape of a causal language model, as far as its hidden states depend on it.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct CausalLmConfig {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Channels of the hidden states.
    pub hidden_size: usize,
    /// Inner channels of the feed-forward layers.
    pub intermediate_size: usize,
    /// The kind of every layer's attention, from the first layer on.
    pub layers: Vec<LayerKind>,
    /// The attention of layers of the kind [`LayerKind::Sliding`].
    pub sliding: AttentionConfig,
    /// The attention of layers of the kind [`LayerKind::Full`].
    pub full: AttentionConfig,
    /// The activation of the feed-forward layers' gate.
    pub activation: Activation,
    /// Epsilon of every norm.
    pub norm_eps: f64,
    /// Whether a norm multiplies by 1 + its weight.
    pub norm_offset: bool,
    /// Whether the results of attention and feed-forward layers are normed before they are added.
    pub post_norms: bool,
    /// Whether queries and keys are normed, head by head.
    pub qk_norm: bool,
    /// Whether values are normed, head by head and without a weight.
    pub v_norm: bool,
    /// Whether queries, keys and values have a bias.
    pub attention_bias: bool,
    /// Whether embeddings are multiplied by the root of `hidden_size`, rounded to the model's dtype.
    pub scaled_embeddings: bool,
    /// Whether the result of every layer is multiplied by a number of its own.
    pub layer_scalar: bool,
    /// Tokens that stand for pictures and sound: where a text has one, it has the embedding of padding.
    pub placeholders: Vec<u32>,
    /// The token of padding.
    pub padding: u32,
}

/// Which keys the queries of a layer see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// Those of the window that ends with the query.
    Sliding,
    /// All up to the query.
    Full,
}

/// The attention of the layers of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionConfig {
    /// Heads of the queries, a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values; several heads of the queries share one.
    pub kv_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// The factor of the scores.
    pub scale: f64,
    /// The number of keys that a query sees, itself included; all up to the query without one.
    pub window: Option<usize>,
    /// Whether values are made by the matrix of the keys.
    pub keys_are_values: bool,
    /// The rotary position embedding of queries and keys.
    pub rope: Rope,
}

/// A rotary position embedding, which rotates channel `i` of a head with channel `i + head_dim / 2`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// The number that positions are divided by.
    pub factor: f64,
    /// The share of the pairs that turn, those of the highest frequencies; the others stay as they are.
    pub turning: f64,
}

/// The activation of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// GELU, tanh approximation.
    GeluTanh,
    /// `x · sigmoid(x)`.
    Silu,
}

impl CausalLmConfig {
    /// Returns the attention of the layer `index`.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn attention(&self, index: usize) -> &AttentionConfig {
        match self.layers[index] {
            LayerKind::Sliding => &self.sliding,
            LayerKind::Full => &self.full,
        }
    }

    /// Checks that the sizes fit together and are within reason; the first that is not is the error.
    pub fn check(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::Config { reason });
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
        ];
        if let Some((field, size)) = sizes.into_iter().find(|(_, size)| !(1..=LARGEST).contains(size)) {
            return refuse(format!("`{field}` is {size}, expected 1 to {LARGEST}"));
        }
        if !(1..=MOST_LAYERS).contains(&self.layers.len()) {
            return refuse(format!("there are {} layers, expected 1 to {MOST_LAYERS}", self.layers.len()));
        }
        if !self.norm_eps.is_finite() || self.norm_eps < 0.0 {
            return refuse(format!("`rms_norm_eps` is {}", self.norm_eps));
        }
        [&self.sliding, &self.full].into_iter().try_for_each(AttentionConfig::check)
    }
}

impl AttentionConfig {
    fn check(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::Config { reason });
        let (heads, kv_heads, head_dim) = (self.heads, self.kv_heads, self.head_dim);
        if kv_heads == 0 || heads == 0 || !heads.is_multiple_of(kv_heads) || heads > LARGEST {
            return refuse(format!("{heads} heads of queries cannot share {kv_heads} of keys"));
        }
        if head_dim == 0 || !head_dim.is_multiple_of(2) || head_dim > LARGEST {
            return refuse(format!("`head_dim` is {head_dim}, expected an even number up to {LARGEST}"));
        }
        if self.window == Some(0) {
            return refuse("`sliding_window` is 0".to_string());
        }
        let Rope { theta, factor, turning } = self.rope;
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !positive(theta) || !positive(factor) || !(0.0..=1.0).contains(&turning) || !self.scale.is_finite() {
            return refuse(format!("`rope_theta` {theta}, `factor` {factor} or `partial_rotary_factor` {turning}"));
        }
        Ok(())
    }
}

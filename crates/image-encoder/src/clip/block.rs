//! One layer of the vision tower: attention, then a feed-forward layer, each on normed input and added to its input.

use super::{Activation, ClipVisionConfig, keys};
use candle_core::{DType, Result, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{Epilogue, attention, gelu_erf, silu};
use kinora_nn::{LayerNorm, Linear};

/// One layer.
pub(super) struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

impl Block {
    pub(super) fn new(config: &ClipVisionConfig, weights: &Weights) -> kinora_checkpoint::Result<Self> {
        let (dim, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |name: &str| LayerNorm::affine(&weights.pp(name), dim, config.layer_norm_eps);
        Ok(Self {
            norm1: norm("layer_norm1")?,
            attn: Attention::new(config, &weights.pp("self_attn"))?,
            norm2: norm("layer_norm2")?,
            fc1: Linear::new(&weights.pp("mlp.fc1"), dim, inner)?,
            fc2: Linear::new(&weights.pp("mlp.fc2"), inner, dim)?,
            activation: config.hidden_act,
        })
    }

    /// `[B, T, C]` → `[B, T, C]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.attn.forward(&self.norm1.forward(x)?)?;
        let x = self.attn.out.forward_then(&y, Epilogue::Residual(x))?;
        let y = self.fc1.forward(&self.norm2.forward(&x)?)?;
        let y = match self.activation {
            Activation::Gelu => gelu_erf(&y)?,
            Activation::QuickGelu => quick_gelu(&y)?,
        };
        self.fc2.forward_then(&y, Epilogue::Residual(&x))
    }
}

/// Self-attention over all tokens. [`Block`] applies `out` together with the residual.
struct Attention {
    input: Projection,
    out: Linear,
    heads: usize,
}

/// The layers of queries, keys and values.
enum Projection {
    /// One layer each, as in transformers' checkpoints.
    Separate(Box<[Linear; 3]>),
    /// One layer for all, as in the original release.
    Fused(Linear),
}

impl Attention {
    fn new(config: &ClipVisionConfig, weights: &Weights) -> kinora_checkpoint::Result<Self> {
        let dim = config.hidden_size;
        let project = |name: &str| Linear::new(&weights.pp(name), dim, dim);
        let fused = weights.pp(keys::ORIGINAL_QKV);
        let input = if fused.contains("weight") {
            Projection::Fused(Linear::new(&fused, dim, 3 * dim)?)
        } else {
            Projection::Separate(Box::new([project("q_proj")?, project("k_proj")?, project("v_proj")?]))
        };
        Ok(Self { input, out: project("out_proj")?, heads: config.num_attention_heads })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, t, c) = x.dims3()?;
        let (n, d) = (self.heads, c / self.heads);
        let [q, k, v] = self.input.forward(x)?.map(|x| x.reshape((b, t, n, d))); // [B, T, N, D]
        attention(&q?, &k?, &v?, 1.0 / (d as f64).sqrt(), None)?.reshape((b, t, c))
    }
}

impl Projection {
    /// Queries, keys and values `[B, T, C]`, contiguous.
    fn forward(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        match self {
            Self::Separate(layers) => {
                let [q, k, v] = &**layers;
                Ok([q.forward(x)?, k.forward(x)?, v.forward(x)?])
            }
            Self::Fused(qkv) => {
                let (c, qkv) = (x.dim(2)?, qkv.forward(x)?); // [B, T, 3·C]
                let part = |i: usize| qkv.narrow(2, i * c, c)?.contiguous();
                Ok([part(0)?, part(1)?, part(2)?])
            }
        }
    }
}

/// `x · sigmoid(1.702 · x)`, in f32.
fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    const SLOPE: f64 = 1.702;
    let y = silu(&(x.to_dtype(DType::F32)? * SLOPE)?)?;
    (y / SLOPE)?.to_dtype(x.dtype())
}

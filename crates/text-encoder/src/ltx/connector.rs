//! A connector: a transformer over the tokens of a text and learnt registers, without modulation.

use super::config::{ConnectorConfig, ConnectorsConfig};
use crate::rope::rotate_halves;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::{Epilogue, Prologue, attention, rms_norm};
use kinora_nn::{Linear, RmsNorm};
use std::f64::consts::PI;

/// Epsilon of every norm.
const EPSILON: f64 = 1e-6;
/// The inner channels of feed-forward layers, relative to the tokens'.
const EXPANSION: usize = 4;

/// A connector, whose blocks stay in their files.
pub(super) struct Connector<'a> {
    pub(super) config: &'a ConnectorConfig,
    pub(super) model: &'a ConnectorsConfig,
    pub(super) weights: Weights,
}

impl Connector<'_> {
    /// Asks for all tensors.
    pub(super) fn check(&self) -> Result<()> {
        self.registers()?;
        (0..self.config.blocks).try_for_each(|index| self.block(index).map(drop))
    }

    /// Returns the context `[1, text_len, dim]` of every text, from the connector's input `[S, dim]` for its tokens. A block is
    /// read when its turn comes, for all texts.
    pub(super) fn forward(&self, texts: &[Tensor], text_len: usize) -> Result<Vec<Tensor>> {
        let registers = self.registers()?;
        let tiled = |tokens: &Tensor| with_registers(tokens, &registers, text_len);
        let mut contexts = texts.iter().map(tiled).collect::<Result<Vec<_>>>()?;
        let angles = angles(self.model, self.config, text_len, self.weights.device())?;
        for index in 0..self.config.blocks {
            let block = self.block(index)?;
            for context in &mut contexts {
                *context = block.forward(context, &angles)?;
            }
        }
        let normed = |context: &Tensor| rms_norm(context, &self.ones()?, EPSILON);
        Ok(contexts.iter().map(normed).collect::<candle_core::Result<_>>()?)
    }

    fn registers(&self) -> Result<Tensor> {
        Ok(self.weights.get("learnable_registers", (self.config.registers, self.config.dim()))?)
    }

    fn block(&self, index: usize) -> Result<Block> {
        Ok(Block::new(self.config, &self.weights.pp("transformer_1d_blocks").pp(index))?)
    }

    fn ones(&self) -> candle_core::Result<Tensor> {
        Tensor::ones(self.config.dim(), DType::F32, self.weights.device())
    }
}

/// Returns `[1, text_len, dim]`: the text's tokens `[S, dim]`, then the registers that belong to the remaining positions.
fn with_registers(tokens: &Tensor, registers: &Tensor, text_len: usize) -> Result<Tensor> {
    let ((s, _), count) = (tokens.dims2()?, registers.dim(0)?);
    if s > text_len || !text_len.is_multiple_of(count) {
        return Err(Error::Length { tokens: s, text_len });
    }
    if s == text_len {
        return Ok(tokens.unsqueeze(0)?);
    }
    let all = registers.repeat((text_len / count, 1))?;
    Ok(Tensor::cat(&[tokens, &all.narrow(0, s, text_len - s)?], 0)?.unsqueeze(0)?)
}

/// Returns cosines and sines f32 `[text_len, N, D/2]` of the rotary embedding, whose frequencies run through all heads, and whose
/// positions run from -1 to 1.
fn angles(
    model: &ConnectorsConfig,
    config: &ConnectorConfig,
    text_len: usize,
    device: &Device,
) -> candle_core::Result<[Tensor; 2]> {
    let pairs = config.dim() / 2;
    let exponent = |pair: usize| pair as f64 / (pairs - 1).max(1) as f64;
    let frequencies: Vec<f32> =
        (0..pairs).map(|pair| (model.rope_theta.powf(exponent(pair)) * PI / 2.0) as f32).collect();
    let place = |position: usize| position as f32 / model.rope_length as f32 * 2.0 - 1.0;
    let angles: Vec<f32> = (0..text_len)
        .flat_map(|position| frequencies.iter().map(move |frequency| place(position) * frequency))
        .collect();
    let table = |f: fn(f32) -> f32| {
        let shape = (text_len, config.heads, config.head_dim / 2);
        Tensor::from_vec(angles.iter().map(|angle| f(*angle)).collect::<Vec<_>>(), shape, device)
    };
    Ok([table(f32::cos)?, table(f32::sin)?])
}

/// Self-attention, then a feed-forward layer, each on normed input and added to its input.
struct Block {
    attn: Attention,
    ff: [Linear; 2],
    ones: Tensor,
}

impl Block {
    fn new(config: &ConnectorConfig, weights: &Weights) -> kinora_checkpoint::Result<Self> {
        let (dim, inner) = (config.dim(), EXPANSION * config.dim());
        let ff = weights.pp("ff").pp("net");
        Ok(Self {
            attn: Attention::new(config, &weights.pp("attn1"))?,
            ff: [Linear::new(&ff.pp("0.proj"), dim, inner)?, Linear::new(&ff.pp("2"), inner, dim)?],
            ones: Tensor::ones(dim, DType::F32, weights.device())?,
        })
    }

    fn forward(&self, x: &Tensor, angles: &[Tensor; 2]) -> candle_core::Result<Tensor> {
        let norm = |x: &Tensor| rms_norm(x, &self.ones, EPSILON);
        let y = self.attn.forward(&norm(x)?, angles)?;
        let x = self.attn.out.forward_then(&y, Epilogue::Residual(x))?;
        let [first, second] = &self.ff;
        Linear::mlp([first, second], &norm(&x)?, Prologue::None, Epilogue::Residual(&x))
    }
}

/// Self-attention with norms over all heads together. [`Block`] applies `out` together with the residual.
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    gate: Option<Linear>,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
    heads: usize,
    head_dim: usize,
}

impl Attention {
    fn new(config: &ConnectorConfig, weights: &Weights) -> kinora_checkpoint::Result<Self> {
        let dim = config.dim();
        let linear = |name: &str| Linear::new(&weights.pp(name), dim, dim);
        let gate = || Linear::new(&weights.pp("to_gate_logits"), dim, config.heads);
        Ok(Self {
            q: linear("to_q")?,
            k: linear("to_k")?,
            v: linear("to_v")?,
            out: linear("to_out.0")?,
            gate: config.gated.then(gate).transpose()?,
            q_norm: RmsNorm::new(&weights.pp("q_norm"), dim, EPSILON)?,
            k_norm: RmsNorm::new(&weights.pp("k_norm"), dim, EPSILON)?,
            heads: config.heads,
            head_dim: config.head_dim,
        })
    }

    fn forward(&self, x: &Tensor, [cos, sin]: &[Tensor; 2]) -> candle_core::Result<Tensor> {
        let (b, s, dim) = x.dims3()?;
        let split = |x: Tensor| x.reshape((b, s, self.heads, self.head_dim)); // [B, S, N, D]
        let q = rotate_halves(&split(self.q_norm.forward(&self.q.forward(x)?)?)?, cos, sin)?;
        let k = rotate_halves(&split(self.k_norm.forward(&self.k.forward(x)?)?)?, cos, sin)?;
        let v = split(self.v.forward(x)?)?;
        let y = attention(&q, &k, &v, 1.0 / (self.head_dim as f64).sqrt(), None)?;
        let y = match &self.gate {
            Some(gate) => gated(&y, &gate.forward(x)?)?,
            None => y,
        };
        y.reshape((b, s, dim))
    }
}

/// Multiplies every head of `y [B, S, N, D]` by twice the sigmoid of `logits [B, S, N]`.
fn gated(y: &Tensor, logits: &Tensor) -> candle_core::Result<Tensor> {
    let sigmoid = (logits.to_dtype(DType::F32)?.neg()?.exp()? + 1.0)?.recip()?;
    let gate = (sigmoid * 2.0)?.to_dtype(y.dtype())?.unsqueeze(3)?;
    y.broadcast_mul(&gate)
}

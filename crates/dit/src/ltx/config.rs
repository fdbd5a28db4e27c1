//! [`LtxConfig`]: the dimensions of an LTX-2.x transformer, from either kind of configuration or from the tensors themselves.

mod diffusers;
mod infer;
mod original;

use crate::{Error, Result};
use serde_json::Value;

/// Inner width of the feed-forward layers, in widths of the stream.
pub(super) const FEED_FORWARD: usize = 4;
/// Rows of a block's modulation: shift, scale and gate of the self-attention, then of the feed-forward layer; and of the queries
/// of the text.
const MODULATIONS: usize = 6;
const MODULATIONS_WITH_TEXT: usize = 9;
/// Far above any model, and small enough that products of dimensions stay within 64 bits.
const LARGEST_DIM: usize = 1 << 20;
/// Heads of both streams in every released model; the tensors of 2.0 do not say it.
const RELEASED_HEADS: usize = 32;
/// The rows of a context, in every released model.
const TEXT_ROWS: usize = 1024;
/// What timesteps are, in sigmas.
const TIMESTEP_MULTIPLIER: f64 = 1000.0;

/// Dimensions of an LTX-2.x transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct LtxConfig {
    /// The stream of video.
    pub video: StreamConfig,
    /// The stream of sound.
    pub audio: StreamConfig,
    /// Transformer blocks.
    pub num_layers: usize,
    /// Width of the contexts, where the model projects them to the streams' widths (2.0).
    pub text_dim: Option<usize>,
    /// Whether every head's attention has a gate (from 2.3 on).
    pub gated_attention: bool,
    /// How the attention to the text is modulated.
    pub text_modulation: TextModulation,
    /// Whether the attention of a stream to the other is modulated by the timestep of the other (from 2.3 on), not by its own.
    pub cross_timestep: bool,
    /// The timestep of the gates between the streams, in timesteps.
    pub gate_multiplier: f64,
    /// Whether there is a marker of generated key frames (2.5).
    pub keyframes: bool,
    /// Epsilon of every norm but the last.
    pub eps: f64,
}

/// The modulation of the attention to the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextModulation {
    /// There is none (2.0).
    None,
    /// Queries are modulated by the timestep, keys and values are not: they are the same on every step.
    Queries,
    /// Queries, keys and values are modulated by the timestep (from 2.3 on).
    All,
}

impl TextModulation {
    /// Returns the modulation of a model that has one, and of keys and values by the timestep, or not.
    fn new(any: bool, all: bool) -> Self {
        match (any, all) {
            (false, _) => Self::None,
            (true, false) => Self::Queries,
            (true, true) => Self::All,
        }
    }
}

/// Dimensions of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    /// Channels of a token, in and out.
    pub channels: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Width of one head, an even number.
    pub head_dim: usize,
    /// Whether the feed-forward layers have biases.
    pub ff_bias: bool,
}

impl StreamConfig {
    /// Width of the residual stream.
    pub fn dim(&self) -> usize {
        self.num_heads * self.head_dim
    }
}

impl LtxConfig {
    /// Rows of a block's modulation.
    pub(super) fn modulations(&self) -> usize {
        if self.text_modulation == TextModulation::None { MODULATIONS } else { MODULATIONS_WITH_TEXT }
    }

    /// Operations of one pass over `tokens` of video and of sound, two for each product: linear layers and attention of all
    /// blocks. Of prompts and embeddings, only what grows with the clip is counted.
    pub fn operations(&self, tokens: [usize; 2]) -> f64 {
        let [video, audio] = tokens.map(|tokens| tokens as f64);
        let [wide, narrow] = [self.video.dim(), self.audio.dim()].map(|dim| dim as f64);
        let stream = |tokens: f64, dim: f64| {
            let linear = (6 + 2 * FEED_FORWARD) as f64 * dim * dim;
            tokens * (linear + 2.0 * dim * (tokens + TEXT_ROWS as f64))
        };
        // Queries and outputs of one stream, keys and values of the other, in both directions.
        let between = (video * (2.0 * wide + 2.0 * wide) + audio * (2.0 * narrow + 2.0 * narrow)) * narrow
            + 2.0 * 2.0 * video * audio * narrow;
        2.0 * (stream(video, wide) + stream(audio, narrow) + between) * self.num_layers as f64
    }

    /// Checks that every dimension makes sense.
    pub(crate) fn validate(&self) -> Result<()> {
        let dims = [
            ("in_channels", self.video.channels),
            ("num_attention_heads", self.video.num_heads),
            ("attention_head_dim", self.video.head_dim),
            ("audio_in_channels", self.audio.channels),
            ("audio_num_attention_heads", self.audio.num_heads),
            ("audio_attention_head_dim", self.audio.head_dim),
            ("num_layers", self.num_layers),
            ("caption_channels", self.text_dim.unwrap_or(1)),
        ];
        for (field, value) in dims {
            if value == 0 || value > LARGEST_DIM {
                return Err(Error::Config { field, problem: format!("is {value}, expected 1 to {LARGEST_DIM}") });
            }
        }
        for (field, stream) in [("num_attention_heads", &self.video), ("audio_num_attention_heads", &self.audio)] {
            if stream.dim() > LARGEST_DIM / MODULATIONS_WITH_TEXT {
                let (heads, width) = (stream.num_heads, stream.head_dim);
                let problem = format!("is {heads} of {width} each, expected at most {LARGEST_DIM} in all modulations");
                return Err(Error::Config { field, problem });
            }
        }
        for (field, value) in
            [("attention_head_dim", self.video.head_dim), ("audio_attention_head_dim", self.audio.head_dim)]
        {
            if !value.is_multiple_of(2) {
                return Err(Error::Config { field, problem: format!("is {value}, expected an even number") });
            }
        }
        if self.audio.num_heads != self.video.num_heads {
            let problem = format!("is {}, expected the {} of video", self.audio.num_heads, self.video.num_heads);
            return Err(Error::Config { field: "audio_num_attention_heads", problem });
        }
        for (field, value) in [("norm_eps", self.eps), ("cross_attn_timestep_scale_multiplier", self.gate_multiplier)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::Config { field, problem: format!("is {value}, expected a positive number") });
            }
        }
        Ok(())
    }
}

fn unsupported(field: &str, value: impl std::fmt::Display) -> Error {
    Error::Unsupported { field: field.to_string(), value: value.to_string() }
}

/// Checks sizes that have no choice: a field's value, and the one that it has to be.
fn require_sizes<const COUNT: usize>(fields: [(&str, usize, usize); COUNT]) -> Result<()> {
    match fields.into_iter().find(|(_, found, expected)| found != expected) {
        Some((field, found, _)) => Err(unsupported(field, found)),
        None => Ok(()),
    }
}

/// Checks fields that every released model sets to one value; those that are absent have it.
fn require(rest: &serde_json::Map<String, Value>, expected: &[(&str, Value)]) -> Result<()> {
    let same = |found: &Value, value: &Value| match (found.as_f64(), value.as_f64()) {
        (Some(found), Some(value)) => found.to_bits() == value.to_bits(),
        _ => found == value,
    };
    for (field, value) in expected {
        if let Some(found) = rest.get(*field)
            && !same(found, value)
        {
            return Err(unsupported(field, found));
        }
    }
    Ok(())
}

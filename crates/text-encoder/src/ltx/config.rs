//! [`ConnectorsConfig`]: the shape of the connectors between a language model and the transformer of LTX-2.

use crate::{Error, Result};
use serde::Deserialize;

/// The largest size that a configuration may have.
const LARGEST: usize = 1 << 20;
/// The number of layers up to which a configuration is read.
const MOST_LAYERS: usize = 1 << 10;

/// The shape of the feature projections and of both connectors.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectorsConfig {
    /// Channels of the language model's hidden states.
    pub hidden_size: usize,
    /// The number of its hidden states, all of which are used.
    pub states: usize,
    /// How the states become the connectors' input.
    pub features: Features,
    /// The connector for the context of the video.
    pub video: ConnectorConfig,
    /// The connector for the context of the sound.
    pub audio: ConnectorConfig,
    /// The position, in tokens, at which the rotary embedding ends.
    pub rope_length: usize,
    /// The base of its frequencies.
    pub rope_theta: f64,
}

/// How the hidden states of a token become the input of the connectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Features {
    /// Each state is centred and divided by its range over the text, and one projection without bias makes the input of both
    /// connectors: LTX-2.0.
    Shared,
    /// Each state of each token has an RMS norm, and each connector a projection with bias: LTX-2.3 and later.
    PerModality,
}

/// The shape of one connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectorConfig {
    /// Attention heads.
    pub heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Blocks.
    pub blocks: usize,
    /// Learnt rows that stand where the text has no tokens; the length of a context is a multiple of it.
    pub registers: usize,
    /// Whether every head's result is multiplied by a gate.
    pub gated: bool,
}

impl ConnectorConfig {
    /// Returns the number of channels of the connector's tokens.
    pub fn dim(&self) -> usize {
        self.heads * self.head_dim
    }
}

impl ConnectorsConfig {
    /// The connectors of LTX-2.0.
    pub fn ltx20() -> Self {
        let connector = ConnectorConfig { heads: 30, head_dim: 128, blocks: 2, registers: 128, gated: false };
        let features = Features::Shared;
        Self { features, video: connector, audio: connector, ..Self::ltx23() }
    }

    /// The connectors of LTX-2.3 and 2.5.
    pub fn ltx23() -> Self {
        let video = ConnectorConfig { heads: 32, head_dim: 128, blocks: 8, registers: 128, gated: true };
        Self {
            hidden_size: 3840,
            states: 49,
            features: Features::PerModality,
            video,
            audio: ConnectorConfig { head_dim: 64, ..video },
            rope_length: 4096,
            rope_theta: 1e4,
        }
    }

    /// Returns the released configuration of a model with tensors of these canonical names: that of LTX-2.0 if it has one
    /// projection.
    pub fn of_released(shapes: &[(String, Vec<usize>)]) -> Self {
        let shared = shapes.iter().any(|(name, _)| name.ends_with("text_embedding_projection.aggregate_embed.weight"));
        if shared { Self::ltx20() } else { Self::ltx23() }
    }

    /// Reads the config.json of a diffusers directory.
    ///
    /// # Errors
    /// JSON of another form, features that are not computed, or sizes that do not fit together.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let fields: Fields = serde_json::from_slice(json).map_err(|e| Error::Config { reason: e.to_string() })?;
        fields.config()
    }

    /// Checks that the sizes fit together and are within reason; the first that is not is the error.
    pub fn check(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::Config { reason });
        let sizes = [
            ("caption_channels", self.hidden_size),
            ("text_proj_in_factor", self.states),
            ("connector_rope_base_seq_len", self.rope_length),
        ];
        if let Some((field, size)) = sizes.into_iter().find(|(_, size)| !(1..=LARGEST).contains(size)) {
            return refuse(format!("`{field}` is {size}, expected 1 to {LARGEST}"));
        }
        for (name, connector) in [("video", &self.video), ("audio", &self.audio)] {
            let ConnectorConfig { heads, head_dim, blocks, registers, .. } = *connector;
            let fits = heads.checked_mul(head_dim).is_some_and(|dim| (2..=LARGEST).contains(&dim));
            if !fits || !head_dim.is_multiple_of(2) || blocks > MOST_LAYERS || !(1..=LARGEST).contains(&registers) {
                return refuse(format!(
                    "the {name} connector has {heads} heads of {head_dim}, {blocks} blocks and {registers} registers"
                ));
            }
            if self.features == Features::Shared && connector.dim() != self.hidden_size {
                return refuse(format!(
                    "the {name} connector has {} channels, its input {}",
                    connector.dim(),
                    self.hidden_size
                ));
            }
        }
        if !self.rope_theta.is_finite() || self.rope_theta <= 0.0 {
            return refuse(format!("`rope_theta` is {}", self.rope_theta));
        }
        Ok(())
    }
}

/// config.json of diffusers' `LTX2TextConnectors`, with its defaults.
#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the fields are those of the file")]
struct Fields {
    caption_channels: usize,
    text_proj_in_factor: usize,
    video_connector_num_attention_heads: usize,
    video_connector_attention_head_dim: usize,
    video_connector_num_layers: usize,
    video_connector_num_learnable_registers: usize,
    #[serde(default)]
    video_gated_attn: bool,
    audio_connector_num_attention_heads: usize,
    audio_connector_attention_head_dim: usize,
    audio_connector_num_layers: usize,
    audio_connector_num_learnable_registers: usize,
    #[serde(default)]
    audio_gated_attn: bool,
    connector_rope_base_seq_len: usize,
    rope_theta: f64,
    rope_double_precision: bool,
    rope_type: Option<String>,
    #[serde(default)]
    per_modality_projections: bool,
    video_hidden_dim: Option<usize>,
    audio_hidden_dim: Option<usize>,
    #[serde(default)]
    proj_bias: bool,
}

impl Fields {
    fn config(&self) -> Result<ConnectorsConfig> {
        let refuse = |reason: String| Err(Error::Config { reason });
        let rope_type = self.rope_type.as_deref().unwrap_or("interleaved");
        if rope_type != "split" || !self.rope_double_precision {
            return refuse(format!(
                "`rope_type` `{rope_type}` with `rope_double_precision` {} is not supported, only `split` with it",
                self.rope_double_precision
            ));
        }
        if self.proj_bias != self.per_modality_projections {
            return refuse(format!(
                "`proj_bias` {} with `per_modality_projections` {} is not supported",
                self.proj_bias, self.per_modality_projections
            ));
        }
        let config = ConnectorsConfig {
            hidden_size: self.caption_channels,
            states: self.text_proj_in_factor,
            features: if self.per_modality_projections { Features::PerModality } else { Features::Shared },
            video: ConnectorConfig {
                heads: self.video_connector_num_attention_heads,
                head_dim: self.video_connector_attention_head_dim,
                blocks: self.video_connector_num_layers,
                registers: self.video_connector_num_learnable_registers,
                gated: self.video_gated_attn,
            },
            audio: ConnectorConfig {
                heads: self.audio_connector_num_attention_heads,
                head_dim: self.audio_connector_attention_head_dim,
                blocks: self.audio_connector_num_layers,
                registers: self.audio_connector_num_learnable_registers,
                gated: self.audio_gated_attn,
            },
            rope_length: self.connector_rope_base_seq_len,
            rope_theta: self.rope_theta,
        };
        config.check()?;
        let widths = [(self.video_hidden_dim, config.video.dim()), (self.audio_hidden_dim, config.audio.dim())];
        match widths.into_iter().find(|(width, dim)| width.is_some_and(|width| width != *dim)) {
            Some((Some(width), dim)) if self.per_modality_projections => {
                refuse(format!("a projection to {width} channels does not fit a connector of {dim}"))
            }
            _ => Ok(config),
        }
    }
}

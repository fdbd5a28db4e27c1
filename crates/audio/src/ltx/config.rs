//! [`Config`] of the audio autoencoder, from either kind of configuration or from the tensors themselves, and the released one.

mod original;

use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Stages of every model: what is decoded is cut to four mel frames per latent.
const STAGES: usize = 3;

/// Architecture of the audio autoencoder. Field names are those of diffusers' config.json
/// (<https://github.com/huggingface/diffusers/blob/v0.42.1/src/diffusers/models/autoencoders/autoencoder_kl_ltx2_audio.py>); absent fields
/// have the released values.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels at full resolution, and of a token.
    pub base_channels: usize,
    /// Channels of sound of the decoder.
    pub output_channels: usize,
    /// Channels of each stage over the base; between two stages frames and bins halve.
    pub ch_mult: Vec<usize>,
    /// Residual blocks of an encoder stage; a decoder stage has one more.
    pub num_res_blocks: usize,
    /// Resolutions with attention: none in any released model, and only none is supported.
    pub attn_resolutions: Option<Vec<usize>>,
    /// Channels of sound of the encoder.
    pub in_channels: usize,
    /// Latent channels.
    pub latent_channels: usize,
    /// The norm; `pixel` is supported.
    pub norm_type: String,
    /// The axis along which convolutions are causal; `height`, which is time, is supported.
    pub causality_axis: Option<String>,
    /// Whether the middle has attention; only `false` is supported.
    pub mid_block_add_attention: bool,
    /// Samples a second of the waveform that mel spectrograms are made of.
    pub sample_rate: usize,
    /// Samples from one mel frame to the next.
    pub mel_hop_length: usize,
    /// Samples of a mel frame's window; only the original's configuration says it.
    pub mel_window: usize,
    /// Bins of a channel's mel spectrogram.
    pub mel_bins: usize,
    /// Whether the encoder's result has a variance behind the mean.
    pub double_z: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self::ltx2()
    }
}

impl Config {
    /// The autoencoder of LTX-2.0, 2.3 and 2.5.
    pub fn ltx2() -> Self {
        Self {
            base_channels: 128,
            output_channels: 2,
            ch_mult: vec![1, 2, 4],
            num_res_blocks: 2,
            attn_resolutions: None,
            in_channels: 2,
            latent_channels: 8,
            norm_type: "pixel".to_string(),
            causality_axis: Some("height".to_string()),
            mid_block_add_attention: false,
            sample_rate: 16_000,
            mel_hop_length: 160,
            mel_window: 1024,
            mel_bins: 64,
            double_z: true,
        }
    }

    /// Reads diffusers' config.json, or the JSON that the original's files have as `config` in their metadata.
    ///
    /// # Errors
    /// Text that is no JSON of either form, and dimensions that do not fit together.
    pub fn from_json(text: &str) -> Result<Self> {
        let json = |source| Error::Json { part: "audio VAE", source };
        let value: Value = serde_json::from_str(text).map_err(json)?;
        let config = match value.get("audio_vae") {
            Some(section) => original::read(section)?,
            None => serde_json::from_value(value).map_err(json)?,
        };
        config.validate()?;
        Ok(config)
    }

    /// Tells the dimensions from the canonical names and shapes of tensors; of a decoder alone, too.
    ///
    /// # Errors
    /// Tensors of no such autoencoder.
    pub fn infer(shapes: &[(String, Vec<usize>)]) -> Result<Self> {
        let shapes: BTreeMap<&str, &[usize]> =
            shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
        let missing = |name: &str| Error::Infer { part: "audio VAE", problem: format!("there is no `{name}`") };
        let size = |name: String, axis: usize| -> Result<usize> {
            shapes.get(name.as_str()).and_then(|shape| shape.get(axis)).copied().ok_or_else(|| missing(&name))
        };
        let count = |name: &dyn Fn(usize) -> String| {
            (0..1024usize).take_while(|&at| shapes.contains_key(name(at).as_str())).count()
        };
        // The mean and the deviation of every channel of a token.
        let base_channels = size("per_channel_statistics.mean-of-means".to_string(), 0)?;
        let stages = count(&|stage| format!("decoder.up.{stage}.block.0.conv1.conv.weight"));
        let channels = (0..stages).map(|stage| size(format!("decoder.up.{stage}.block.0.conv1.conv.weight"), 0));
        let channels = channels.collect::<Result<Vec<_>>>()?;
        let latent_channels = size("decoder.conv_in.conv.weight".to_string(), 1)?;
        let output_channels = size("decoder.conv_out.conv.weight".to_string(), 0)?;
        let encoder = |name: &str, axis| size(format!("encoder.{name}.conv.weight"), axis);
        let config = Self {
            base_channels,
            output_channels,
            ch_mult: channels.iter().map(|channels| channels / base_channels.max(1)).collect(),
            num_res_blocks: count(&|block| format!("decoder.up.0.block.{block}.conv1.conv.weight")).saturating_sub(1),
            in_channels: encoder("conv_in", 1).unwrap_or(output_channels),
            latent_channels,
            mel_bins: (base_channels / latent_channels.max(1)) << (STAGES - 1),
            double_z: encoder("conv_out", 0).map_or(true, |channels| channels != latent_channels),
            ..Self::ltx2()
        };
        config.validate()?;
        Ok(config)
    }

    /// Returns the mel frames of a latent, which are as many as the mel bins of a latent bin.
    pub fn factor(&self) -> usize {
        1 << (STAGES - 1)
    }

    /// Returns the latent bins of a channel.
    pub fn latent_bins(&self) -> usize {
        self.mel_bins / self.factor()
    }

    /// Returns the channels of every stage.
    pub(super) fn channels(&self) -> Vec<usize> {
        self.ch_mult.iter().map(|mult| mult * self.base_channels).collect()
    }

    /// Checks that the parts fit together; the first that does not is the error.
    pub fn validate(&self) -> Result<()> {
        within("base_channels", self.base_channels, 1, 1 << 16)?;
        within("output_channels", self.output_channels, 1, 64)?;
        within("in_channels", self.in_channels, 1, 64)?;
        within("latent_channels", self.latent_channels, 1, 1 << 12)?;
        within("num_res_blocks", self.num_res_blocks, 1, 64)?;
        if self.ch_mult.len() != STAGES {
            return wrong("ch_mult", format!("has {} entries, must have {STAGES}", self.ch_mult.len()));
        }
        self.ch_mult.iter().try_for_each(|&mult| within("ch_mult", mult, 1, 1 << 8))?;
        within("sample_rate", self.sample_rate, 1, 1 << 20)?;
        within("mel_hop_length", self.mel_hop_length, 1, 1 << 16)?;
        within("mel_window", self.mel_window, 2, 1 << 16)?;
        within("mel_bins", self.mel_bins, 1, 1 << 12)?;
        if !self.mel_bins.is_multiple_of(self.factor()) || self.mel_window % 2 == 1 {
            let problem = format!(
                "are {}, in windows of {} samples, for a factor of {}",
                self.mel_bins,
                self.mel_window,
                self.factor()
            );
            return wrong("mel_bins", problem);
        }
        let token = self.latent_channels * self.latent_bins();
        within("base_channels", self.base_channels, token, token)?;
        if self.norm_type != "pixel" {
            return wrong("norm_type", format!("is `{}`, must be `pixel`", self.norm_type));
        }
        if self.causality_axis.as_deref() != Some("height") {
            return wrong("causality_axis", format!("is {:?}, must be `height`", self.causality_axis));
        }
        if let Some(resolutions) = self.attn_resolutions.as_ref().filter(|resolutions| !resolutions.is_empty()) {
            return wrong("attn_resolutions", format!("is {resolutions:?}, only [] is supported"));
        }
        if self.mid_block_add_attention {
            return wrong("mid_block_add_attention", "is true, must be false".to_string());
        }
        Ok(())
    }
}

fn within(field: &'static str, value: usize, low: usize, high: usize) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let range = if low == high { format!("{low}") } else { format!("{low} to {high}") };
    wrong(field, format!("is {value}, must be {range}"))
}

fn wrong<T>(field: &'static str, problem: String) -> Result<T> {
    Err(Error::Config { part: "audio VAE", field, problem })
}

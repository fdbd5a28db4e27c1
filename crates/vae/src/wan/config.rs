//! [`Config`] of the Wan autoencoders, as in diffusers' config.json, and the released ones.

use crate::{Error, LatentFormat, Result};
use serde::Deserialize;

/// Architecture of a Wan autoencoder. Field names, `temperal` included, are those of diffusers' config.json
/// (<https://github.com/huggingface/diffusers/blob/v0.42.1/src/diffusers/models/autoencoders/autoencoder_kl_wan.py>);
/// what a file leaves out is as in Wan 2.1.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels of the encoder at full resolution.
    pub base_dim: usize,
    /// Channels of the decoder at full resolution, if they differ.
    pub decoder_base_dim: Option<usize>,
    /// Latent channels.
    pub z_dim: usize,
    /// Channels of each stage over the base; between two stages height and width halve.
    pub dim_mult: Vec<usize>,
    /// Residual blocks of an encoder stage; a decoder stage has one more.
    pub num_res_blocks: usize,
    /// Scales with attention in the encoder's stages: none in any released model, and only none is supported.
    pub attn_scales: Vec<f64>,
    /// Whether the frames halve too, between each two stages.
    pub temperal_downsample: Vec<bool>,
    /// Whether stages have parameterless shortcuts, as in Wan 2.2.
    pub is_residual: bool,
    /// Input channels of the encoder, after patchify.
    pub in_channels: usize,
    /// Output channels of the decoder, before unpatchify.
    pub out_channels: usize,
    /// Pixels per side of a patch that becomes channels; none is 1.
    pub patch_size: Option<usize>,
    /// Pixel frames per latent frame, where the file says it; must be what the stages make of it.
    pub scale_factor_temporal: Option<usize>,
    /// Pixels per latent, where the file says it; must be what the stages make of it.
    pub scale_factor_spatial: Option<usize>,
    /// Mean of each latent channel.
    pub latents_mean: Vec<f32>,
    /// Standard deviation of each latent channel.
    pub latents_std: Vec<f32>,
}

impl Default for Config {
    fn default() -> Self {
        Self::wan21()
    }
}

impl Config {
    /// The autoencoder of Wan 2.1 and of Wan 2.2 A14B: 16 channels, 4×8×8.
    pub fn wan21() -> Self {
        Self {
            base_dim: 96,
            decoder_base_dim: None,
            z_dim: 16,
            dim_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            attn_scales: Vec::new(),
            temperal_downsample: vec![false, true, true],
            is_residual: false,
            in_channels: 3,
            out_channels: 3,
            patch_size: None,
            scale_factor_temporal: None,
            scale_factor_spatial: None,
            latents_mean: WAN21_MEAN.to_vec(),
            latents_std: WAN21_STD.to_vec(),
        }
    }

    /// The autoencoder of Wan 2.2 TI2V-5B: 48 channels, 4×16×16.
    pub fn wan22() -> Self {
        Self {
            base_dim: 160,
            decoder_base_dim: Some(256),
            z_dim: 48,
            is_residual: true,
            in_channels: 12,
            out_channels: 12,
            patch_size: Some(2),
            latents_mean: WAN22_MEAN.to_vec(),
            latents_std: WAN22_STD.to_vec(),
            ..Self::wan21()
        }
    }

    /// Reads diffusers' config.json.
    pub fn from_json(text: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(text)?;
        config.validate()?;
        Ok(config)
    }

    /// Size and scale of the latents.
    pub fn latent_format(&self) -> LatentFormat {
        let halvings = self.temperal_downsample.iter().filter(|&&halves| halves).count();
        LatentFormat {
            channels: self.z_dim,
            temporal_factor: 1 << halvings,
            spatial_factor: self.patch() << self.temperal_downsample.len(),
            mean: self.latents_mean.clone(),
            std: self.latents_std.clone(),
        }
    }

    /// Checks that the parts fit together; the first that does not is the error.
    pub fn validate(&self) -> Result<()> {
        self.validate_sizes()?;
        self.validate_stages()?;
        self.validate_latents()
    }

    pub(super) fn patch(&self) -> usize {
        self.patch_size.unwrap_or(1)
    }

    /// Channels into the encoder's first stage, then out of each stage.
    pub(super) fn encoder_dims(&self) -> Vec<usize> {
        [1].iter().chain(&self.dim_mult).map(|mult| self.base_dim * mult).collect()
    }

    /// Channels of the decoder's stages as `(in, out)`, lowest resolution first.
    pub(super) fn decoder_dims(&self) -> Vec<(usize, usize)> {
        let base = self.decoder_base_dim.unwrap_or(self.base_dim);
        let outs: Vec<usize> = self.dim_mult.iter().rev().map(|mult| base * mult).collect();
        let ins = outs[..1].iter().chain(&outs[..outs.len() - 1]);
        // Wan 2.1's upsampling halves the channels, Wan 2.2's keeps them.
        let halving = |stage: usize| if stage > 0 && !self.is_residual { 2 } else { 1 };
        ins.zip(&outs).enumerate().map(|(stage, (&input, &output))| (input / halving(stage), output)).collect()
    }

    fn validate_sizes(&self) -> Result<()> {
        within("base_dim", self.base_dim, 1, 1 << 16)?;
        within("decoder_base_dim", self.decoder_base_dim.unwrap_or(self.base_dim), 1, 1 << 16)?;
        within("z_dim", self.z_dim, 1, 1 << 12)?;
        within("num_res_blocks", self.num_res_blocks, 1, 64)?;
        within("patch_size", self.patch(), 1, 64)?;
        for &mult in &self.dim_mult {
            within("dim_mult", mult, 1, 1 << 10)?;
        }
        if !self.attn_scales.is_empty() {
            return wrong("attn_scales", format!("is {:?}, only [] is supported", self.attn_scales));
        }
        let channels = 3 * self.patch() * self.patch();
        within("in_channels", self.in_channels, channels, channels)?;
        within("out_channels", self.out_channels, channels, channels)
    }

    fn validate_stages(&self) -> Result<()> {
        let stages = self.dim_mult.len();
        if !(1..=8).contains(&stages) {
            return wrong("dim_mult", format!("has {stages} entries, must have 1 to 8"));
        }
        let transitions = self.temperal_downsample.len();
        if transitions + 1 != stages {
            return wrong("temperal_downsample", format!("has {transitions} entries for {stages} of `dim_mult`"));
        }
        if self.is_residual { self.validate_shortcuts() } else { self.validate_halving() }
    }

    /// Wan 2.1's upsampling halves the channels of every stage but the last.
    fn validate_halving(&self) -> Result<()> {
        let dims = self.decoder_dims();
        match dims[..dims.len() - 1].iter().find(|(_, output)| output % 2 == 1) {
            Some((_, output)) => wrong("dim_mult", format!("gives a decoder stage {output} channels, an odd number")),
            None => Ok(()),
        }
    }

    /// Wan 2.2's shortcuts average and repeat whole groups of channels.
    fn validate_shortcuts(&self) -> Result<()> {
        let last = self.temperal_downsample.len();
        let factor = |halves: Option<&bool>| halves.map_or(1, |&halves| if halves { 8 } else { 4 });
        for (stage, pair) in self.encoder_dims().windows(2).enumerate() {
            if pair[0] * factor(self.temperal_downsample.get(stage)) % pair[1] != 0 {
                return wrong("dim_mult", format!("gives no whole groups from {} to {} channels", pair[0], pair[1]));
            }
        }
        for (stage, (input, output)) in self.decoder_dims().into_iter().enumerate().take(last) {
            if output * factor(self.temperal_downsample.get(last - 1 - stage)) % input != 0 {
                return wrong("dim_mult", format!("gives no whole groups from {input} to {output} channels"));
            }
        }
        Ok(())
    }

    fn validate_latents(&self) -> Result<()> {
        for (field, values) in [("latents_mean", &self.latents_mean), ("latents_std", &self.latents_std)] {
            if values.len() != self.z_dim {
                return wrong(field, format!("has {} entries for a `z_dim` of {}", values.len(), self.z_dim));
            }
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return wrong(field, format!("has the entry {value}"));
            }
        }
        if let Some(value) = self.latents_std.iter().find(|&&value| value <= 0.0) {
            return wrong("latents_std", format!("has the entry {value}, must be above 0"));
        }
        let format = self.latent_format();
        let (temporal, spatial) = (format.temporal_factor, format.spatial_factor);
        within("scale_factor_temporal", self.scale_factor_temporal.unwrap_or(temporal), temporal, temporal)?;
        within("scale_factor_spatial", self.scale_factor_spatial.unwrap_or(spatial), spatial, spatial)
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
    Err(Error::Config { field, problem })
}

const WAN21_MEAN: [f32; 16] = [
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632, -0.1922,
    -0.9497, 0.2503, -0.2921,
];

const WAN21_STD: [f32; 16] = [
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253,
    2.8251, 1.916,
];

const WAN22_MEAN: [f32; 48] = [
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891, 0.157,
    -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502, -0.2055, -0.0322,
    0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.123, -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.052,
    0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
];

const WAN22_STD: [f32; 48] = [
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165,
    0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659, 0.7069, 0.5338, 0.4889, 0.4917,
    0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.06,
    0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
];

//! [`UpsamplerConfig`]: what an upsampler enlarges, and its sizes.

use crate::{Error, Result};
use kinora_checkpoint::KeyMap;
use serde::Deserialize;

/// Groups of channels that a norm takes together.
pub(super) const GROUPS: usize = 32;

/// Architecture of a [`LatentUpsampler`](super::LatentUpsampler).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpsamplerConfig {
    /// Latent channels.
    pub channels: usize,
    /// Channels inside; a multiple of 32.
    pub mid_channels: usize,
    /// Residual blocks before the layer that enlarges, and after it.
    pub blocks: usize,
    /// What is enlarged.
    pub upsampling: Upsampling,
}

/// What an upsampler enlarges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upsampling {
    /// Rows and columns, twice (LTX-2.3).
    Spatial,
    /// Rows and columns, by a fraction: a pixel shuffle by the numerator, then, where the denominator is above 1, a blur
    /// that keeps each position of so many (LTX-2.0, by 2/1).
    Rational {
        /// The numerator.
        up: usize,
        /// The denominator.
        down: usize,
    },
    /// Frames: `F` become `2F - 1`.
    Temporal,
}

/// The fields of diffusers' config.json, and under other names those of the metadata of Lightricks' files.
#[derive(Deserialize)]
struct Fields {
    #[serde(default = "latent_channels")]
    in_channels: usize,
    mid_channels: usize,
    #[serde(default = "four")]
    num_blocks_per_stage: usize,
    #[serde(default = "three")]
    dims: usize,
    #[serde(default = "yes")]
    spatial_upsample: bool,
    #[serde(default)]
    temporal_upsample: bool,
    #[serde(default = "two", alias = "spatial_scale")]
    rational_spatial_scale: f64,
    #[serde(default, alias = "rational_resampler")]
    use_rational_resampler: bool,
}

impl UpsamplerConfig {
    /// Reads diffusers' config.json of an `LTX2LatentUpsamplerModel`, or what Lightricks' files have as `config` in their
    /// metadata.
    ///
    /// # Errors
    /// JSON of another form, or a configuration that is not supported.
    pub fn from_json(text: &str) -> Result<Self> {
        let fields: Fields = serde_json::from_str(text)?;
        if fields.dims != 3 {
            return wrong("dims", format!("is {}, only 3 is supported", fields.dims));
        }
        let upsampling = match (fields.spatial_upsample, fields.temporal_upsample, fields.use_rational_resampler) {
            (true, false, false) => Upsampling::Spatial,
            (true, false, true) => rational(fields.rational_spatial_scale)?,
            (false, true, _) => Upsampling::Temporal,
            (spatial, _, _) => return wrong("temporal_upsample", format!("is {spatial}, as `spatial_upsample` is")),
        };
        let (channels, mid_channels) = (fields.in_channels, fields.mid_channels);
        let config = Self { channels, mid_channels, blocks: fields.num_blocks_per_stage, upsampling };
        config.validate()?;
        Ok(config)
    }

    /// Takes the configuration from names and shapes of tensors, as
    /// [`Weights::shapes`](kinora_checkpoint::Weights::shapes) returns them.
    ///
    /// # Errors
    /// Tensors that are not those of an upsampler.
    pub fn from_shapes(shapes: &[(String, Vec<usize>)]) -> Result<Self> {
        let shape = |wanted: &str| {
            let found = shapes.iter().find(|(name, _)| name == wanted);
            found.map(|(_, shape)| shape.as_slice())
        };
        let Some(&[mid_channels, channels, ..]) = shape("initial_conv.weight") else {
            return wrong(
                "mid_channels",
                "is not told by the tensors, which have no `initial_conv.weight`".to_string(),
            );
        };
        let blocks =
            (0..1024usize).take_while(|index| shape(&format!("res_blocks.{index}.conv1.weight")).is_some()).count();
        let upsampling = match (shape("upsampler.0.weight"), shape("upsampler.conv.weight")) {
            (Some(&[_, _, _, _, _]), None) => Upsampling::Temporal,
            (Some(_), None) => Upsampling::Spatial,
            // Of the scales that there are, no two have the same numerator but one and a half, whose 3 is that of 3/4.
            (None, Some(&[outputs, ..])) if mid_channels > 0 => match (outputs / mid_channels).isqrt() {
                3 => rational(1.5)?,
                up => rational(up as f64)?,
            },
            _ => return wrong("spatial_upsample", "is not told by the tensors".to_string()),
        };
        let config = Self { channels, mid_channels, blocks, upsampling };
        config.validate()?;
        Ok(config)
    }

    /// Checks sizes; the first that is wrong is the error.
    pub(super) fn validate(&self) -> Result<()> {
        for (field, value, most) in [
            ("in_channels", self.channels, 1 << 12),
            ("mid_channels", self.mid_channels, 1 << 16),
            ("num_blocks_per_stage", self.blocks, 64),
        ] {
            if value == 0 || value > most {
                return wrong(field, format!("is {value}, must be 1 to {most}"));
            }
        }
        if !self.mid_channels.is_multiple_of(GROUPS) {
            return wrong("mid_channels", format!("is {}, must be a multiple of {GROUPS}", self.mid_channels));
        }
        Ok(())
    }
}

/// Returns the map of a file that has an upsampler alone; all layouts have the original's names.
pub fn upsampler_names() -> KeyMap {
    KeyMap::identity("LTX-2 latent upsampler").anchored(["initial_conv.weight"])
}

fn rational(scale: f64) -> Result<Upsampling> {
    let known = [(0.75, 3, 4), (1.5, 3, 2), (2.0, 2, 1), (4.0, 4, 1)];
    match known.into_iter().find(|(known, _, _)| (known - scale).abs() < 1e-9) {
        Some((_, up, down)) => Ok(Upsampling::Rational { up, down }),
        None => wrong("rational_spatial_scale", format!("is {scale}, only 0.75, 1.5, 2 and 4 are supported")),
    }
}

fn wrong<T>(field: &'static str, problem: String) -> Result<T> {
    Err(Error::Config { field, problem })
}

fn latent_channels() -> usize {
    128
}

fn four() -> usize {
    4
}

fn three() -> usize {
    3
}

fn yes() -> bool {
    true
}

fn two() -> f64 {
    2.0
}

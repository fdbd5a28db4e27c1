//! Reads a [`Config`]: from diffusers' config.json, from the metadata of Lightricks' files, or from the shapes of the tensors.

use super::config::{
    Block, Config, Padding, Resample, SPATIAL, SPATIOTEMPORAL, TEMPORAL, alternating, volume, within, wrong,
};
use crate::Result;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Debug;

impl Config {
    /// Reads diffusers' config.json of an `AutoencoderKLLTX2Video`, or what Lightricks' files have as `config` in their
    /// metadata: with a field `vae`, or that field alone.
    ///
    /// # Errors
    /// JSON of another form, or a configuration that is not supported.
    pub fn from_json(text: &str) -> Result<Self> {
        let mut json: Value = serde_json::from_str(text)?;
        if let Some(vae) = json.get_mut("vae") {
            json = vae.take();
        }
        let config = if json.get("encoder_blocks").is_some() || json.get("decoder_blocks").is_some() {
            Original::deserialize(json)?.into_config()?
        } else if json.get("decoder").is_some_and(Value::is_object) {
            let class = json.get("_class_name").cloned().unwrap_or_default();
            return wrong("_class_name", format!("is {class}, only \"CausalVideoAutoencoder\" is supported"));
        } else {
            Diffusers::deserialize(json)?.into_config()?
        };
        config.validate()?;
        Ok(config)
    }

    /// Takes the configuration from canonical names and shapes of tensors, as
    /// [`Weights::shapes`](kinora_checkpoint::Weights::shapes) returns them. They do not tell how the decoder's convolutions
    /// see the edge of a frame, nor whether its upsampling is residual: both are as in LTX-2.0 where the decoder enlarges
    /// all axes together, and otherwise as in LTX-2.3.
    ///
    /// # Errors
    /// Tensors that are not those of an autoencoder.
    pub fn from_shapes(shapes: &[(String, Vec<usize>)]) -> Result<Self> {
        let shapes: BTreeMap<&str, &[usize]> =
            shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
        let conv = |name: &str| match shapes.get(format!("{name}.conv.weight").as_str()) {
            Some(&&[outputs, inputs, 3, 3, 3]) => Some([outputs, inputs]),
            _ => None,
        };
        let found = |field, name: &str| match conv(name) {
            Some(found) => Ok(found),
            None => wrong(field, format!("are not told by the tensors, which have no `{name}.conv.weight`")),
        };
        let [latent_channels, patched] = found("latent_channels", "encoder.conv_in")?;
        let [decoder_channels, _] = found("decoder_channels", "decoder.conv_in")?;
        let patch_size = (patched / 3).isqrt();
        if 3 * patch_size * patch_size != patched {
            return wrong("patch_size", format!("is not told by {patched} channels of `encoder.conv_in`"));
        }
        let [_, encoded] = found("encoder_blocks", "encoder.conv_out")?;
        let [_, decoded] = found("decoder_blocks", "decoder.conv_out")?;
        let down = Tensors { blocks: "encoder.down_blocks", is_encoder: true, last: encoded };
        let up = Tensors { blocks: "decoder.up_blocks", is_encoder: false, last: decoded };
        let encoder_blocks = down.read("encoder_blocks", latent_channels, &conv)?;
        let mut decoder_blocks = up.read("decoder_blocks", decoder_channels, &conv)?;
        let is_first = decoder_blocks.iter().all(|block| match block {
            Block::Resample(resample) => resample.stride == SPATIOTEMPORAL,
            Block::Residual { .. } => true,
        });
        for block in &mut decoder_blocks {
            if let Block::Resample(resample) = block {
                resample.residual = is_first;
            }
        }
        let config = Self {
            latent_channels,
            patch_size,
            encoder_blocks,
            decoder_channels,
            decoder_blocks,
            encoder_padding: Padding::Zeros,
            decoder_padding: if is_first { Padding::Reflect } else { Padding::Zeros },
        };
        config.validate()?;
        Ok(config)
    }
}

/// The tensors of one half.
struct Tensors {
    blocks: &'static str,
    is_encoder: bool,
    /// Channels of the last block's result.
    last: usize,
}

impl Tensors {
    /// Reads the blocks; `conv` knows outputs and inputs of the convolutions that are there.
    fn read(
        &self,
        field: &'static str,
        mut channels: usize,
        conv: &impl Fn(&str) -> Option<[usize; 2]>,
    ) -> Result<Vec<Block>> {
        let (mut blocks, name) = (Vec::new(), self.blocks);
        loop {
            let index = blocks.len();
            let residual = |layer| conv(&format!("{name}.{index}.res_blocks.{layer}.conv1"));
            let layers = (0..1024usize).take_while(|&layer| residual(layer).is_some()).count();
            if layers > 0 {
                blocks.push(Block::Residual { layers });
                continue;
            }
            let Some([made, _]) = conv(&format!("{name}.{index}.conv")) else { return Ok(blocks) };
            // The next convolution's inputs are this block's outputs.
            let next = [format!("{name}.{}.res_blocks.0.conv1", index + 1), format!("{name}.{}.conv", index + 1)];
            let outputs = next.iter().find_map(|name| conv(name)).map_or(self.last, |[_, inputs]| inputs);
            let (larger, smaller) = if self.is_encoder { (outputs, made) } else { (made, outputs) };
            let strides = [SPATIAL, TEMPORAL, SPATIOTEMPORAL];
            let Some(stride) = strides.into_iter().find(|&stride| smaller.saturating_mul(volume(stride)) == larger)
            else {
                let problem = format!("lead from {channels} over {made} to {outputs} channels in `{name}.{index}`");
                return wrong(field, problem);
            };
            blocks.push(Block::Resample(Resample { stride, outputs, residual: self.is_encoder }));
            channels = outputs;
        }
    }
}

/// The fields of diffusers' config.json
/// (<https://github.com/huggingface/diffusers/blob/v0.42.1/src/diffusers/models/autoencoders/autoencoder_kl_ltx2.py>).
#[derive(Deserialize)]
struct Diffusers {
    latent_channels: usize,
    #[serde(default = "four")]
    patch_size: usize,
    #[serde(default = "one")]
    patch_size_t: usize,
    block_out_channels: Vec<usize>,
    layers_per_block: Vec<usize>,
    downsample_type: Vec<String>,
    spatio_temporal_scaling: OneOrEach,
    decoder_block_out_channels: Vec<usize>,
    decoder_layers_per_block: Vec<usize>,
    decoder_spatio_temporal_scaling: OneOrEach,
    decoder_inject_noise: OneOrEach,
    upsample_type: Vec<String>,
    upsample_residual: OneOrEach,
    upsample_factor: Vec<usize>,
    timestep_conditioning: bool,
    #[serde(default = "unscaled")]
    scaling_factor: f64,
    encoder_causal: bool,
    decoder_causal: bool,
    encoder_spatial_padding_mode: String,
    decoder_spatial_padding_mode: String,
}

/// A value for all blocks, or one for each.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrEach {
    One(bool),
    Each(Vec<bool>),
}

impl OneOrEach {
    /// Returns the value of each of `count` blocks.
    fn of(&self, field: &'static str, count: usize) -> Result<Vec<bool>> {
        match self {
            Self::One(value) => Ok(vec![*value; count]),
            Self::Each(values) => {
                within(field, values.len(), count, count)?;
                Ok(values.clone())
            }
        }
    }
}

impl Diffusers {
    fn into_config(self) -> Result<Config> {
        self.check_fixed()?;
        let (downs, ups) = (self.block_out_channels.len(), self.decoder_block_out_channels.len());
        within("layers_per_block", self.layers_per_block.len(), downs + 1, downs + 1)?;
        within("decoder_layers_per_block", self.decoder_layers_per_block.len(), ups + 1, ups + 1)?;
        within("downsample_type", self.downsample_type.len(), downs, downs)?;
        within("upsample_type", self.upsample_type.len(), ups, ups)?;
        within("upsample_factor", self.upsample_factor.len(), ups, ups)?;
        for (field, scaling, count) in [
            ("spatio_temporal_scaling", &self.spatio_temporal_scaling, downs),
            ("decoder_spatio_temporal_scaling", &self.decoder_spatio_temporal_scaling, ups),
        ] {
            fixed(field, scaling.of(field, count)?.contains(&false), false)?;
        }
        let mut down = Vec::with_capacity(downs);
        for (kind, &outputs) in self.downsample_type.iter().zip(&self.block_out_channels) {
            let stride = stride("downsample_type", kind)?;
            down.push(Block::Resample(Resample { stride, outputs, residual: true }));
        }
        // The lists of the decoder are those of a mirrored encoder, but for the kinds.
        let (mut channels, mut up) = (self.decoder_block_out_channels.last().copied().unwrap_or_default(), Vec::new());
        let decoder_channels = channels;
        let residual = self.upsample_residual.of("upsample_residual", ups)?;
        for (index, kind) in self.upsample_type.iter().enumerate() {
            let mirrored = ups - 1 - index;
            let (inputs, factor) = (self.decoder_block_out_channels[mirrored], self.upsample_factor[mirrored]);
            if inputs != channels || factor == 0 || inputs % factor != 0 {
                return wrong(
                    "decoder_block_out_channels",
                    format!("gives {inputs} channels where {channels} come in"),
                );
            }
            channels = inputs / factor;
            let resample =
                Resample { stride: stride("upsample_type", kind)?, outputs: channels, residual: residual[mirrored] };
            up.push(Block::Resample(resample));
        }
        let decoder_layers: Vec<usize> = self.decoder_layers_per_block.iter().rev().copied().collect();
        Ok(Config {
            latent_channels: self.latent_channels,
            patch_size: self.patch_size,
            encoder_blocks: alternating(&self.layers_per_block, &down),
            decoder_channels,
            decoder_blocks: alternating(&decoder_layers, &up),
            encoder_padding: padding("encoder_spatial_padding_mode", &self.encoder_spatial_padding_mode)?,
            decoder_padding: padding("decoder_spatial_padding_mode", &self.decoder_spatial_padding_mode)?,
        })
    }

    /// Checks the fields that have one value in every released model.
    fn check_fixed(&self) -> Result<()> {
        let noise = self.decoder_inject_noise.of("decoder_inject_noise", self.decoder_layers_per_block.len())?;
        fixed("decoder_inject_noise", noise.contains(&true), false)?;
        fixed("timestep_conditioning", self.timestep_conditioning, false)?;
        fixed("encoder_causal", self.encoder_causal, true)?;
        fixed("decoder_causal", self.decoder_causal, false)?;
        fixed("patch_size_t", self.patch_size_t, 1)?;
        fixed("scaling_factor", self.scaling_factor, 1.0)
    }
}

/// The fields of `vae` in the metadata of Lightricks' files
/// (<https://github.com/Lightricks/LTX-2/blob/400fd31054597515f47125691032c04b1c3ee24e/packages/ltx-core/src/ltx_core/model/video_vae/model_configurator.py>).
#[derive(Deserialize)]
struct Original {
    #[serde(default = "latent_channels")]
    latent_channels: usize,
    #[serde(default = "four")]
    patch_size: usize,
    encoder_blocks: Vec<(String, Parameters)>,
    decoder_blocks: Vec<(String, Parameters)>,
    #[serde(default = "latent_channels")]
    decoder_base_channels: usize,
    #[serde(default)]
    causal_decoder: bool,
    #[serde(default)]
    timestep_conditioning: bool,
    norm_layer: Option<String>,
    latent_log_var: Option<String>,
    /// Of both halves, in files after LTX-2.0.
    spatial_padding_mode: Option<String>,
    encoder_spatial_padding_mode: Option<String>,
    decoder_spatial_padding_mode: Option<String>,
}

/// The parameters of a block, or its number of layers alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Parameters {
    Layers(usize),
    Named {
        num_layers: Option<usize>,
        multiplier: Option<usize>,
        #[serde(default)]
        residual: bool,
        #[serde(default)]
        inject_noise: bool,
    },
}

impl Original {
    fn into_config(self) -> Result<Config> {
        fixed("timestep_conditioning", self.timestep_conditioning, false)?;
        fixed("causal_decoder", self.causal_decoder, false)?;
        fixed("norm_layer", self.norm_layer.as_deref().unwrap_or("pixel_norm"), "pixel_norm")?;
        fixed("latent_log_var", self.latent_log_var.as_deref().unwrap_or("uniform"), "uniform")?;
        let mut channels = self.latent_channels;
        let mut encoder_blocks = Vec::with_capacity(self.encoder_blocks.len());
        for (name, parameters) in &self.encoder_blocks {
            let stride = name.strip_suffix("_res").and_then(compress);
            encoder_blocks.push(parameters.block("encoder_blocks", name, stride, |multiplier| {
                channels = channels.saturating_mul(multiplier.unwrap_or(2));
                Resample { stride: SPATIAL, outputs: channels, residual: true }
            })?);
        }
        // The file lists the decoder's blocks from the pixels on.
        let factor = |(name, parameters): &(String, Parameters)| match parameters {
            Parameters::Named { multiplier: Some(multiplier), .. } if compress(name).is_some() => *multiplier,
            _ => 1,
        };
        channels = self.decoder_blocks.iter().map(factor).fold(self.decoder_base_channels, usize::saturating_mul);
        let decoder_channels = channels;
        let mut decoder_blocks = Vec::with_capacity(self.decoder_blocks.len());
        for (name, parameters) in self.decoder_blocks.iter().rev() {
            decoder_blocks.push(parameters.block("decoder_blocks", name, compress(name), |multiplier| {
                channels /= multiplier.unwrap_or(1).max(1);
                let residual = matches!(parameters, Parameters::Named { residual: true, .. });
                Resample { stride: SPATIAL, outputs: channels, residual }
            })?);
        }
        let both = self.spatial_padding_mode.as_deref();
        Ok(Config {
            latent_channels: self.latent_channels,
            patch_size: self.patch_size,
            encoder_blocks,
            decoder_channels,
            decoder_blocks,
            encoder_padding: padding(
                "encoder_spatial_padding_mode",
                both.or(self.encoder_spatial_padding_mode.as_deref()).unwrap_or("zeros"),
            )?,
            decoder_padding: padding(
                "decoder_spatial_padding_mode",
                both.or(self.decoder_spatial_padding_mode.as_deref()).unwrap_or("reflect"),
            )?,
        })
    }
}

impl Parameters {
    /// Returns the block called `name`, which resamples by `stride` if it has one; `resample` makes it, given the multiplier,
    /// with any stride.
    fn block(
        &self,
        field: &'static str,
        name: &str,
        stride: Option<[usize; 3]>,
        resample: impl FnOnce(Option<usize>) -> Resample,
    ) -> Result<Block> {
        let (layers, multiplier, inject_noise) = match self {
            Self::Layers(layers) => (Some(*layers), None, false),
            Self::Named { num_layers, multiplier, inject_noise, .. } => (*num_layers, *multiplier, *inject_noise),
        };
        fixed("inject_noise", inject_noise, false)?;
        match (name, layers, stride) {
            ("res_x", Some(layers), _) => Ok(Block::Residual { layers }),
            (_, _, Some(stride)) => Ok(Block::Resample(Resample { stride, ..resample(multiplier) })),
            _ => wrong(field, format!("have a block `{name}`, which is not supported")),
        }
    }
}

/// Returns the stride of a resampling block of Lightricks' files.
fn compress(name: &str) -> Option<[usize; 3]> {
    match name {
        "compress_space" => Some(SPATIAL),
        "compress_time" => Some(TEMPORAL),
        "compress_all" => Some(SPATIOTEMPORAL),
        _ => None,
    }
}

/// Returns the stride of a resampling layer of diffusers.
fn stride(field: &'static str, kind: &str) -> Result<[usize; 3]> {
    match kind {
        "spatial" => Ok(SPATIAL),
        "temporal" => Ok(TEMPORAL),
        "spatiotemporal" => Ok(SPATIOTEMPORAL),
        _ => wrong(field, format!("has the entry `{kind}`, which is not supported")),
    }
}

fn padding(field: &'static str, mode: &str) -> Result<Padding> {
    match mode {
        "zeros" => Ok(Padding::Zeros),
        "reflect" => Ok(Padding::Reflect),
        _ => wrong(field, format!("is `{mode}`, which is not supported")),
    }
}

/// Checks a field of which one value is supported.
fn fixed<T: Copy + PartialEq + Debug>(field: &'static str, value: T, expected: T) -> Result<()> {
    if value == expected { Ok(()) } else { wrong(field, format!("is {value:?}, only {expected:?} is supported")) }
}

fn one() -> usize {
    1
}

fn four() -> usize {
    4
}

fn latent_channels() -> usize {
    128
}

fn unscaled() -> f64 {
    1.0
}

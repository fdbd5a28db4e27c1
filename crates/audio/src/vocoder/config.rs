//! [`VocoderConfig`]: the dimensions of a vocoder, from either kind of configuration or from the tensors themselves.

mod diffusers;
mod infer;
mod original;

use crate::{Error, Result};
use serde_json::Value;

/// Mel frames a second of every released model: 16,000 samples in steps of 160.
const FRAMES_A_SECOND: usize = 100;
/// Far above any model, and small enough that products of dimensions stay within 64 bits.
const LARGEST: usize = 1 << 16;

/// The dimensions of a vocoder.
#[derive(Debug, Clone, PartialEq)]
pub struct VocoderConfig {
    /// The network that makes samples of mel spectrograms.
    pub generator: GeneratorConfig,
    /// The second network, where there is one.
    pub extension: Option<ExtensionConfig>,
    /// Samples a second of the result.
    pub sample_rate: usize,
}

/// The dimensions of a bandwidth extension: a network that makes the high frequencies of a waveform, from its mel spectrogram.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtensionConfig {
    /// The network that makes samples of mel spectrograms.
    pub generator: GeneratorConfig,
    /// Samples a second of the waveform that is extended.
    pub input_rate: usize,
    /// Samples of a window of the spectrogram.
    pub window: usize,
    /// Samples from one mel frame to the next.
    pub hop: usize,
    /// Mel bins of a channel of sound.
    pub bins: usize,
}

/// The dimensions of a generator, as in HiFi-GAN (<https://arxiv.org/abs/2010.05646>) and `BigVGAN` (<https://arxiv.org/abs/2206.04658>).
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratorConfig {
    /// Mel bins of all channels of sound.
    pub in_channels: usize,
    /// Channels before the first upsampling; each halves them.
    pub hidden_channels: usize,
    /// Channels of sound.
    pub out_channels: usize,
    /// How much longer each upsampling makes the signals.
    pub upsample_factors: Vec<usize>,
    /// Taps of each upsampling, even where its factor is even.
    pub upsample_kernel_sizes: Vec<usize>,
    /// Taps of the residual blocks beside each other after an upsampling, odd numbers.
    pub resnet_kernel_sizes: Vec<usize>,
    /// Dilations within each of those blocks.
    pub resnet_dilations: Vec<Vec<usize>>,
    /// The activation in blocks.
    pub activation: Activation,
    /// Whether the last convolution has a bias.
    pub final_bias: bool,
    /// What limits the samples.
    pub limit: Limit,
}

/// An activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `x`, or `slope · x` where it is negative.
    LeakyRelu {
        /// The slope of negative values; before the last convolution it is 0.01.
        slope: f64,
    },
    /// `x + sin²(αx)/β` with both parameters per channel, between two resamplings by 2.
    SnakeBeta,
}

/// What limits samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The hyperbolic tangent.
    Tanh,
    /// What is above 1 is 1, and what is below -1 is -1.
    Clamp,
    /// Nothing.
    None,
}

impl VocoderConfig {
    /// The vocoder of LTX-2.0: 24,000 samples a second.
    pub fn ltx20() -> Self {
        Self { generator: GeneratorConfig::ltx20(), extension: None, sample_rate: 24_000 }
    }

    /// The vocoder of LTX-2.3 and 2.5: 16,000 samples a second, extended to 48,000.
    pub fn ltx23() -> Self {
        let generator = GeneratorConfig {
            hidden_channels: 1536,
            upsample_factors: vec![5, 2, 2, 2, 2, 2],
            upsample_kernel_sizes: vec![11, 4, 4, 4, 4, 4],
            activation: Activation::SnakeBeta,
            final_bias: false,
            limit: Limit::Clamp,
            ..GeneratorConfig::ltx20()
        };
        let second = GeneratorConfig {
            hidden_channels: 512,
            upsample_factors: vec![6, 5, 2, 2, 2],
            upsample_kernel_sizes: vec![12, 11, 4, 4, 4],
            limit: Limit::None,
            ..generator.clone()
        };
        let extension = ExtensionConfig { generator: second, input_rate: 16_000, window: 512, hop: 80, bins: 64 };
        Self { generator, extension: Some(extension), sample_rate: 48_000 }
    }

    /// Reads diffusers' config.json, or the JSON that the original's files have as `config` in their metadata.
    ///
    /// # Errors
    /// Text that is no JSON of either form, and dimensions that do not fit together.
    pub fn from_json(text: &str) -> Result<Self> {
        let json = |source| Error::Json { part: "vocoder", source };
        let value: Value = serde_json::from_str(text).map_err(json)?;
        let config = match value.get("vocoder") {
            Some(section) => original::read(section)?,
            None => diffusers::read(value)?,
        };
        config.validate()?;
        Ok(config)
    }

    /// Tells the dimensions from the canonical names and shapes of tensors. They do not say by how much an upsampling makes signals longer,
    /// which is known for the released ones only.
    ///
    /// # Errors
    /// Tensors of no vocoder that is known.
    pub fn infer(shapes: &[(String, Vec<usize>)]) -> Result<Self> {
        let config = infer::config(shapes)?;
        config.validate()?;
        Ok(config)
    }

    /// Returns the number of samples that so many mel frames become.
    pub fn samples(&self, mel_frames: usize) -> usize {
        let low = mel_frames * self.generator.factor();
        self.extension.as_ref().map_or(low, |extension| low * (self.sample_rate / extension.input_rate))
    }

    /// Checks that the parts fit together; the first that does not is the error.
    pub fn validate(&self) -> Result<()> {
        self.generator.validate()?;
        within("output_sampling_rate", self.sample_rate, 1, 1 << 20)?;
        let Some(extension) = &self.extension else { return Ok(()) };
        extension.generator.validate()?;
        let ExtensionConfig { generator, input_rate, window, hop, bins } = extension;
        within("input_sampling_rate", *input_rate, 1, self.sample_rate)?;
        within("filter_length", *window, 2, LARGEST)?;
        within("hop_length", *hop, 1, *window)?;
        within("num_mel_channels", *bins, 1, LARGEST)?;
        if !self.sample_rate.is_multiple_of(*input_rate) {
            return wrong("output_sampling_rate", format!("is {}, no multiple of {input_rate}", self.sample_rate));
        }
        if window % 2 == 1 {
            return wrong("filter_length", format!("is {window}, an odd number"));
        }
        let ratio = self.sample_rate / input_rate;
        if generator.factor() != hop * ratio {
            return wrong("bwe_upsample_factors", format!("make {} of {} samples", generator.factor(), hop * ratio));
        }
        within(
            "bwe_in_channels",
            generator.in_channels,
            bins * self.generator.out_channels,
            bins * self.generator.out_channels,
        )?;
        within("bwe_out_channels", generator.out_channels, self.generator.out_channels, self.generator.out_channels)
    }
}

impl GeneratorConfig {
    fn ltx20() -> Self {
        Self {
            in_channels: 128,
            hidden_channels: 1024,
            out_channels: 2,
            upsample_factors: vec![6, 5, 2, 2, 2],
            upsample_kernel_sizes: vec![16, 15, 8, 4, 4],
            resnet_kernel_sizes: vec![3, 7, 11],
            resnet_dilations: vec![vec![1, 3, 5]; 3],
            activation: Activation::LeakyRelu { slope: 0.1 },
            final_bias: true,
            limit: Limit::Tanh,
        }
    }

    /// Returns how many samples a mel frame becomes.
    pub fn factor(&self) -> usize {
        self.upsample_factors.iter().product()
    }

    /// Returns the channels after each upsampling.
    pub(super) fn channels(&self) -> Vec<usize> {
        (1..=self.upsample_factors.len()).map(|halvings| self.hidden_channels >> halvings).collect()
    }

    fn validate(&self) -> Result<()> {
        within("in_channels", self.in_channels, 1, LARGEST)?;
        within("hidden_channels", self.hidden_channels, 1, LARGEST)?;
        within("out_channels", self.out_channels, 1, LARGEST)?;
        let (factors, kernels) = (&self.upsample_factors, &self.upsample_kernel_sizes);
        within("upsample_factors", factors.len(), 1, 12)?;
        if kernels.len() != factors.len() {
            return wrong(
                "upsample_kernel_sizes",
                format!("has {} entries for {} factors", kernels.len(), factors.len()),
            );
        }
        if !self.hidden_channels.is_multiple_of(1 << factors.len()) {
            return wrong(
                "hidden_channels",
                format!("is {}, cannot be halved {} times", self.hidden_channels, factors.len()),
            );
        }
        for (&factor, &kernel) in factors.iter().zip(kernels) {
            within("upsample_factors", factor, 1, 64)?;
            within("upsample_kernel_sizes", kernel, factor, 1 << 10)?;
            if (kernel - factor) % 2 == 1 {
                return wrong("upsample_kernel_sizes", format!("has {kernel} for a factor of {factor}"));
            }
        }
        within("upsample_factors", self.factor(), 1, LARGEST)?;
        let (kernels, dilations) = (&self.resnet_kernel_sizes, &self.resnet_dilations);
        within("resnet_kernel_sizes", kernels.len(), 1, 16)?;
        if dilations.len() != kernels.len() {
            return wrong("resnet_dilations", format!("has {} entries for {} kernels", dilations.len(), kernels.len()));
        }
        for &kernel in kernels {
            within("resnet_kernel_sizes", kernel, 1, 1 << 8)?;
            if kernel % 2 == 0 {
                return wrong("resnet_kernel_sizes", format!("has {kernel}, an even number"));
            }
        }
        dilations.iter().flatten().try_for_each(|&dilation| within("resnet_dilations", dilation, 1, 1 << 8))
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
    Err(Error::Config { part: "vocoder", field, problem })
}

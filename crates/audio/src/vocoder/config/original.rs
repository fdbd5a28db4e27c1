//! The section `vocoder` of the configuration in the original's files
//! (<https://github.com/Lightricks/LTX-2/blob/400fd31/packages/ltx-core/src/ltx_core/model/audio_vae/model_configurator.py>).

use super::{Activation, ExtensionConfig, GeneratorConfig, Limit, VocoderConfig, wrong};
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

/// One generator; absent fields have the values of LTX-2.0.
#[derive(Deserialize)]
#[serde(default)]
struct Generator {
    resblock_kernel_sizes: Vec<usize>,
    upsample_rates: Vec<usize>,
    upsample_kernel_sizes: Vec<usize>,
    resblock_dilation_sizes: Vec<Vec<usize>>,
    upsample_initial_channel: usize,
    resblock: String,
    stereo: bool,
    output_sampling_rate: usize,
    activation: String,
    use_tanh_at_final: bool,
    use_bias_at_final: bool,
}

impl Default for Generator {
    fn default() -> Self {
        let released = GeneratorConfig::ltx20();
        Self {
            resblock_kernel_sizes: released.resnet_kernel_sizes,
            upsample_rates: released.upsample_factors,
            upsample_kernel_sizes: released.upsample_kernel_sizes,
            resblock_dilation_sizes: released.resnet_dilations,
            upsample_initial_channel: released.hidden_channels,
            resblock: "1".to_string(),
            stereo: true,
            output_sampling_rate: 24_000,
            activation: "snake".to_string(),
            use_tanh_at_final: true,
            use_bias_at_final: true,
        }
    }
}

/// The fields of the bandwidth extension beside those of its generator.
#[derive(Deserialize)]
struct Extension {
    input_sampling_rate: usize,
    output_sampling_rate: usize,
    hop_length: usize,
    n_fft: usize,
    num_mels: usize,
}

pub(super) fn read(section: &Value) -> Result<VocoderConfig> {
    let Some(second) = section.get("bwe") else {
        let fields: Generator = parse(section)?;
        let sample_rate = fields.output_sampling_rate;
        return Ok(VocoderConfig { generator: generator(fields)?, extension: None, sample_rate });
    };
    let first = section.get("vocoder").unwrap_or(&Value::Null);
    if first.is_null() {
        return wrong("vocoder", "has a `bwe`, but no `vocoder` before it".to_string());
    }
    let rest: Extension = parse(second)?;
    // The sum of the two waveforms is limited, not the second one.
    let second = GeneratorConfig { limit: Limit::None, ..generator(parse(second)?)? };
    let extension = ExtensionConfig {
        generator: second,
        input_rate: rest.input_sampling_rate,
        window: rest.n_fft,
        hop: rest.hop_length,
        bins: rest.num_mels,
    };
    let generator = generator(parse(first)?)?;
    Ok(VocoderConfig { generator, extension: Some(extension), sample_rate: rest.output_sampling_rate })
}

fn generator(fields: Generator) -> Result<GeneratorConfig> {
    let activation = match (fields.resblock.as_str(), fields.activation.as_str()) {
        ("1", _) => Activation::LeakyRelu { slope: 0.1 },
        ("AMP1", "snakebeta") => Activation::SnakeBeta,
        ("AMP1", other) => return wrong("activation", format!("is `{other}`, must be `snakebeta`")),
        (other, _) => return wrong("resblock", format!("is `{other}`, must be `1` or `AMP1`")),
    };
    if !fields.stereo {
        return wrong("stereo", "is false, must be true".to_string());
    }
    Ok(GeneratorConfig {
        hidden_channels: fields.upsample_initial_channel,
        upsample_factors: fields.upsample_rates,
        upsample_kernel_sizes: fields.upsample_kernel_sizes,
        resnet_kernel_sizes: fields.resblock_kernel_sizes,
        resnet_dilations: fields.resblock_dilation_sizes,
        activation,
        final_bias: fields.use_bias_at_final,
        limit: if fields.use_tanh_at_final { Limit::Tanh } else { Limit::Clamp },
        ..GeneratorConfig::ltx20()
    })
}

fn parse<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T> {
    T::deserialize(value).map_err(|source| Error::Json { part: "vocoder", source })
}

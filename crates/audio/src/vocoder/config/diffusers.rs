//! diffusers' config.json of `LTX2Vocoder` and `LTX2VocoderWithBWE`
//! (<https://github.com/huggingface/diffusers/blob/v0.42.1/src/diffusers/pipelines/ltx2/vocoder.py>).

use super::{Activation, ExtensionConfig, GeneratorConfig, Limit, VocoderConfig, within, wrong};
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

/// The fields of one generator; absent ones have the values of LTX-2.0, and those of the second have `bwe_` before their names.
#[derive(Deserialize)]
#[serde(default)]
struct Generator {
    in_channels: usize,
    hidden_channels: usize,
    out_channels: usize,
    upsample_kernel_sizes: Vec<usize>,
    upsample_factors: Vec<usize>,
    resnet_kernel_sizes: Vec<usize>,
    resnet_dilations: Vec<Vec<usize>>,
    act_fn: String,
    leaky_relu_negative_slope: f64,
    antialias: bool,
    antialias_ratio: usize,
    antialias_kernel_size: usize,
    final_act_fn: Option<String>,
    final_bias: bool,
}

impl Default for Generator {
    fn default() -> Self {
        let released = GeneratorConfig::ltx20();
        Self {
            in_channels: released.in_channels,
            hidden_channels: released.hidden_channels,
            out_channels: released.out_channels,
            upsample_kernel_sizes: released.upsample_kernel_sizes,
            upsample_factors: released.upsample_factors,
            resnet_kernel_sizes: released.resnet_kernel_sizes,
            resnet_dilations: released.resnet_dilations,
            act_fn: "leaky_relu".to_string(),
            leaky_relu_negative_slope: 0.1,
            antialias: false,
            antialias_ratio: 2,
            antialias_kernel_size: 12,
            final_act_fn: Some("tanh".to_string()),
            final_bias: true,
        }
    }
}

/// The fields beside those of the generators.
#[derive(Deserialize)]
#[serde(default)]
struct Rest {
    filter_length: usize,
    hop_length: usize,
    window_length: usize,
    num_mel_channels: usize,
    input_sampling_rate: usize,
    output_sampling_rate: Option<usize>,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            filter_length: 512,
            hop_length: 80,
            window_length: 512,
            num_mel_channels: 64,
            input_sampling_rate: 16_000,
            output_sampling_rate: None,
        }
    }
}

pub(super) fn read(value: Value) -> Result<VocoderConfig> {
    let second = below(&value, "bwe_");
    let rest: Rest = parse(value.clone())?;
    let generator = generator(value)?;
    let Some(second) = second else {
        return Ok(VocoderConfig {
            generator,
            extension: None,
            sample_rate: rest.output_sampling_rate.unwrap_or(24_000),
        });
    };
    within("window_length", rest.window_length, rest.filter_length, rest.filter_length)?;
    let extension = ExtensionConfig {
        generator: self::generator(second)?,
        input_rate: rest.input_sampling_rate,
        window: rest.filter_length,
        hop: rest.hop_length,
        bins: rest.num_mel_channels,
    };
    let sample_rate = rest.output_sampling_rate.unwrap_or(48_000);
    Ok(VocoderConfig { generator, extension: Some(extension), sample_rate })
}

/// Returns the fields whose names begin with `prefix`, without it, if there are any.
fn below(value: &Value, prefix: &str) -> Option<Value> {
    let fields = value.as_object()?.iter();
    let fields = fields.filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_string(), value.clone())));
    let fields: serde_json::Map<_, _> = fields.collect();
    (!fields.is_empty()).then_some(Value::Object(fields))
}

fn generator(value: Value) -> Result<GeneratorConfig> {
    let fields: Generator = parse(value)?;
    let activation = match fields.act_fn.as_str() {
        "leaky_relu" => Activation::LeakyRelu { slope: fields.leaky_relu_negative_slope },
        "snakebeta" => Activation::SnakeBeta,
        other => return wrong("act_fn", format!("is `{other}`, must be `leaky_relu` or `snakebeta`")),
    };
    if fields.antialias != (activation == Activation::SnakeBeta) {
        return wrong("antialias", format!("is {} for `{}`", fields.antialias, fields.act_fn));
    }
    within("antialias_ratio", fields.antialias_ratio, 2, 2)?;
    within("antialias_kernel_size", fields.antialias_kernel_size, 12, 12)?;
    let limit = match fields.final_act_fn.as_deref() {
        Some("tanh") => Limit::Tanh,
        Some("clamp") => Limit::Clamp,
        None => Limit::None,
        Some(other) => return wrong("final_act_fn", format!("is `{other}`, must be `tanh`, `clamp` or null")),
    };
    Ok(GeneratorConfig {
        in_channels: fields.in_channels,
        hidden_channels: fields.hidden_channels,
        out_channels: fields.out_channels,
        upsample_factors: fields.upsample_factors,
        upsample_kernel_sizes: fields.upsample_kernel_sizes,
        resnet_kernel_sizes: fields.resnet_kernel_sizes,
        resnet_dilations: fields.resnet_dilations,
        activation,
        final_bias: fields.final_bias,
        limit,
    })
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|source| Error::Json { part: "vocoder", source })
}

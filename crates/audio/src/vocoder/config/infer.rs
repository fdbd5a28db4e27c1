//! The dimensions of a vocoder, from its tensors.

use super::{Activation, ExtensionConfig, FRAMES_A_SECOND, GeneratorConfig, Limit, VocoderConfig};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Taps and factors of the upsamplings of the released generators.
const RELEASED: [(&[usize], &[usize]); 3] = [
    (&[16, 15, 8, 4, 4], &[6, 5, 2, 2, 2]),
    (&[11, 4, 4, 4, 4, 4], &[5, 2, 2, 2, 2, 2]),
    (&[12, 11, 4, 4, 4], &[6, 5, 2, 2, 2]),
];
/// Samples of the extended waveform per sample of the one before.
const RATIO: usize = 3;

/// Shapes by canonical name.
struct Shapes<'a>(BTreeMap<&'a str, &'a [usize]>);

pub(super) fn config(shapes: &[(String, Vec<usize>)]) -> Result<VocoderConfig> {
    let shapes = Shapes(shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect());
    if !shapes.has("bwe_generator.conv_pre.weight") {
        let generator = shapes.generator("")?;
        let sample_rate = generator.factor() * FRAMES_A_SECOND;
        return Ok(VocoderConfig { generator, extension: None, sample_rate });
    }
    let generator = shapes.generator("vocoder.")?;
    let second = GeneratorConfig { limit: Limit::None, ..shapes.generator("bwe_generator.")? };
    let [_, _, window] = shapes.get("mel_stft.stft_fn.forward_basis")?;
    let [bins, _] = shapes.get("mel_stft.mel_basis")?;
    let (input_rate, hop) = (generator.factor() * FRAMES_A_SECOND, second.factor() / RATIO);
    let extension = ExtensionConfig { generator: second, input_rate, window, hop, bins };
    Ok(VocoderConfig { generator, extension: Some(extension), sample_rate: input_rate * RATIO })
}

impl Shapes<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn get<const RANK: usize>(&self, name: &str) -> Result<[usize; RANK]> {
        let problem = match self.0.get(name).map(|shape| <[usize; RANK]>::try_from(*shape)) {
            Some(Ok(shape)) => return Ok(shape),
            Some(Err(_)) => format!("`{name}` has shape {:?}", self.0[name]),
            None => format!("there is no `{name}`"),
        };
        Err(Error::Infer { part: "vocoder", problem })
    }

    /// Returns how many of the names, by number from 0, are there.
    fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..1024usize).take_while(|&at| self.has(&name(at))).count()
    }

    fn generator(&self, prefix: &str) -> Result<GeneratorConfig> {
        let [hidden_channels, in_channels, _] = self.get(&format!("{prefix}conv_pre.weight"))?;
        let [out_channels, _, _] = self.get(&format!("{prefix}conv_post.weight"))?;
        let stages = self.count(|at| format!("{prefix}ups.{at}.weight"));
        let kernels = (0..stages).map(|at| self.get(&format!("{prefix}ups.{at}.weight")).map(|[_, _, taps]| taps));
        let kernels = kernels.collect::<Result<Vec<_>>>()?;
        let Some((_, factors)) = RELEASED.iter().find(|(released, _)| *released == kernels) else {
            let problem = format!("upsamplings of {kernels:?} taps are in none of the released ones");
            return Err(Error::Infer { part: "vocoder", problem });
        };
        let blocks = self.count(|at| format!("{prefix}resblocks.{at}.convs1.0.weight")) / stages.max(1);
        let block = |at: usize| {
            let [_, _, taps] = self.get(&format!("{prefix}resblocks.{at}.convs1.0.weight"))?;
            let dilations = self.count(|i| format!("{prefix}resblocks.{at}.convs1.{i}.weight"));
            Ok((taps, (0..dilations).map(|i| 2 * i + 1).collect()))
        };
        let (resnet_kernel_sizes, resnet_dilations) =
            (0..blocks).map(block).collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let is_snake = self.has(&format!("{prefix}resblocks.0.acts1.0.act.alpha"));
        Ok(GeneratorConfig {
            in_channels,
            hidden_channels,
            out_channels,
            upsample_factors: factors.to_vec(),
            upsample_kernel_sizes: kernels,
            resnet_kernel_sizes,
            resnet_dilations,
            activation: if is_snake { Activation::SnakeBeta } else { Activation::LeakyRelu { slope: 0.1 } },
            final_bias: self.has(&format!("{prefix}conv_post.bias")),
            limit: if is_snake { Limit::Clamp } else { Limit::Tanh },
        })
    }
}

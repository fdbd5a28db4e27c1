//! [`Generator`]: mel spectrograms to samples, by upsamplings with residual blocks after each.

use super::blocks::{Act, ResidualBlock};
use super::config::{Activation, GeneratorConfig, Limit};
use super::windows::{ENDS, Windows};
use crate::conv::{Conv1d, TransposedConv};
use candle_core::{Result, Tensor};
use kinora_checkpoint::Weights;
use kinora_kernels::leaky_relu;
use std::ops::Range;

type Load<T> = kinora_checkpoint::Result<T>;

/// Numbers of the largest tensor of a chunk, about: as many as take 16 MiB.
const LARGEST: usize = 1 << 22;

pub(super) struct Generator {
    conv_pre: Conv1d,
    stages: Vec<Stage>,
    act_post: Act,
    conv_post: Conv1d,
    config: GeneratorConfig,
    chunk: usize,
}

/// An upsampling, and the blocks whose mean follows.
struct Stage {
    up: TransposedConv,
    blocks: Vec<ResidualBlock>,
}

impl Generator {
    pub(super) fn new(config: &GeneratorConfig, weights: &Weights) -> Load<Self> {
        let (ends, channels) = (2 * ENDS + 1, config.channels());
        let stage = |index: usize| Stage::new(config, weights, index);
        let last = channels.last().copied().unwrap_or(config.hidden_channels);
        let out = [last, config.out_channels];
        Ok(Self {
            conv_pre: Conv1d::new(
                &weights.pp("conv_pre"),
                [config.in_channels, config.hidden_channels],
                ends,
                1,
                true,
            )?,
            stages: (0..channels.len()).map(stage).collect::<Load<_>>()?,
            act_post: Act::last(config.activation, &weights.pp("act_post"), last)?,
            conv_post: Conv1d::new(&weights.pp("conv_post"), out, ends, 1, config.final_bias)?,
            config: config.clone(),
            chunk: chunk(config),
        })
    }

    /// `mel [1, F, C]` → `[1, samples, C']`, in chunks of equal length.
    pub(super) fn forward(&self, mel: &Tensor) -> Result<Tensor> {
        let frames = mel.dim(1)?;
        let chunks = chunks(frames, self.chunk).map(|chunk| self.chunk(mel, frames, &chunk));
        match chunks.collect::<Result<Vec<_>>>()?.as_slice() {
            [samples] => Ok(samples.clone()),
            several => Tensor::cat(several, 1),
        }
    }

    /// Returns the samples of the mel frames `chunk`.
    fn chunk(&self, mel: &Tensor, frames: usize, chunk: &Range<usize>) -> Result<Tensor> {
        let reach: Vec<_> = self.stages.iter().map(|stage| stage.up.reach()).collect();
        let windows = Windows::new(&self.config, &reach, frames, chunk);
        let mut found = windows.mel.clone();
        let mut x = self.conv_pre.padded(&crop(mel, &(0..frames), &found)?)?;
        for (stage, [input, result]) in self.stages.iter().zip(&windows.stages) {
            x = crop(&x, &found, input)?;
            if let Activation::LeakyRelu { slope } = self.config.activation {
                x = leaky_relu(&x, slope)?;
            }
            x = stage.forward(x, input, result)?;
            found = result.clone();
        }
        let x = self.act_post.forward(&crop(&x, &found, &windows.last)?, self.conv_post.padding())?;
        let samples = crop(&self.conv_post.forward(&x, None)?, &windows.last, &windows.out)?;
        match self.config.limit {
            Limit::Tanh => samples.tanh(),
            Limit::Clamp => samples.clamp(-1f32, 1f32),
            Limit::None => samples.force_contiguous(),
        }
    }
}

impl Stage {
    fn new(config: &GeneratorConfig, weights: &Weights, index: usize) -> Load<Self> {
        let (inputs, channels) = (config.hidden_channels >> index, config.hidden_channels >> (index + 1));
        let [taps, stride] = [config.upsample_kernel_sizes[index], config.upsample_factors[index]];
        let kinds = config.resnet_kernel_sizes.iter().zip(&config.resnet_dilations);
        let count = config.resnet_kernel_sizes.len();
        let block = |(at, (&taps, dilations)): (usize, (&usize, &Vec<usize>))| {
            let weights = weights.pp("resblocks").pp(index * count + at);
            ResidualBlock::new(&weights, config.activation, channels, taps, dilations)
        };
        Ok(Self {
            up: TransposedConv::new(&weights.pp("ups").pp(index), [inputs, channels], taps, stride)?,
            blocks: kinds.enumerate().map(block).collect::<Load<_>>()?,
        })
    }

    /// Returns the positions `result` of the stage's result, of its input's positions `input` as `x [1, L, C]`.
    fn forward(&self, x: Tensor, input: &Range<usize>, result: &Range<usize>) -> Result<Tensor> {
        let ([before, after], stride) = (self.up.reach(), self.up.stride());
        let padded = x.pad_with_zeros(1, before, after)?;
        drop(x);
        let x = self.up.forward(&padded)?;
        drop(padded);
        let x = crop(&x, &(input.start * stride..input.end * stride), result)?;
        let mut sum: Option<Tensor> = None;
        for block in &self.blocks {
            let y = block.forward(&x)?;
            sum = Some(match sum {
                Some(sum) => (sum + y)?,
                None => y,
            });
        }
        sum.unwrap_or(x) / self.blocks.len() as f64
    }
}

/// Returns the positions `wanted` of a signal, given its positions `found` as `x [1, L, C]`.
fn crop(x: &Tensor, found: &Range<usize>, wanted: &Range<usize>) -> Result<Tensor> {
    if found == wanted {
        return Ok(x.clone());
    }
    x.narrow(1, wanted.start - found.start, wanted.len())
}

/// Returns the mel frames of a chunk: as many as let its largest tensor have [`LARGEST`] numbers.
pub(super) fn chunk(config: &GeneratorConfig) -> usize {
    (LARGEST / widest(config)).max(1)
}

/// Returns the most numbers that a tensor has per mel frame.
pub(super) fn widest(config: &GeneratorConfig) -> usize {
    let mut length = 1;
    let stages = config.channels().into_iter().zip(&config.upsample_factors).map(|(channels, factor)| {
        length *= factor;
        channels * length
    });
    stages.max().unwrap_or(0).max(config.hidden_channels)
}

/// Returns `0..frames` in parts of at most `chunk`, of equal length as far as that is possible.
pub(super) fn chunks(frames: usize, chunk: usize) -> impl Iterator<Item = Range<usize>> {
    let each = frames.div_ceil(frames.div_ceil(chunk).max(1)).max(1);
    (0..frames).step_by(each).map(move |first| first..frames.min(first + each))
}

#[cfg(test)]
mod tests {
    use super::super::VocoderConfig;
    use super::*;
    use candle_core::{DType, Device};

    /// Small generators of either kind, whose chunks are all neighbours of others at one frame each.
    #[test]
    fn chunks_are_what_the_whole_has_there() {
        for released in [VocoderConfig::ltx20(), VocoderConfig::ltx23()] {
            let config = GeneratorConfig { in_channels: 6, hidden_channels: 64, ..released.generator };
            let weights = Weights::random(3, &Device::Cpu, DType::F32);
            let mut generator = Generator::new(&config, &weights).unwrap();
            let mel = Tensor::randn(0f32, 1f32, (1, 150, 6), &Device::Cpu).unwrap();
            let bits = |x: Tensor| -> Vec<u32> {
                x.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
            };
            let whole = generator.forward(&mel).unwrap();
            assert_eq!(whole.dims(), [1, 150 * config.factor(), 2]);
            assert!(whole.sqr().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap() > 1e-6);
            let whole = bits(whole);
            for chunk in [149, 64, 31] {
                generator.chunk = chunk;
                assert!(bits(generator.forward(&mel).unwrap()) == whole, "chunks of {chunk}");
            }
        }
    }

    #[test]
    fn chunks_are_of_one_length() {
        let ranges = |frames, chunk| chunks(frames, chunk).collect::<Vec<_>>();
        assert_eq!(ranges(10, 10), vec![0..10]);
        assert_eq!(ranges(11, 10), [0..6, 6..11]);
        assert_eq!(ranges(1, 10), vec![0..1]);
        assert!(ranges(0, 10).is_empty());
    }
}

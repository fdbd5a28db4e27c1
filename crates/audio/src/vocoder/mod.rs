//! Vocoders of LTX-2.x: mel spectrograms to waveforms
//! (<https://github.com/Lightricks/LTX-2/blob/400fd31/packages/ltx-core/src/ltx_core/model/audio_vae/vocoder.py>).
//!
//! 2.0 has a HiFi-GAN (<https://arxiv.org/abs/2010.05646>). 2.3 and later have a `BigVGAN` (<https://arxiv.org/abs/2206.04658>) for 16,000 samples
//! a second, and a second one that adds the high frequencies. Long sound goes through in chunks with all neighbours that reach them, so that
//! memory is bounded and the numbers are the same. Inside, signals are `[1, L, C]`. Parameters have the original's names.

mod blocks;
mod config;
mod extension;
mod generator;
mod keys;
mod memory;
mod windows;

use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
pub use config::{Activation, ExtensionConfig, GeneratorConfig, Limit, VocoderConfig};
use extension::Extension;
use generator::Generator;
pub use keys::key_maps;
use kinora_checkpoint::Weights;

/// A vocoder. It computes in f32 whatever its weights are stored in: in bf16 its errors are as large as a third of the sound.
pub struct Vocoder {
    generator: Generator,
    extension: Option<Extension>,
    config: VocoderConfig,
    device: Device,
}

impl Vocoder {
    /// Reads all parameters.
    ///
    /// # Errors
    /// A configuration that does not fit together; a parameter that is missing or misshapen.
    pub fn new(config: &VocoderConfig, weights: &Weights) -> Result<Self> {
        config.validate()?;
        let (generator, extension) = match &config.extension {
            None => (Generator::new(&config.generator, weights)?, None),
            Some(extension) => {
                let generator = Generator::new(&config.generator, &weights.pp("vocoder"))?;
                (generator, Some(Extension::new(extension, config.sample_rate, weights)?))
            }
        };
        Ok(Self { generator, extension, config: config.clone(), device: weights.device().clone() })
    }

    /// Returns how many samples a second the waveforms have.
    pub fn sample_rate(&self) -> usize {
        self.config.sample_rate
    }

    /// Returns the number of samples that so many mel frames become.
    pub fn samples(&self, mel_frames: usize) -> usize {
        self.config.samples(mel_frames)
    }

    /// `mel [B, C, F, M]` → f32 `[B, C', samples]` in -1..1.
    ///
    /// # Errors
    /// Another number of bins or no frames; or whatever candle fails on.
    pub fn forward(&self, mel: &Tensor) -> Result<Tensor> {
        let channels = self.config.generator.in_channels;
        if !matches!(mel.dims(), [b, c, f, m] if b * f > 0 && c * m == channels) {
            let expected = format!("[B, C, F, M] with C·M = {channels}");
            return Err(Error::Shape { what: "the mel spectrogram", found: mel.dims().to_vec(), expected });
        }
        // Bins of one channel after those of another.
        let mel = mel.to_device(&self.device)?.to_dtype(DType::F32)?.transpose(1, 2)?.contiguous()?.flatten_from(2)?;
        let waveforms = (0..mel.dim(0)?).map(|item| {
            let low = self.generator.forward(&mel.narrow(0, item, 1)?)?;
            let samples = match &self.extension {
                None => low,
                Some(extension) => extension.forward(&low)?,
            };
            samples.transpose(1, 2)?.contiguous()
        });
        Ok(Tensor::cat(&waveforms.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
    }
}

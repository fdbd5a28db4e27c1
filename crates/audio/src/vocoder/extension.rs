//! [`Extension`]: adds the high frequencies to a waveform, which a second generator makes of its mel spectrogram.

use super::config::ExtensionConfig;
use super::generator::Generator;
use crate::mel::Spectrum;
use crate::resample::Upsample;
use candle_core::{DType, Result, Tensor};
use kinora_checkpoint::Weights;

type Load<T> = kinora_checkpoint::Result<T>;

pub(super) struct Extension {
    generator: Generator,
    spectrum: Spectrum,
    upsample: Upsample,
    window: usize,
    hop: usize,
    ratio: usize,
}

impl Extension {
    /// Reads `bwe_generator` and `mel_stft`; the result has `sample_rate` samples a second.
    pub(super) fn new(config: &ExtensionConfig, sample_rate: usize, weights: &Weights) -> Load<Self> {
        let &ExtensionConfig { window, hop, bins, input_rate, .. } = config;
        let frequencies = window / 2 + 1;
        let stft = weights.pp("mel_stft");
        let basis = stft.pp("stft_fn").get_dtype("forward_basis", (2 * frequencies, 1, window), DType::F32)?;
        let filters = stft.get_dtype("mel_basis", (bins, frequencies), DType::F32)?;
        let ratio = sample_rate / input_rate;
        Ok(Self {
            generator: Generator::new(&config.generator, &weights.pp("bwe_generator"))?,
            spectrum: Spectrum::new(&basis.squeeze(1)?, &filters, hop)?,
            upsample: Upsample::new(ratio, weights.device())?,
            window,
            hop,
            ratio,
        })
    }

    /// `low [1, S, C]` → `[1, S·ratio, C]` in -1..1.
    pub(super) fn forward(&self, low: &Tensor) -> Result<Tensor> {
        let (_, samples, channels) = low.dims3()?;
        let whole = samples.next_multiple_of(self.hop);
        // Windows end with their frame, and before the first sample there are zeros.
        let before = self.window - self.hop;
        let (mut mels, mut waveforms) = (Vec::new(), Vec::new());
        for channel in 0..channels {
            let signal = low.narrow(2, channel, 1)?.flatten_all()?.pad_with_zeros(0, 0, whole - samples)?;
            mels.push(self.spectrum.log_mel(&signal.pad_with_zeros(0, before, 0)?)?);
            waveforms.push(self.upsample.forward(&signal.reshape((1, whole, 1))?)?);
        }
        let high = self.generator.forward(&Tensor::cat(&mels, 2)?)?;
        let sum = (high + Tensor::cat(&waveforms, 2)?)?.clamp(-1f32, 1f32)?;
        sum.narrow(1, 0, samples * self.ratio)
    }
}

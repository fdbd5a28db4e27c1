//! The audio autoencoder of LTX-2.x: mel spectrograms to latents and back
//! (<https://github.com/Lightricks/LTX-2/blob/400fd31/packages/ltx-core/src/ltx_core/model/audio_vae/audio_vae.py>).
//!
//! Every layer depends on present and past frames only, so a clip goes through in parts, each with the frames that the layers have kept of
//! the one before: memory does not grow with its length. Parameters have the original's names; [`key_maps`] translates.

mod blocks;
mod config;
mod decoder;
mod encoder;
mod keys;
mod memory;

use crate::{AudioFormat, Error, MelSpectrogram, Parts, Result};
use blocks::StreamState;
use candle_core::{DType, Device, Tensor};
pub use config::Config;
use decoder::Decoder;
use encoder::Encoder;
pub use keys::key_maps;
use kinora_checkpoint::Weights;

/// Latents that go through at a time.
const CHUNK: usize = 64;

/// An audio autoencoder. It computes in f32 whatever its weights are stored in.
pub struct AudioVae {
    encoder: Option<Encoder>,
    decoder: Option<Decoder>,
    config: Config,
    format: AudioFormat,
    device: Device,
    chunk: usize,
}

impl AudioVae {
    /// Reads the parameters of `parts`, from weights whose dtype is f32.
    ///
    /// # Errors
    /// A configuration that does not fit together; a parameter that is missing or misshapen.
    pub fn new(config: &Config, weights: &Weights, parts: Parts) -> Result<Self> {
        config.validate()?;
        let encoder = (parts != Parts::Decoder).then(|| Encoder::new(config, &weights.pp("encoder"))).transpose()?;
        let decoder = (parts != Parts::Encoder).then(|| Decoder::new(config, &weights.pp("decoder"))).transpose()?;
        let statistics = weights.pp("per_channel_statistics");
        let statistic =
            |name| -> Result<Vec<f32>> { Ok(statistics.get_dtype(name, config.base_channels, DType::F32)?.to_vec1()?) };
        let format = AudioFormat {
            channels: config.latent_channels,
            bins: config.latent_bins(),
            factor: config.factor(),
            sample_rate: config.sample_rate,
            hop: config.mel_hop_length,
            mean: statistic("mean-of-means")?,
            std: statistic("std-of-means")?,
        };
        let device = weights.device().clone();
        Ok(Self { encoder, decoder, config: config.clone(), format, device, chunk: CHUNK })
    }

    /// Size and scale of the latents.
    pub fn format(&self) -> &AudioFormat {
        &self.format
    }

    /// Returns what makes the mel spectrograms that this autoencoder encodes.
    ///
    /// # Errors
    /// Whatever candle fails on.
    pub fn mel_spectrogram(&self) -> Result<MelSpectrogram> {
        let &Config { sample_rate, mel_window, mel_hop_length, mel_bins, .. } = &self.config;
        MelSpectrogram::new(sample_rate, mel_window, mel_hop_length, mel_bins, &self.device)
    }

    /// Decodes normalised `latents [B, C, L, M]` to mel spectrograms, f32 `[B, C', F, M']`, where `F` is [`AudioFormat::mel_frames`].
    ///
    /// # Errors
    /// Latents of another shape; a decoder that was not loaded; whatever candle fails on.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let decoder = self.decoder.as_ref().ok_or(Error::NotLoaded { part: "decoder" })?;
        let AudioFormat { channels, bins, .. } = self.format;
        Self::check("the latents", latents, [channels, bins], "L")?;
        let z = self.format.denormalise(&self.format.pack(&self.on_device(latents)?)?)?;
        let z = self.format.unpack(&z)?.permute((0, 2, 3, 1))?.contiguous()?; // [B, L, M, C]
        let (count, mut state, mut mel) = (z.dim(1)?, StreamState::default(), Vec::new());
        for first in (0..count).step_by(self.chunk) {
            let part = z.narrow(1, first, self.chunk.min(count - first))?.contiguous()?;
            mel.push(decoder.forward(part, &mut state)?);
        }
        Ok(Tensor::cat(&mel, 1)?.permute((0, 3, 1, 2))?.contiguous()?)
    }

    /// Encodes mel spectrograms `[B, C, F, M]` to normalised latents, f32 `[B, C', L, M']`, the mean of the encoder's distribution, where `L` is
    /// [`AudioFormat::latent_frames`].
    ///
    /// # Errors
    /// Mel spectrograms of another shape; an encoder that was not loaded; whatever candle fails on.
    pub fn encode(&self, mel: &Tensor) -> Result<Tensor> {
        let encoder = self.encoder.as_ref().ok_or(Error::NotLoaded { part: "encoder" })?;
        Self::check("the mel spectrogram", mel, [self.config.in_channels, self.config.mel_bins], "F")?;
        let x = self.on_device(mel)?.permute((0, 2, 3, 1))?; // [B, F, M, C]
        // Frames behind the last whole group reach no latent.
        let latents = self.format.latent_frames(x.dim(1)?);
        let (mut state, mut moments) = (StreamState::default(), Vec::new());
        for first in (0..latents).step_by(self.chunk) {
            let end = latents.min(first + self.chunk);
            let [start, end] = [first, end].map(|latents| self.format.mel_frames(latents));
            moments.push(encoder.forward(x.narrow(1, start, end - start)?.contiguous()?, &mut state)?);
        }
        let mean = Tensor::cat(&moments, 1)?.narrow(3, 0, self.format.channels)?; // [B, L, M, C]
        let tokens = self.format.normalise(&self.format.pack(&mean.permute((0, 3, 1, 2))?)?)?;
        Ok(self.format.unpack(&tokens)?)
    }

    fn check(what: &'static str, x: &Tensor, [channels, bins]: [usize; 2], length: &str) -> Result<()> {
        if matches!(x.dims(), [b, c, l, m] if b * l > 0 && [*c, *m] == [channels, bins]) {
            return Ok(());
        }
        let expected = format!("[B, {channels}, {length}, {bins}]");
        Err(Error::Shape { what, found: x.dims().to_vec(), expected })
    }

    fn on_device(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.to_device(&self.device)?.to_dtype(DType::F32)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of one latent, of a few, and all of them at once.
    #[test]
    fn parts_are_what_the_whole_has_there() {
        let config =
            Config { base_channels: 32, ch_mult: vec![1, 2, 1], latent_channels: 8, mel_bins: 16, ..Config::ltx2() };
        let weights = Weights::random(3, &Device::Cpu, DType::F32);
        let mut vae = AudioVae::new(&config, &weights, Parts::Both).unwrap();
        let random = |shape: [usize; 4]| Tensor::randn(0f32, 1f32, &shape, &Device::Cpu).unwrap();
        let (latents, mel) = (random([2, 8, 13, 4]), random([2, 2, 47, 16]));
        let whole = [vae.decode(&latents).unwrap(), vae.encode(&mel).unwrap()];
        assert_eq!(whole.each_ref().map(|x| x.dims().to_vec()), [[2, 2, 49, 16], [2, 8, 12, 4]]);
        for chunk in [1, 2, 5, 12] {
            vae.chunk = chunk;
            for (whole, found) in whole.iter().zip([vae.decode(&latents).unwrap(), vae.encode(&mel).unwrap()]) {
                // Winograd's tiles begin at other frames.
                let error = kinora_test_support::relative_l2(&found, whole);
                assert!(error < 3e-6, "parts of {chunk}: {error:e}");
            }
        }
    }
}

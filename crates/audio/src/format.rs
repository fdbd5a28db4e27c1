//! [`AudioFormat`]: size and scale of the latents of sound.

use candle_core::{Result, Tensor};

/// Size and scale of an autoencoder's latents, and what they are latents of.
#[derive(Debug, Clone, PartialEq)]
pub struct AudioFormat {
    /// Latent channels.
    pub channels: usize,
    /// Latent bins of a channel.
    pub bins: usize,
    /// Mel frames per latent, and mel bins per latent bin.
    pub factor: usize,
    /// Samples a second of the waveform that mel spectrograms are made of.
    pub sample_rate: usize,
    /// Samples from one mel frame to the next.
    pub hop: usize,
    /// Mean of each channel of a token, `channels · bins` of them.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel of a token.
    pub std: Vec<f32>,
}

impl AudioFormat {
    /// Returns the number of mel frames that `latents` are decoded to: the first latent is one frame.
    pub fn mel_frames(&self, latents: usize) -> usize {
        (latents * self.factor).saturating_sub(self.factor - 1)
    }

    /// Returns the number of latents that `mel_frames` are encoded to; frames behind the last whole group have no part in them.
    pub fn latent_frames(&self, mel_frames: usize) -> usize {
        mel_frames.div_ceil(self.factor)
    }

    /// Returns the number of samples, at [`AudioFormat::sample_rate`], that `latents` stand for.
    pub fn samples(&self, latents: usize) -> usize {
        self.mel_frames(latents) * self.hop
    }

    /// Returns the number of latents of a clip of so many seconds, the nearest whole one, halves to the even.
    pub fn latents_in(&self, seconds: f64) -> usize {
        let per_second = self.sample_rate as f64 / self.hop as f64 / self.factor as f64;
        (seconds * per_second).round_ties_even() as usize
    }

    /// Returns latents `[B, C, L, M]` as tokens `[B, L, C·M]`.
    pub fn pack(&self, latents: &Tensor) -> Result<Tensor> {
        latents.transpose(1, 2)?.contiguous()?.flatten_from(2)
    }

    /// Returns tokens `[B, L, C·M]` as latents `[B, C, L, M]`.
    pub fn unpack(&self, tokens: &Tensor) -> Result<Tensor> {
        let (b, l, _) = tokens.dims3()?;
        tokens.reshape((b, l, self.channels, self.bins))?.transpose(1, 2)?.contiguous()
    }

    /// Returns tokens `[B, L, C·M]` with the scale that diffusion models see: `(z - mean) / std`.
    pub fn normalise(&self, tokens: &Tensor) -> Result<Tensor> {
        tokens.broadcast_sub(&Self::row(&self.mean, tokens)?)?.broadcast_div(&Self::row(&self.std, tokens)?)
    }

    /// Returns tokens `[B, L, C·M]` with the scale that the decoder sees: `z · std + mean`.
    pub fn denormalise(&self, tokens: &Tensor) -> Result<Tensor> {
        tokens.broadcast_mul(&Self::row(&self.std, tokens)?)?.broadcast_add(&Self::row(&self.mean, tokens)?)
    }

    fn row(values: &[f32], like: &Tensor) -> Result<Tensor> {
        Tensor::new(values, like.device())?.to_dtype(like.dtype())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_follow_the_first_latent() {
        let (mean, std) = (vec![0.0; 128], vec![1.0; 128]);
        let format = AudioFormat { channels: 8, bins: 16, factor: 4, sample_rate: 16_000, hop: 160, mean, std };
        assert_eq!([0, 1, 2, 126].map(|latents| format.mel_frames(latents)), [0, 1, 5, 501]);
        assert_eq!([0, 1, 4, 5, 501, 503].map(|frames| format.latent_frames(frames)), [0, 1, 1, 2, 126, 126]);
        assert_eq!(format.samples(126), 80_160);
        // 121 frames at 24 a second; halves go to the even number.
        assert_eq!([121.0 / 24.0, 0.1, 0.02, 0.06].map(|seconds| format.latents_in(seconds)), [126, 2, 0, 2]);
    }
}

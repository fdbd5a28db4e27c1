//! [`Sound`]: the samples of a clip's sound.

#[cfg(feature = "opus")]
pub(crate) mod opus;
pub(crate) mod rate;
pub(crate) mod track;
pub(crate) mod wav;

use crate::clip::Fps;
use crate::error::{MediaError, Result};

/// The sample rates that are taken, in samples per second.
const RATES: std::ops::RangeInclusive<u32> = 1000..=384_000;

/// The most channels that are taken.
pub(crate) const MAX_CHANNELS: usize = 64;

/// Sound as samples, `[channels, samples]` channel by channel, nominally -1..1. Of two channels, the first is the left one.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    /// The number of samples per second of each channel.
    pub rate: u32,
    /// The number of channels.
    pub channels: usize,
    /// All samples of the first channel, then those of the next one.
    pub data: Vec<f32>,
}

impl Sound {
    /// Returns sound of these samples.
    ///
    /// # Errors
    /// A rate outside 1000 to 384000, no channels or more than 64, samples that are not as many for each channel, and NaN or
    /// infinity.
    pub fn new(rate: u32, channels: usize, data: Vec<f32>) -> Result<Self> {
        let sound = Self { rate, channels, data };
        sound.check().map(|()| sound)
    }

    /// Returns the number of samples of each channel.
    pub fn samples(&self) -> usize {
        self.data.len() / self.channels.max(1)
    }

    /// Returns the samples of a channel, from 0 on.
    ///
    /// # Panics
    /// There is no such channel.
    pub fn channel(&self, index: usize) -> &[f32] {
        let samples = self.samples();
        &self.data[index * samples..][..samples]
    }

    /// Returns the sound with so many samples in each channel: the end is cut off, or silence is added.
    #[must_use]
    pub fn fitted(&self, samples: usize) -> Self {
        let kept = samples.min(self.samples());
        let mut data = Vec::with_capacity(samples * self.channels);
        for index in 0..self.channels {
            data.extend_from_slice(&self.channel(index)[..kept]);
            data.resize(samples * (index + 1), 0.0);
        }
        Self { data, ..*self }
    }

    /// Returns the sound as long as `frames` frames, to the nearest sample.
    #[must_use]
    pub fn fitted_to(&self, frames: u64, fps: Fps) -> Self {
        self.fitted(fps.start_of(frames, self.rate.into()) as usize)
    }

    /// Returns the sound without what is after the end of `frames` frames.
    pub(crate) fn no_longer_than(&self, frames: u64, fps: Fps) -> Self {
        self.fitted(self.samples().min(fps.start_of(frames, self.rate.into()) as usize))
    }

    /// Returns the sound at another sample rate: a sinc filter under a Kaiser window, whose stop band is 90 dB down. Its length
    /// is rounded up to a sample.
    ///
    /// # Errors
    /// As of [`Sound::new`].
    pub fn resampled(&self, rate: u32) -> Result<Self> {
        self.check()?;
        Self { rate, channels: 1, data: Vec::new() }.check()?;
        if rate == self.rate {
            return Ok(self.clone());
        }
        let filter = rate::Filter::new(self.rate, rate);
        let data = (0..self.channels).flat_map(|index| filter.apply(self.channel(index))).collect();
        Ok(Self { rate, data, ..*self })
    }

    /// Returns sound whose samples alternate between the channels.
    pub(crate) fn of_interleaved(rate: u32, channels: usize, samples: &[f32]) -> Result<Self> {
        let of_channel = |index| samples.iter().skip(index).step_by(channels.max(1)).copied();
        Self::new(rate, channels, (0..channels).flat_map(of_channel).collect())
    }

    /// Checks the fields, which a caller may have put together.
    pub(crate) fn check(&self) -> Result<()> {
        let &Self { rate, channels, ref data } = self;
        if !RATES.contains(&rate) || channels == 0 || channels > MAX_CHANNELS || !data.len().is_multiple_of(channels) {
            return Err(MediaError::Sound { rate, channels, values: data.len() });
        }
        match data.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(MediaError::SoundNotFinite { index: (at % self.samples()) as u64 }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_is_padded_with_silence_or_cut() {
        let sound = Sound::new(8000, 2, vec![1.0, 2.0, 3.0, -1.0, -2.0, -3.0]).unwrap();
        assert_eq!(sound.fitted(4).data, [1.0, 2.0, 3.0, 0.0, -1.0, -2.0, -3.0, 0.0]);
        assert_eq!(sound.fitted(2).data, [1.0, 2.0, -1.0, -2.0]);
        assert_eq!(sound.fitted(0).samples(), 0);
        // 121 frames at 24000/1001 per second.
        assert_eq!(sound.fitted_to(121, Fps::new(24000, 1001).unwrap()).samples(), 40374);
        assert_eq!(Sound::of_interleaved(8000, 2, &[1.0, -1.0, 2.0, -2.0, 3.0, -3.0]).unwrap(), sound);
    }

    #[test]
    fn what_is_no_sound_is_refused() {
        let refused = |rate, channels, data: &[f32]| Sound::new(rate, channels, data.to_vec()).is_err();
        assert!(refused(0, 1, &[]) && refused(500_000, 1, &[]) && refused(8000, 0, &[]) && refused(8000, 65, &[]));
        assert!(refused(8000, 2, &[0.0; 3]));
        let error = Sound::new(8000, 2, vec![0.0, 0.0, 0.0, f32::NAN]).unwrap_err();
        assert!(matches!(error, MediaError::SoundNotFinite { index: 1 }), "{error}");
        assert!(Sound::new(8000, 1, Vec::new()).is_ok());
    }
}

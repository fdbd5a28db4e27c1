//! [`MelSpectrogram`]: waveforms to what autoencoders of sound encode.

use crate::conv::StridedConv;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use kinora_kernels::{Epilogue, LinearWeight, linear};
use std::f64::consts::TAU;

/// Values below are as good as silence.
pub(crate) const FLOOR: f64 = 1e-5;
/// Slaney's mel scale is linear up to here, in Hz; one mel is `LINEAR` Hz there.
const BREAK: f64 = 1000.0;
const LINEAR: f64 = 200.0 / 3.0;
/// Above, 27 mels are a factor of 6.4.
const FACTOR: f64 = 6.4;
const MELS: f64 = 27.0;

/// Log-mel spectrograms of magnitudes, with the numbers of torchaudio's `MelSpectrogram`
/// (<https://github.com/pytorch/audio/blob/v2.9.1/src/torchaudio/transforms/_transforms.py>): Hann windows around every `hop`-th sample, the
/// waveform mirrored at its ends, Slaney's scale and areas, and the natural logarithm above a floor of 1e-5.
pub struct MelSpectrogram {
    spectrum: Spectrum,
    window: usize,
}

impl MelSpectrogram {
    /// Returns the spectrograms of `bins` bins over windows of `window` samples, an even number, for waveforms at `sample_rate`.
    ///
    /// # Errors
    /// Whatever candle fails on.
    pub fn new(sample_rate: usize, window: usize, hop: usize, bins: usize, device: &Device) -> Result<Self> {
        let frequencies = window / 2 + 1;
        let hann = |at: usize| (1.0 - (TAU * at as f64 / window as f64).cos()) / 2.0;
        let mut basis = Vec::with_capacity(2 * frequencies * window);
        for quarter in [0.0, 0.25] {
            for frequency in 0..frequencies {
                // Whole turns are left out before anything is rounded.
                let turns = |at: usize| (frequency * at % window) as f64 / window as f64;
                basis.extend((0..window).map(|at| (hann(at) * (TAU * (turns(at) + quarter)).cos()) as f32));
            }
        }
        let basis = Tensor::from_vec(basis, (2 * frequencies, window), device)?;
        let filters = Tensor::from_vec(filters(sample_rate, frequencies, bins), (bins, frequencies), device)?;
        Ok(Self { spectrum: Spectrum::new(&basis, &filters, hop)?, window })
    }

    /// Returns the spectrogram `[B, C, S/hop + 1, bins]` of a waveform `[B, C, S]`.
    ///
    /// # Errors
    /// Fewer samples than half a window and one.
    pub fn forward(&self, waveform: &Tensor) -> Result<Tensor> {
        let (b, c, samples) = waveform.dims3()?;
        let half = self.window / 2;
        if samples <= half {
            let expected = format!("[B, C, more than {half} samples]");
            return Err(Error::Shape { what: "the waveform", found: waveform.dims().to_vec(), expected });
        }
        let places = (0..samples + 2 * half).map(|at| {
            let (at, last) = (at.abs_diff(half), samples - 1);
            (if at > last { 2 * last - at } else { at }) as u32
        });
        let places = Tensor::from_iter(places, waveform.device())?;
        let signals = waveform.reshape((b * c, samples))?.contiguous()?.index_select(&places, 1)?;
        let mels = (0..b * c).map(|signal| self.spectrum.log_mel(&signals.get(signal)?));
        let mels = Tensor::cat(&mels.collect::<candle_core::Result<Vec<_>>>()?, 0)?; // [B·C, F, bins]
        let (_, frames, bins) = mels.dims3()?;
        Ok(mels.reshape((b, c, frames, bins))?)
    }
}

/// A Fourier transform of windows, whose magnitudes are summed into bins.
pub(crate) struct Spectrum {
    basis: StridedConv,
    filters: LinearWeight,
}

impl Spectrum {
    /// Takes the windows' `basis [2·frequencies, window]`, real parts first, and `filters [bins, frequencies]`.
    pub(crate) fn new(basis: &Tensor, filters: &Tensor, hop: usize) -> candle_core::Result<Self> {
        Ok(Self { basis: StridedConv::new(basis, hop)?, filters: LinearWeight::new(filters)? })
    }

    /// `signal [S]` → `[1, (S - window)/hop + 1, bins]`.
    pub(crate) fn log_mel(&self, signal: &Tensor) -> candle_core::Result<Tensor> {
        let parts = self.basis.forward(signal)?;
        let frequencies = parts.dim(2)? / 2;
        let square = |start: usize| parts.narrow(2, start, frequencies)?.sqr();
        let magnitudes = (square(0)? + square(frequencies)?)?.sqrt()?;
        linear(&magnitudes, &self.filters, None, Epilogue::None)?.clamp(FLOOR, f64::MAX)?.log()
    }
}

/// Returns triangles `[bins, frequencies]` at equal distances on Slaney's mel scale up to half of the sample rate, of equal area.
fn filters(sample_rate: usize, frequencies: usize, bins: usize) -> Vec<f32> {
    let highest = (sample_rate / 2) as f64;
    let top = mel_of_hz(highest);
    let corners: Vec<f64> = (0..bins + 2).map(|at| hz_of_mel(top * at as f64 / (bins + 1) as f64)).collect();
    let mut filters = Vec::with_capacity(bins * frequencies);
    for corner in corners.windows(3) {
        let [low, middle, high] = [corner[0], corner[1], corner[2]];
        let hertz = |at: usize| highest * at as f64 / (frequencies - 1).max(1) as f64;
        let height = |hz: f64| ((hz - low) / (middle - low)).min((high - hz) / (high - middle)).max(0.0);
        filters.extend((0..frequencies).map(|at| (height(hertz(at)) * 2.0 / (high - low)) as f32));
    }
    filters
}

fn mel_of_hz(hz: f64) -> f64 {
    if hz < BREAK { hz / LINEAR } else { BREAK / LINEAR + (hz / BREAK).ln() / FACTOR.ln() * MELS }
}

fn hz_of_mel(mel: f64) -> f64 {
    let above = mel - BREAK / LINEAR;
    if above < 0.0 { mel * LINEAR } else { BREAK * (FACTOR.ln() / MELS * above).exp() }
}

//! Waveforms at another sample rate.

use crate::conv::{StridedConv, TransposedConv};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::f64::consts::PI;

/// Zero crossings of the sinc on either side.
const CROSSINGS: f64 = 6.0;
/// The filter's cutoff over half of the lower rate.
const ROLLOFF: f64 = 0.99;
/// The highest rate that is taken for one, in samples a second.
const HIGHEST: usize = 1 << 20;

/// Returns a waveform `[B, C, S]` of `from` samples a second at `to` samples a second, `[B, C, ⌈S · to / from⌉]`: band-limited interpolation by a
/// sinc under a Hann window, with the numbers of torchaudio's `resample`
/// (<https://github.com/pytorch/audio/blob/v2.9.1/src/torchaudio/functional/functional.py>; <https://ccrma.stanford.edu/~jos/resample/>).
///
/// # Errors
/// Rates of 0 or far above any, or whatever candle fails on.
pub fn resample(waveform: &Tensor, from: usize, to: usize) -> Result<Tensor> {
    if let Some(&rate) = [from, to].iter().find(|rate| !(1..=HIGHEST).contains(*rate)) {
        return Err(Error::Rate { rate });
    }
    let (b, c, samples) = waveform.dims3()?;
    if from == to || samples == 0 {
        return Ok(waveform.clone());
    }
    let divisor = common_divisor(from, to);
    let (from, to) = (from / divisor, to / divisor);
    let cutoff = from.min(to) as f64 * ROLLOFF;
    let width = (CROSSINGS * from as f64 / cutoff).ceil() as usize;
    let taps = 2 * width + from;
    let tap = |phase: usize, tap: usize| {
        let at = (tap as f64 - width as f64) / from as f64 - phase as f64 / to as f64;
        (windowed_sinc(at * cutoff) * cutoff / from as f64) as f32
    };
    let kernel: Vec<f32> =
        (0..to).flat_map(|phase| (0..taps).map(move |index| (phase, index))).map(|(p, t)| tap(p, t)).collect();
    let conv = StridedConv::new(&Tensor::from_vec(kernel, (to, taps), waveform.device())?, from)?;
    let length = (samples * to).div_ceil(from);
    let signals = waveform.reshape((b * c, samples))?.pad_with_zeros(1, width, width + from)?;
    let resampled = (0..b * c).map(|signal| conv.forward(&signals.get(signal)?)?.flatten_all()?.narrow(0, 0, length));
    let resampled = resampled.collect::<candle_core::Result<Vec<_>>>()?;
    Ok(Tensor::stack(&resampled, 0)?.reshape((b, c, length))?)
}

/// Makes signals a whole number of times as long.
pub(crate) struct Upsample {
    conv: TransposedConv,
}

impl Upsample {
    /// Returns the filter of that `ratio`, a sinc under a Hann window.
    pub(crate) fn new(ratio: usize, device: &Device) -> candle_core::Result<Self> {
        let width = (CROSSINGS / ROLLOFF).ceil() as usize;
        let taps = 2 * width * ratio + 1;
        let tap = |index: usize| {
            let at = (index as f64 / ratio as f64 - width as f64) * ROLLOFF;
            (windowed_sinc(at) * ROLLOFF) as f32
        };
        let kernel = Tensor::from_iter((0..taps).map(tap), device)?.reshape((1, 1, taps))?;
        let bias = Tensor::zeros(1, kernel.dtype(), device)?;
        Ok(Self { conv: TransposedConv::of(&kernel, &bias, ratio, width * ratio)? })
    }

    /// `x [1, L, 1]` → `[1, L·ratio, 1]`; before the first and after the last sample their values are repeated.
    pub(crate) fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let [before, after] = self.conv.reach();
        self.conv.forward(&x.pad_with_same(1, before, after)?)
    }
}

/// Returns sinc of `at`, in zero crossings, under a Hann window that ends at [`CROSSINGS`].
fn windowed_sinc(at: f64) -> f64 {
    let at = at.clamp(-CROSSINGS, CROSSINGS);
    let window = (at * PI / CROSSINGS / 2.0).cos().powi(2);
    let sinc = if at == 0.0 { 1.0 } else { (at * PI).sin() / (at * PI) };
    window * sinc
}

/// Returns the greatest common divisor.
fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

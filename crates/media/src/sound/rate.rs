//! Sound at another sample rate: a windowed sinc, taken at the times of the new samples.

/// The zeros of the sinc on each side, which make the transition from the pass band to the stop band a ninth of an octave.
const ZEROS: f64 = 64.0;

/// The shape of the Kaiser window, for a stop band 90 dB down.
const BETA: f64 = 9.0;

/// Where the filter's response is halved, of the lower of the two Nyquist frequencies.
const CUTOFF: f64 = 0.955;

/// A filter from one sample rate to another: a row of taps for each place that a new sample can have between two old ones.
pub(crate) struct Filter {
    /// A new sample comes every `step / phases` old ones.
    phases: usize,
    step: usize,
    taps: usize,
    rows: Vec<f32>,
}

impl Filter {
    pub(crate) fn new(from: u32, to: u32) -> Self {
        let divisor = gcd(from, to);
        let (phases, step) = ((to / divisor) as usize, (from / divisor) as usize);
        // Below 1 where the new rate is lower, and the filter is as much longer.
        let scale = (f64::from(to) / f64::from(from)).min(1.0) * CUTOFF;
        let reach = ZEROS / scale;
        let taps = 2 * reach.ceil() as usize;
        let mut rows = Vec::with_capacity(phases * taps);
        for phase in 0..phases {
            let offset = phase as f64 / phases as f64;
            let at = |tap: usize| tap as f64 - (taps / 2 - 1) as f64 - offset;
            let row: Vec<f64> = (0..taps).map(|tap| sinc(at(tap) * scale) * window(at(tap) / reach)).collect();
            // Each row adds up to one, so that a constant stays what it is.
            let sum: f64 = row.iter().sum();
            rows.extend(row.iter().map(|weight| (weight / sum) as f32));
        }
        Self { phases, step, taps, rows }
    }

    /// Returns the samples at the new rate; before and after the given ones there is silence.
    pub(crate) fn apply(&self, samples: &[f32]) -> Vec<f32> {
        let &Self { phases, step, taps, ref rows } = self;
        let length = (samples.len() * phases).div_ceil(step);
        let before = taps / 2 - 1;
        let sample = |index: usize| {
            let (whole, phase) = (index * step / phases, index * step % phases);
            let row = &rows[phase * taps..][..taps];
            // The taps that lie within the samples: tap 0 is at `whole - before`.
            let (first, skip) = (whole.saturating_sub(before), before.saturating_sub(whole));
            let near = samples[first.min(samples.len())..].iter().zip(&row[skip..]);
            near.map(|(sample, weight)| sample * weight).sum()
        };
        (0..length).map(sample).collect()
    }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x.abs() < 1e-9 { 1.0 } else { x.sin() / x }
}

/// Returns the Kaiser window at -1..1, and 0 outside.
fn window(x: f64) -> f64 {
    if x.abs() > 1.0 { 0.0 } else { bessel(BETA * (1.0 - x * x).sqrt()) / bessel(BETA) }
}

/// Returns the modified Bessel function of the first kind and order 0, by its power series.
fn bessel(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let mut term = 1.0;
    (1..50).fold(1.0, |sum, k| {
        term *= quarter / f64::from(k * k);
        sum + term
    })
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(rate: u32, frequency: f64, samples: usize) -> Vec<f32> {
        let step = std::f64::consts::TAU * frequency / f64::from(rate);
        (0..samples).map(|index| (0.5 * (index as f64 * step).sin()) as f32).collect()
    }

    #[test]
    fn tones_keep_their_frequency_and_time() {
        for (from, to) in [(44_100, 48_000), (24_000, 48_000), (16_000, 48_000), (48_000, 44_100), (32_000, 48_000)] {
            let given = sine(from, 1000.0, from as usize);
            let (made, expected) = (Filter::new(from, to).apply(&given), sine(to, 1000.0, to as usize));
            assert_eq!(made.len(), expected.len(), "{from} to {to}");
            // Without the ends, where the tone begins and stops.
            let inside = 2000..made.len() - 2000;
            let worst = inside.map(|at| (made[at] - expected[at]).abs()).fold(0.0, f32::max);
            assert!(worst < 2e-5, "{from} to {to}: {worst}");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_gone() {
        let made = Filter::new(48_000, 24_000).apply(&sine(48_000, 12_600.0, 48_000));
        let loudest = made[1000..made.len() - 1000].iter().fold(0.0, |loudest, x: &f32| x.abs().max(loudest));
        assert!(loudest < 0.5 * 1e-4, "{loudest}");
        assert!(Filter::new(24_000, 48_000).apply(&[]).is_empty());
        let constant = Filter::new(44_100, 48_000).apply(&[0.25; 4000]);
        assert!(constant[1000..3000].iter().all(|x| (x - 0.25).abs() < 1e-6));
    }
}

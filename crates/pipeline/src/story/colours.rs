//! [`Colours`]: matches the colours of a window to those of the frames that it continues.

use kinora_media::Frame;

/// The most that a join may change the contrast of a window.
const MOST_GAIN: f64 = 1.1;

/// A linear change of each colour that brings a window's frames to those that they repeat: every window is compared at its
/// overlap, so that small shifts of the autoencoder do not add up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Colours {
    gain: [f32; 3],
    offset: [f32; 3],
}

impl Colours {
    /// Means and deviations of `seen` become those of `known`, which show the same.
    pub(super) fn from(seen: &[Frame], known: &[Frame]) -> Self {
        let mut colours = Self { gain: [1.0; 3], offset: [0.0; 3] };
        for plane in 0..3 {
            let (mean, deviation) = statistics(seen, plane);
            let (wanted_mean, wanted_deviation) = statistics(known, plane);
            let gain = if deviation > 1e-4 { wanted_deviation / deviation } else { 1.0 };
            let gain = gain.clamp(1.0 / MOST_GAIN, MOST_GAIN);
            colours.gain[plane] = gain as f32;
            colours.offset[plane] = (wanted_mean - gain * mean) as f32;
        }
        colours
    }

    pub(super) fn apply(self, mut frame: Frame) -> Frame {
        let area = frame.width * frame.height;
        for (plane, values) in frame.data.chunks_exact_mut(area).enumerate() {
            for value in values {
                *value = (*value * self.gain[plane] + self.offset[plane]).clamp(0.0, 1.0);
            }
        }
        frame
    }
}

/// Mean and standard deviation of one colour over all frames.
fn statistics(frames: &[Frame], plane: usize) -> (f64, f64) {
    let values = frames.iter().flat_map(|frame| {
        let area = frame.width * frame.height;
        frame.data[plane * area..(plane + 1) * area].iter().map(|value| f64::from(*value))
    });
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        sum += value;
        squares += value * value;
    }
    let mean = sum / f64::max(count, 1.0);
    (mean, (squares / f64::max(count, 1.0) - mean * mean).max(0.0).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(values: [f32; 4], scale: f32, offset: f32) -> Frame {
        let data = values.iter().map(|value| value * scale + offset).collect::<Vec<_>>().repeat(3);
        Frame::new(2, 2, data).expect("three planes")
    }

    #[test]
    fn colours_of_the_same_picture_become_equal() {
        let values = [0.2, 0.4, 0.6, 0.5];
        let (known, seen) = (frame(values, 1.0, 0.0), frame(values, 0.95, 0.03));
        let colours = Colours::from(std::slice::from_ref(&seen), std::slice::from_ref(&known));
        let found = colours.apply(seen);
        let error = found.data.iter().zip(&known.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error < 1e-5, "{error}");
    }

    #[test]
    fn contrast_changes_little() {
        let (known, seen) = (frame([0.0, 1.0, 0.0, 1.0], 1.0, 0.0), frame([0.5, 0.6, 0.5, 0.6], 1.0, 0.0));
        let colours = Colours::from(std::slice::from_ref(&seen), std::slice::from_ref(&known));
        assert!(colours.gain.iter().all(|gain| (f64::from(*gain) - MOST_GAIN).abs() < 1e-6));
    }
}

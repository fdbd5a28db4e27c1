//! The parts of a clip in any format: frames, size, frames per second.

use crate::error::{MediaError, Result};
use std::fmt;
use std::num::NonZeroU32;

/// A picture in planar RGB, `[3, H, W]` row by row, nominally 0..1.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The width in pixels.
    pub width: usize,
    /// The height in pixels.
    pub height: usize,
    /// The red plane, then the green one, then the blue one: 3 * height * width values.
    pub data: Vec<f32>,
}

impl Frame {
    /// Returns a frame of planar RGB values; an error unless there are 3 * width * height of them.
    pub fn new(width: usize, height: usize, data: Vec<f32>) -> Result<Self> {
        let frame = Self { width, height, data };
        frame.check_len()?;
        Ok(frame)
    }

    /// Returns the three planes, `[H, W]` each. [`check_len`](Self::check_len) must have checked the length.
    pub(crate) fn planes(&self) -> [&[f32]; 3] {
        let (red, rest) = self.data.split_at(self.width * self.height);
        let (green, blue) = rest.split_at(self.width * self.height);
        [red, green, blue]
    }

    pub(crate) fn check_len(&self) -> Result<()> {
        let &Self { width, height, ref data } = self;
        let wanted = width.checked_mul(height).and_then(|area| area.checked_mul(3));
        if wanted == Some(data.len()) { Ok(()) } else { Err(MediaError::FrameData { width, height, got: data.len() }) }
    }
}

/// Frames per second as an exact ratio, between 1/100 and 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fps {
    num: NonZeroU32,
    den: NonZeroU32,
}

impl Fps {
    /// Returns `num / den` frames per second.
    pub fn new(num: u32, den: u32) -> Result<Self> {
        let error = || MediaError::Fps { given: format!("{num}/{den}") };
        let divisor = gcd(num, den).max(1);
        let num = NonZeroU32::new(num / divisor).ok_or_else(error)?;
        let den = NonZeroU32::new(den / divisor).ok_or_else(error)?;
        let fps = Self { num, den };
        let usable = (0.01..=1000.0).contains(&fps.as_f64()) && num.get() <= 1_000_000;
        if usable { Ok(fps) } else { Err(error()) }
    }

    /// Returns the usual ratio for a decimal: whole numbers unchanged, 23.976, 29.97 and 59.94 as n * 1000 / 1001, anything else
    /// rounded to a thousandth.
    pub fn from_f64(fps: f64) -> Result<Self> {
        if !(0.01..=1000.0).contains(&fps) {
            return Err(MediaError::Fps { given: fps.to_string() });
        }
        let ntsc = (fps * 1.001).round();
        let is_whole = (fps - fps.round()).abs() < 1e-6;
        if !is_whole && ntsc >= 1.0 && (fps - ntsc / 1.001).abs() < 1e-3 {
            return Self::new(ntsc as u32 * 1000, 1001);
        }
        Self::new((fps * 1000.0).round() as u32, 1000)
    }

    /// Returns the numerator, in lowest terms.
    pub fn num(self) -> u32 {
        self.num.get()
    }

    /// Returns the denominator, in lowest terms.
    pub fn den(self) -> u32 {
        self.den.get()
    }

    /// Returns the frames per second as a float.
    pub fn as_f64(self) -> f64 {
        f64::from(self.num()) / f64::from(self.den())
    }

    /// Returns the distance of keyframes, two seconds, in frames.
    #[cfg(any(feature = "h264", feature = "ffmpeg"))]
    pub(crate) fn keyframe_interval(self) -> u32 {
        ((2.0 * self.as_f64()).round() as u32).max(1)
    }

    /// Returns the start of frame `index` in units, of which a second has `units`, rounded to the nearest.
    pub(crate) fn start_of(self, index: u64, units: u64) -> u64 {
        let num = u128::from(self.num());
        ((u128::from(index) * u128::from(self.den()) * u128::from(units) + num / 2) / num) as u64
    }
}

impl fmt::Display for Fps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.den() {
            1 => write!(f, "{}", self.num),
            den => write!(f, "{}/{den}", self.num),
        }
    }
}

/// The size of every frame of a clip, and its frames per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipSpec {
    /// The width of every frame in pixels.
    pub width: usize,
    /// The height of every frame in pixels.
    pub height: usize,
    /// The frames per second.
    pub fps: Fps,
}

impl ClipSpec {
    /// Checks that frame number `index` has the clip's size and that its values are finite.
    pub(crate) fn check(&self, frame: &Frame, index: u64) -> Result<()> {
        let (got, expected) = ((frame.width, frame.height), (self.width, self.height));
        if got != expected {
            return Err(MediaError::FrameSize { index, got, expected });
        }
        frame.check_len()?;
        // A product with zero is zero unless the value is NaN or infinite, and it adds up without a branch per value.
        let sum: f32 = frame.data.iter().map(|x| x * 0.0).sum();
        if sum == 0.0 { Ok(()) } else { Err(MediaError::NotFinite { index }) }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_become_the_ratio_that_is_meant() {
        let ratio = |fps| Fps::from_f64(fps).map(|fps| (fps.num(), fps.den())).ok();
        assert_eq!(ratio(16.0), Some((16, 1)));
        assert_eq!(ratio(23.976), Some((24000, 1001)));
        assert_eq!(ratio(29.97), Some((30000, 1001)));
        assert_eq!(ratio(12.5), Some((25, 2)));
        assert_eq!(ratio(0.5), Some((1, 2)));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9, 0.001] {
            assert_eq!(ratio(bad), None, "{bad}");
        }
        assert!(Fps::new(0, 1).is_err() && Fps::new(1, 0).is_err() && Fps::new(0, 0).is_err());
    }

    #[test]
    fn frame_times_do_not_drift() {
        let fps = Fps::new(24000, 1001).unwrap();
        assert_eq!(fps.start_of(24000, 1000), 1_001_000);
        assert_eq!(Fps::new(16, 1).unwrap().start_of(1, 100), 6);
        assert_eq!(Fps::new(16, 1).unwrap().start_of(16, 100), 100);
    }

    #[test]
    fn frames_are_checked() {
        let spec = ClipSpec { width: 2, height: 1, fps: Fps::new(8, 1).unwrap() };
        let frame = |value| Frame { width: 2, height: 1, data: vec![0.5, 0.5, value, 0.5, 0.5, 0.5] };
        assert!(spec.check(&frame(-3.0), 0).is_ok());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(matches!(spec.check(&frame(bad), 7), Err(MediaError::NotFinite { index: 7 })));
        }
        let wide = Frame { width: 3, height: 1, data: vec![0.0; 9] };
        assert!(matches!(spec.check(&wide, 0), Err(MediaError::FrameSize { .. })));
        let short = Frame { width: 2, height: 1, data: vec![0.0; 5] };
        assert!(matches!(spec.check(&short, 0), Err(MediaError::FrameData { got: 5, .. })));
        assert!(Frame::new(usize::MAX, 3, Vec::new()).is_err());
    }
}

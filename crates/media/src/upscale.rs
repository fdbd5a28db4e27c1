//! Writers that enlarge or crop frames before another writer takes them.

use crate::clip::Frame;
use crate::error::{MediaError, Result};
use crate::picture::check_size;
use crate::resample::{Filter, resize_plane};
use crate::sound::track::SoundTrack;
use crate::{ClipWriter, Written};
use std::fmt;
use std::str::FromStr;

/// Enlarges frames, one by one; an implementation may keep earlier frames.
pub trait Upscale: Send {
    /// Returns the width and height that [`frame`](Self::frame) gives to frames of this size.
    fn size(&self, width: usize, height: usize) -> (usize, usize);

    /// Returns the frame `[3, H, W]` at its new size. Values keep their scale, nominally 0..1, and may overshoot.
    fn frame(&mut self, frame: &Frame) -> Result<Frame>;
}

/// The size to which frames are enlarged. They keep their proportions and are never made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpscaleTarget {
    /// Both sides become this many times as long: `2x` or `4x`.
    Times(usize),
    /// The shorter side becomes this long, and the other is rounded to an even number, which 4:2:0 needs: `720p`, `1080p`,
    /// `1440p` or `2160p`.
    ShortSide(usize),
}

impl UpscaleTarget {
    const ALL: [Self; 6] = [
        Self::Times(2),
        Self::Times(4),
        Self::ShortSide(720),
        Self::ShortSide(1080),
        Self::ShortSide(1440),
        Self::ShortSide(2160),
    ];

    /// Returns the width and height of frames of this size after scaling.
    pub fn size(self, width: usize, height: usize) -> (usize, usize) {
        let short = width.min(height);
        match self {
            Self::Times(times) => (width.saturating_mul(times), height.saturating_mul(times)),
            Self::ShortSide(target) if short >= target || short == 0 => (width, height),
            Self::ShortSide(target) => {
                let scaled = |side: usize| (side as f64 * target as f64 / short as f64 / 2.0).round() as usize * 2;
                let side = |side: usize| if side == short { target } else { scaled(side) };
                (side(width), side(height))
            }
        }
    }
}

impl FromStr for UpscaleTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|target| target.to_string() == text);
        known.ok_or_else(|| format!("`{text}` is not one of {}", Self::ALL.map(|target| target.to_string()).join(", ")))
    }
}

impl fmt::Display for UpscaleTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => write!(f, "{times}x"),
            Self::ShortSide(side) => write!(f, "{side}p"),
        }
    }
}

/// Upscaling with the Lanczos kernel, without a model: sharp edges, no new detail. Runs on all processors.
#[derive(Debug, Clone, Copy)]
pub struct Lanczos {
    target: UpscaleTarget,
}

impl Lanczos {
    /// Returns an upscaler to the given size.
    pub fn new(target: UpscaleTarget) -> Self {
        Self { target }
    }
}

impl Upscale for Lanczos {
    fn size(&self, width: usize, height: usize) -> (usize, usize) {
        self.target.size(width, height)
    }

    fn frame(&mut self, frame: &Frame) -> Result<Frame> {
        let (width, height) = self.size(frame.width, frame.height);
        resized(frame, width, height)
    }
}

/// Returns the frame at a size, by the Lanczos kernel, which widens where the frame gets smaller. Values keep their scale, and may overshoot.
///
/// # Errors
/// A frame whose values are not as many as it has; a size that frames cannot have.
pub fn resized(frame: &Frame, width: usize, height: usize) -> Result<Frame> {
    frame.check_len()?;
    check_size(width, height)?;
    let mut data = Vec::with_capacity(3 * width * height);
    for plane in frame.planes() {
        data.extend(resize_plane(plane, (frame.width, frame.height), (width, height), Filter::Lanczos));
    }
    Frame::new(width, height, data)
}

/// A writer that enlarges every frame before it passes it on.
pub struct Upscaled<'a> {
    inner: Box<dyn ClipWriter + 'a>,
    upscale: Box<dyn Upscale>,
}

impl<'a> Upscaled<'a> {
    /// Returns a writer to `inner`, which must have been created for the size that [`Upscale::size`] returns.
    pub fn new(inner: Box<dyn ClipWriter + 'a>, upscale: Box<dyn Upscale>) -> Self {
        Self { inner, upscale }
    }
}

impl ClipWriter for Upscaled<'_> {
    fn push(&mut self, frame: &Frame) -> Result<()> {
        self.inner.push(&self.upscale.frame(frame)?)
    }

    fn sound(&mut self, sound: &SoundTrack) -> Result<Option<String>> {
        self.inner.sound(sound)
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        self.inner.finish()
    }
}

/// A writer that crops every frame to its middle before it passes it on: 1920×1088, which suits a VAE, becomes 1920×1080. Of an
/// odd number of rows or columns, one more is cut off at the bottom or at the right.
pub struct Cropped<'a> {
    inner: Box<dyn ClipWriter + 'a>,
    width: usize,
    height: usize,
    frames: u64,
}

impl<'a> Cropped<'a> {
    /// Returns a writer to `inner`, which must have been created for `width`×`height`. [`push`](ClipWriter::push) refuses
    /// smaller frames.
    pub fn new(inner: Box<dyn ClipWriter + 'a>, width: usize, height: usize) -> Self {
        Self { inner, width, height, frames: 0 }
    }
}

impl ClipWriter for Cropped<'_> {
    fn push(&mut self, frame: &Frame) -> Result<()> {
        frame.check_len()?;
        let (got, expected) = ((frame.width, frame.height), (self.width, self.height));
        if got.0 < expected.0 || got.1 < expected.1 {
            return Err(MediaError::FrameSize { index: self.frames, got, expected });
        }
        if got == expected {
            self.inner.push(frame)?;
        } else {
            self.inner.push(&middle(frame, self.width, self.height))?;
        }
        self.frames += 1;
        Ok(())
    }

    fn sound(&mut self, sound: &SoundTrack) -> Result<Option<String>> {
        self.inner.sound(sound)
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        self.inner.finish()
    }
}

/// Returns the middle of a frame that is at least as large.
fn middle(frame: &Frame, width: usize, height: usize) -> Frame {
    let (left, top) = ((frame.width - width) / 2, (frame.height - height) / 2);
    let mut data = Vec::with_capacity(3 * width * height);
    for plane in frame.planes() {
        for row in top..top + height {
            data.extend_from_slice(&plane[row * frame.width + left..][..width]);
        }
    }
    Frame { width, height, data }
}

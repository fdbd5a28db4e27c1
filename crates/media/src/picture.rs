//! Still pictures: reading, fitting to the size of a clip, conversion from and to frames, writing as PNG.

mod fit;
mod notes;
mod read;
mod sheet;
mod tiff;
mod whole;

pub use fit::Fit;
pub(crate) use notes::notes_of;
pub use read::picture_size;
#[cfg(any(feature = "gif", feature = "webp"))]
pub(crate) use read::{check_size as check_stored_size, over_white};
pub(crate) use read::{read_over_white, readable, refused};
pub use sheet::contact_sheet;
#[cfg(feature = "webp")]
pub(crate) use whole::riff_len;

use crate::clip::Frame;
use crate::color::to_u8;
use crate::error::{MediaError, Result};
use crate::output::Output;
use crate::png::encode_rgb8;
use crate::resample::{Filter, Window, resize_rgb8};
use std::path::Path;

/// The longest side of a resized picture.
const MAX_SIDE: usize = 1 << 15;

/// A still picture: interleaved 8-bit RGB, `[H, W, 3]` row by row, in sRGB.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// The width in pixels.
    pub width: usize,
    /// The height in pixels.
    pub height: usize,
    /// Red, green and blue of each pixel: 3 * height * width values.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// Returns a picture of interleaved RGB values; an error unless there are 3 * width * height of them.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        let picture = Self { width, height, rgb };
        picture.check()?;
        Ok(picture)
    }

    /// Converts the picture to a frame: planar, each value divided by 255.
    pub fn to_frame(&self) -> Frame {
        let channel = |c: usize| self.rgb.as_chunks::<3>().0.iter().map(move |pixel| f32::from(pixel[c]) / 255.0);
        Frame { width: self.width, height: self.height, data: (0..3).flat_map(channel).collect() }
    }

    /// Converts a frame to a picture: values are clipped to 0..=1 and rounded to the nearest of 256.
    pub fn from_frame(frame: &Frame) -> Self {
        let area = frame.data.len() / 3;
        let (red, rest) = frame.data.split_at(area);
        let (green, blue) = rest.split_at(area);
        let pixels = red.iter().zip(green).zip(blue).map(|((&r, &g), &b)| [r, g, b]);
        let rgb = pixels.flat_map(|pixel| pixel.map(|x| to_u8(x.clamp(0.0, 1.0) * 255.0))).collect();
        Self { width: frame.width, height: frame.height, rgb }
    }

    /// Returns the picture, scaled down if a side is longer than `max_side`. It keeps its proportions.
    pub fn thumbnail(&self, max_side: usize) -> Result<Self> {
        self.check()?;
        let &Self { width, height, ref rgb } = self;
        let longest = width.max(height);
        if longest <= max_side {
            return Ok(self.clone());
        }
        let scale = max_side as f64 / longest as f64;
        let side = |side: usize| ((side as f64 * scale).round() as usize).max(1);
        let (new_width, new_height) = (side(width), side(height));
        check_size(new_width.min(max_side), new_height.min(max_side))?;
        let window = Window::whole(new_width, new_height);
        let rgb = resize_rgb8(rgb, (width, height), &window, Filter::Lanczos);
        Ok(Self { width: new_width, height: new_height, rgb })
    }

    /// Returns the bytes of a PNG file of the picture, 8-bit RGB.
    pub fn png_bytes(&self) -> Result<Vec<u8>> {
        self.check()?;
        let mut bytes = Vec::new();
        encode_rgb8(&mut bytes, self.width, self.height, &self.rgb, None)
            .map_err(|error| MediaError::encoder("the PNG encoder", "encode", error.to_string()))?;
        Ok(bytes)
    }

    /// Writes a PNG file atomically, replacing the file that was there.
    pub fn write_png(&self, path: impl AsRef<Path>) -> Result<()> {
        let bytes = self.png_bytes()?;
        let mut file = Output::create(path.as_ref())?;
        file.put(&bytes)?;
        file.commit()?;
        Ok(())
    }

    /// Checks that there is a pixel, and that each has three values.
    pub(crate) fn check(&self) -> Result<()> {
        let &Self { width, height, ref rgb } = self;
        check_size(width, height)?;
        if rgb.len() == 3 * width * height {
            Ok(())
        } else {
            Err(MediaError::FrameData { width, height, got: rgb.len() })
        }
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture {{ {}x{}, {} bytes }}", self.width, self.height, self.rgb.len())
    }
}

/// Checks that a picture can have this size.
pub(crate) fn check_size(width: usize, height: usize) -> Result<()> {
    let fits = |side| (1..=MAX_SIDE).contains(&side);
    if fits(width) && fits(height) { Ok(()) } else { Err(MediaError::PictureSize { width, height, limit: MAX_SIDE }) }
}

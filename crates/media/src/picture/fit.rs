//! Fitting pictures of any shape to the size of a clip.
//!
//! Cropping scales and rounds as the image-to-video code of Wan2.2 does
//! (<https://github.com/Wan-Video/Wan2.2/blob/42bf4cfaa384/wan/textimage2video.py>).

use super::{Picture, check_size};
use crate::error::Result;
use crate::resample::{Filter, Window, resize_rgb8};
use std::fmt;
use std::str::FromStr;

/// The treatment of a picture whose proportions differ from the wanted ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fit {
    /// Scales the picture to cover the size and cuts off the rest, half of it at each of two sides.
    #[default]
    Crop,
    /// Shows the whole picture in the middle, between black bars.
    Pad,
    /// Stretches the picture.
    Stretch,
}

impl FromStr for Fit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "crop" => Ok(Self::Crop),
            "pad" => Ok(Self::Pad),
            "stretch" => Ok(Self::Stretch),
            other => Err(format!("`{other}` is not crop, pad or stretch")),
        }
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crop => "crop",
            Self::Pad => "pad",
            Self::Stretch => "stretch",
        })
    }
}

impl Picture {
    /// Returns the picture at `width`×`height`. The scaled size is rounded to the nearest (halves to the even one) before pixels
    /// are cut off or added; an odd pixel is cut off or added at the right or at the bottom.
    ///
    /// # Errors
    /// `rgb` does not have the length of the size, or a side is 0 or longer than 32768.
    pub fn fitted(&self, width: usize, height: usize, fit: Fit, filter: Filter) -> Result<Self> {
        self.check()?;
        check_size(width, height)?;
        let input = (self.width, self.height);
        let ratios = (width as f64 / self.width as f64, height as f64 / self.height as f64);
        match fit {
            Fit::Stretch => {
                let rgb = resize_rgb8(&self.rgb, input, &Window::whole(width, height), filter);
                Ok(Self { width, height, rgb })
            }
            Fit::Crop => {
                let (scaled_w, scaled_h) = scaled(input, ratios.0.max(ratios.1));
                let scaled = (scaled_w.max(width), scaled_h.max(height));
                let origin = ((scaled.0 - width) / 2, (scaled.1 - height) / 2);
                let window = Window { scaled, origin, size: (width, height) };
                Ok(Self { width, height, rgb: resize_rgb8(&self.rgb, input, &window, filter) })
            }
            Fit::Pad => {
                let (scaled_w, scaled_h) = scaled(input, ratios.0.min(ratios.1));
                let inner = Window::whole(scaled_w.clamp(1, width), scaled_h.clamp(1, height));
                Ok(padded(&resize_rgb8(&self.rgb, input, &inner, filter), inner.size, width, height))
            }
        }
    }
}

fn scaled((width, height): (usize, usize), scale: f64) -> (usize, usize) {
    let side = |side: usize| (side as f64 * scale).round_ties_even() as usize;
    (side(width), side(height))
}

/// Returns a black picture with `rgb` `[h, w, 3]` in the middle.
fn padded(rgb: &[u8], (inner_w, inner_h): (usize, usize), width: usize, height: usize) -> Picture {
    let mut out = vec![0; 3 * width * height];
    let (left, top) = ((width - inner_w) / 2, (height - inner_h) / 2);
    for (row, source) in rgb.chunks_exact(3 * inner_w).enumerate() {
        let start = 3 * ((top + row) * width + left);
        out[start..start + source.len()].copy_from_slice(source);
    }
    Picture { width, height, rgb: out }
}

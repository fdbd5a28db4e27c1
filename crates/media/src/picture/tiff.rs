//! The first directory of a TIFF (<https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf>), for what the decoder lacks:
//! whether there is a second one, and pictures with a palette.

use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};

const BITS: u16 = 258;
const INTERPRETATION: u16 = 262;
const COLOUR_MAP: u16 = 320;
/// The interpretations "black is zero" and "palette".
const GREY: u16 = 1;
const PALETTE: u16 = 3;

/// The colours of 256 indices.
pub(super) struct Palette(Vec<[u8; 3]>);

impl Palette {
    /// Returns the picture of these indices.
    pub(super) fn colours_of(&self, indices: &GrayImage) -> DynamicImage {
        let colour = |x, y| image::Rgb(self.0[usize::from(indices.get_pixel(x, y)[0])]);
        RgbImage::from_fn(indices.width(), indices.height(), colour).into()
    }
}

/// Returns a TIFF of the indices of one with a palette of 256 colours, and the palette; `None` for any other picture.
pub(super) fn without_palette(bytes: &[u8], format: ImageFormat) -> Option<(Vec<u8>, Palette)> {
    if format != ImageFormat::Tiff {
        return None;
    }
    let tiff = Directory::first(bytes)?;
    let (bits, interpretation, map) = (tiff.entry(BITS)?, tiff.entry(INTERPRETATION)?, tiff.entry(COLOUR_MAP)?);
    if tiff.short(bits + 8)? != 8 || tiff.short(interpretation + 8)? != PALETTE || tiff.long(map + 4)? != 3 * 256 {
        return None;
    }
    let colours = tiff.long(map + 8)?;
    let value = |index: usize| Some((tiff.short(colours.checked_add(2 * index)?)? >> 8) as u8);
    let colour = |index: usize| Some([value(index)?, value(256 + index)?, value(512 + index)?]);
    let palette = (0..256).map(colour).collect::<Option<_>>()?;
    let mut indices = bytes.to_vec();
    let grey = if tiff.little { GREY.to_le_bytes() } else { GREY.to_be_bytes() };
    indices[interpretation + 8..interpretation + 10].copy_from_slice(&grey);
    Some((indices, Palette(palette)))
}

/// Returns whether a TIFF has a second directory; `None` if it is damaged or a `BigTIFF`.
pub(super) fn has_pages(bytes: &[u8]) -> Option<bool> {
    let tiff = Directory::first(bytes)?;
    Some(tiff.long(tiff.start + 12 * tiff.entries)? != 0)
}

/// The first directory of a file.
struct Directory<'a> {
    bytes: &'a [u8],
    little: bool,
    /// The place of the first entry.
    start: usize,
    entries: usize,
}

impl<'a> Directory<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let little = bytes.starts_with(b"II*\0");
        if !little && !bytes.starts_with(b"MM\0*") {
            return None;
        }
        let mut found = Self { bytes, little, start: 0, entries: 0 };
        let place = found.long(4)?;
        found.entries = usize::from(found.short(place)?);
        found.start = place + 2;
        Some(found)
    }

    /// Returns the place of the entry with this tag.
    fn entry(&self, tag: u16) -> Option<usize> {
        let places = (0..self.entries).map(|index| self.start + 12 * index);
        places.into_iter().find(|&place| self.short(place) == Some(tag))
    }

    fn short(&self, at: usize) -> Option<u16> {
        let value = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.little { u16::from_le_bytes(value) } else { u16::from_be_bytes(value) })
    }

    fn long(&self, at: usize) -> Option<usize> {
        let value = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.little { u32::from_le_bytes(value) } else { u32::from_be_bytes(value) } as usize)
    }
}

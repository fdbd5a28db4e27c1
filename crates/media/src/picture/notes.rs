//! What a picture file has that [`read_image`](crate::read_image) leaves out.

use super::read::{content, format};
use super::tiff;
use crate::error::Result;
use crate::stored::Stored;
use image::{ImageDecoder, ImageFormat, ImageReader};
use std::io::Cursor;

/// Returns sentences for the user about the picture file: it has more frames than the first, or a colour profile.
pub(crate) fn notes_of(stored: &Stored) -> Result<Vec<String>> {
    let bytes = content(stored)?;
    let format = format(&bytes, &stored.path)?;
    let mut notes = Vec::new();
    if format == ImageFormat::Png && png_chunks(&bytes).any(|kind| kind == b"acTL") {
        notes.push("only the first frame of the animated PNG is read: as GIF or WebP, all are".into());
    }
    if format == ImageFormat::Tiff && tiff::has_pages(&bytes) == Some(true) {
        notes.push("only the first page of the TIFF is read".into());
    }
    let decoder = ImageReader::with_format(Cursor::new(&bytes), format).into_decoder();
    let profile = decoder.ok().and_then(|mut decoder| decoder.icc_profile().ok().flatten());
    if profile.is_some_and(|profile| !says_srgb(&profile)) {
        notes.push("its colour profile is not applied: its colours are taken as sRGB".into());
    }
    Ok(notes)
}

/// Returns the kinds of the chunks before the pixels.
fn png_chunks(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    std::iter::from_fn(move || {
        let len = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let kind = rest.get(4..8)?;
        rest = rest.get(len.checked_add(12)?..).unwrap_or_default();
        Some(kind)
    })
    .take_while(|kind| *kind != b"IDAT")
}

/// Returns whether a profile calls itself sRGB, in ASCII or in UTF-16 as newer ones do.
fn says_srgb(profile: &[u8]) -> bool {
    profile.windows(4).any(|name| name == b"sRGB") || profile.windows(8).any(|name| name == b"\0s\0R\0G\0B")
}

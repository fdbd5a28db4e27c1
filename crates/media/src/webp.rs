//! Animated WebP (<https://developers.google.com/speed/webp/docs/riff_container>), every frame lossless (VP8L).
//!
//! The `image-webp` crate encodes single pictures; this module writes the animation around them (VP8X, ANIM, ANMF).

use crate::clip::{ClipSpec, Frame};
use crate::color::rgb8;
use crate::error::{MediaError, Result};
use crate::output::Output;
use crate::recipe::{MAX_BYTES, XMP, escape_xml};
use crate::{ClipWriter, WriteOptions, Written};
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageError};
use std::path::Path;

const MAX_SIDE: usize = 1 << 14;
const ANIMATION: u8 = 0x02;
const HAS_XMP: u8 = 0x04;
const OPAQUE: u8 = 0x02; // a frame that replaces what is under it instead of being blended in

pub(crate) struct WebpWriter {
    spec: ClipSpec,
    out: Output,
    len: u64,
    frames: u64,
    xmp: Option<String>,
}

impl WebpWriter {
    pub(crate) fn create(path: &Path, spec: &ClipSpec, options: &WriteOptions) -> Result<Self> {
        let &ClipSpec { width, height, .. } = spec;
        if width.max(height) > MAX_SIDE {
            return Err(MediaError::Size { format: "WebP", width, height, limit: "each side is at most 16384" });
        }
        let xmp = options.recipe.as_deref().map(|recipe| XMP.join(&escape_xml(recipe)));
        let bytes = xmp.as_ref().map_or(0, String::len) as u64;
        if bytes > MAX_BYTES {
            return Err(MediaError::RecipeTooLong { bytes, limit: MAX_BYTES });
        }
        let mut writer = Self { spec: *spec, out: Output::create(path)?, len: 0, frames: 0, xmp };
        writer.put(b"RIFF\0\0\0\0WEBP")?;
        let mut features = vec![ANIMATION | if bytes > 0 { HAS_XMP } else { 0 }, 0, 0, 0];
        features.extend([width - 1, height - 1].into_iter().flat_map(u24));
        writer.put_chunk(*b"VP8X", &features)?;
        // Black behind the frames, repeated for ever.
        writer.put_chunk(*b"ANIM", &[0, 0, 0, 255, 0, 0])?;
        Ok(writer)
    }

    fn put_chunk(&mut self, kind: [u8; 4], payload: &[u8]) -> Result<()> {
        self.put(&chunk(kind, payload))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.len += bytes.len() as u64;
        if self.len > u64::from(u32::MAX) {
            return Err(MediaError::TooLong { format: "WebP", path: self.out.target().to_path_buf() });
        }
        self.out.put(bytes)
    }
}

impl ClipWriter for WebpWriter {
    fn push(&mut self, frame: &Frame) -> Result<()> {
        self.spec.check(frame, self.frames)?;
        let picture = lossless(frame)?;
        let start = |frame| self.spec.fps.start_of(frame, 1000) as usize;
        let duration = start(self.frames + 1) - start(self.frames);
        let mut payload = Vec::with_capacity(picture.len() + 16);
        payload.extend([0, 0, frame.width - 1, frame.height - 1, duration].into_iter().flat_map(u24));
        payload.push(OPAQUE);
        payload.extend(picture);
        self.put_chunk(*b"ANMF", &payload)?;
        self.frames += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Written> {
        if self.frames == 0 {
            return Err(MediaError::NoFrames { path: self.out.target().to_path_buf() });
        }
        if let Some(xmp) = self.xmp.take() {
            self.put_chunk(*b"XMP ", xmp.as_bytes())?;
        }
        let Self { spec: ClipSpec { width, height, .. }, mut out, len, frames, .. } = *self;
        out.put_at(4, &(len as u32 - 8).to_le_bytes())?;
        let path = out.target().to_path_buf();
        let bytes = out.commit()?;
        Ok(Written { path, frames, bytes, width, height, notes: Vec::new() })
    }
}

/// Returns the frame as a VP8L chunk.
fn lossless(frame: &Frame) -> Result<Vec<u8>> {
    let failed = |error: ImageError| MediaError::encoder("the WebP encoder", "encode", error.to_string());
    let mut file = Vec::new();
    let (width, height) = (frame.width as u32, frame.height as u32);
    WebPEncoder::new_lossless(&mut file)
        .encode(&rgb8(frame), width, height, ExtendedColorType::Rgb8)
        .map_err(failed)?;
    // A plain file is the chunk behind 12 bytes of RIFF header.
    match file.get(12..16) {
        Some(b"VP8L") => Ok(file.split_off(12)),
        _ => Err(MediaError::encoder("the WebP encoder", "encode", "the picture is not a plain VP8L file")),
    }
}

/// Returns a chunk: kind, length, payload, and a byte of padding after an odd length.
fn chunk(kind: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut out = kind.to_vec();
    out.extend((payload.len() as u32).to_le_bytes());
    out.extend(payload);
    out.resize(out.len().next_multiple_of(2), 0);
    out
}

fn u24(value: usize) -> [u8; 3] {
    let [a, b, c, ..] = value.to_le_bytes();
    [a, b, c]
}

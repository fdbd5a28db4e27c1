//! Animated GIF (<https://www.w3.org/Graphics/GIF/spec-gif89a.txt>), frame by frame. Pixels that a frame does
//! not paint keep their earlier colour, which is white at first.

use super::{ClipReader, speed, uneven};
use crate::clip::{ClipSpec, Frame};
use crate::error::{MediaError, Result};
use crate::picture::{Picture, check_stored_size, over_white};
use crate::stored::{Stored, Stream};
use gif::{ColorOutput, DecodeOptions, Decoder, DecodingError, DisposalMethod, MemoryLimit};
use std::io;
use std::path::{Path, PathBuf};

pub(crate) struct GifReader {
    path: PathBuf,
    decoder: Decoder<Stream>,
    spec: ClipSpec,
    frames: usize,
    done: usize,
    /// The canvas that the next frame is painted on, RGBA `[H, W, 4]`.
    canvas: Vec<u8>,
    note: Option<String>,
}

/// The rectangle that a frame paints, cut to the canvas.
#[derive(Clone, Copy)]
struct Area {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl GifReader {
    /// Reads the file once for the number and the times of the frames, without decoding them.
    pub(crate) fn open(stored: &Stored) -> Result<Self> {
        let path = stored.path.as_path();
        let mut index = decoder(stored, true)?;
        let (mut frames, mut hundredths, mut delays) = (0, 0, (u64::MAX, 0));
        while let Some(frame) = index.next_frame_info().map_err(|error| failed(path, error))? {
            check_stored_size(frame.width.into(), frame.height.into(), path)?;
            frames += 1;
            // Browsers take shorter delays for mistakes.
            let delay = if frame.delay < 2 { 10 } else { u64::from(frame.delay) };
            hundredths += delay;
            delays = (delays.0.min(delay), delays.1.max(delay));
        }
        if frames == 0 {
            return Err(MediaError::Damaged { path: path.to_path_buf(), what: "it has no frames".into() });
        }
        let decoder = decoder(stored, false)?;
        let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
        check_stored_size(width, height, path)?;
        let spec = ClipSpec { width, height, fps: speed(frames, if frames == 1 { 0 } else { hundredths }, 100)? };
        let note = uneven(delays.0, delays.1, 100.0, spec.fps);
        let canvas = vec![0; 4 * width * height];
        Ok(Self { path: path.to_path_buf(), decoder, spec, frames: frames as usize, done: 0, canvas, note })
    }
}

impl ClipReader for GifReader {
    fn spec(&self) -> ClipSpec {
        self.spec
    }

    fn frames(&self) -> Option<usize> {
        Some(self.frames)
    }

    fn notes(&self) -> Vec<String> {
        self.note.iter().cloned().collect()
    }

    fn next_frame(&mut self) -> Result<Option<Frame>> {
        if self.done == self.frames {
            return Ok(None);
        }
        let ClipSpec { width, height, .. } = self.spec;
        let failed = |error| failed(&self.path, error);
        let Some(info) = self.decoder.next_frame_info().map_err(failed)? else { return Ok(None) };
        let (stride, dispose) = (usize::from(info.width), info.dispose);
        // Checked again: the file may have changed since it was opened.
        check_stored_size(stride, info.height.into(), &self.path)?;
        let (left, top) = (usize::from(info.left).min(width), usize::from(info.top).min(height));
        let area =
            Area { left, top, width: stride.min(width - left), height: usize::from(info.height).min(height - top) };
        let mut pixels = vec![0; self.decoder.buffer_size()]; // [h, w, 4]
        self.decoder.read_into_buffer(&mut pixels).map_err(failed)?;
        let before = (dispose == DisposalMethod::Previous).then(|| self.canvas.clone());
        paint(&mut self.canvas, width, &pixels, stride, area);
        let picture = Picture { width, height, rgb: over_white(&self.canvas) };
        match (dispose, before) {
            (DisposalMethod::Background, _) => clear(&mut self.canvas, width, area),
            (_, Some(before)) => self.canvas = before,
            _ => {}
        }
        self.done += 1;
        Ok(Some(picture.to_frame()))
    }
}

/// Paints the pixels `[h, w, 4]` that are not transparent on the canvas.
fn paint(canvas: &mut [u8], canvas_width: usize, pixels: &[u8], stride: usize, area: Area) {
    for (row, pixels) in pixels.chunks_exact(4 * stride).take(area.height).enumerate() {
        let start = 4 * ((area.top + row) * canvas_width + area.left);
        let out = canvas[start..start + 4 * area.width].as_chunks_mut::<4>().0;
        for (out, pixel) in out.iter_mut().zip(pixels.as_chunks::<4>().0) {
            if pixel[3] != 0 {
                *out = *pixel;
            }
        }
    }
}

fn clear(canvas: &mut [u8], canvas_width: usize, area: Area) {
    for row in area.top..area.top + area.height {
        canvas[4 * (row * canvas_width + area.left)..][..4 * area.width].fill(0);
    }
}

fn decoder(stored: &Stored, skip: bool) -> Result<Decoder<Stream>> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    options.set_memory_limit(MemoryLimit::Unlimited); // sizes are checked here
    options.skip_frame_decoding(skip);
    options.read_info(stored.open()?).map_err(|error| failed(&stored.path, error))
}

fn failed(path: &Path, error: DecodingError) -> MediaError {
    let damaged = |what: String| MediaError::Damaged { path: path.to_path_buf(), what };
    match error {
        DecodingError::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof => damaged("it is cut short".into()),
        DecodingError::Io(source) => MediaError::io("read", path, source),
        other => damaged(other.to_string()),
    }
}

//! Animated GIF (<https://www.w3.org/Graphics/GIF/spec-gif89a.txt>): 256 colours per frame, chosen for each frame, and
//! times in hundredths of a second.

use crate::clip::{ClipSpec, Frame};
use crate::color::rgb8;
use crate::error::{MediaError, Result};
use crate::output::Output;
use crate::{ClipWriter, WriteOptions, Written};
use gif::{AnyExtension, Encoder, EncodingError, Repeat};
use std::path::{Path, PathBuf};

/// The speed of the palette's choice: 1 is the slowest and best, 30 the fastest.
const PALETTE_SPEED: i32 = 10;

/// Browsers show frames of shorter times at a slow default speed.
const FASTEST_FPS: f64 = 50.0;

const COMMENT: AnyExtension = AnyExtension(0xfe);

pub(crate) struct GifWriter {
    spec: ClipSpec,
    path: PathBuf,
    encoder: Encoder<Output>,
    frames: u64,
}

impl GifWriter {
    pub(crate) fn create(path: &Path, spec: &ClipSpec, options: &WriteOptions) -> Result<Self> {
        let &ClipSpec { width, height, .. } = spec;
        let (Ok(w), Ok(h)) = (u16::try_from(width), u16::try_from(height)) else {
            return Err(MediaError::Size { format: "GIF", width, height, limit: "each side is at most 65535" });
        };
        let out = Output::create(path)?;
        let path = out.target().to_path_buf();
        let failed = |error| failed(&path, error);
        let mut encoder = Encoder::new(out, w, h, &[]).map_err(failed)?;
        encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
        if let Some(recipe) = &options.recipe {
            let blocks: Vec<&[u8]> = recipe.as_bytes().chunks(255).collect();
            encoder.write_raw_extension(COMMENT, &blocks).map_err(failed)?;
        }
        Ok(Self { spec: *spec, path, encoder, frames: 0 })
    }
}

impl ClipWriter for GifWriter {
    fn push(&mut self, frame: &Frame) -> Result<()> {
        self.spec.check(frame, self.frames)?;
        let (width, height) = (frame.width as u16, frame.height as u16);
        let mut image = gif::Frame::from_rgb_speed(width, height, &rgb8(frame), PALETTE_SPEED);
        let start = |frame| self.spec.fps.start_of(frame, 100);
        image.delay = (start(self.frames + 1) - start(self.frames)) as u16;
        self.encoder.write_frame(&image).map_err(|error| failed(&self.path, error))?;
        self.frames += 1;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        let Self { spec, path, encoder, frames } = *self;
        let ClipSpec { width, height, fps } = spec;
        if frames == 0 {
            return Err(MediaError::NoFrames { path });
        }
        let bytes = encoder.into_inner().map_err(|error| failed(&path, error))?.commit()?;
        let mut notes = vec!["GIF keeps 256 colours per frame; .mp4 and .webp keep them all".to_owned()];
        if fps.as_f64() > FASTEST_FPS {
            notes.push(format!("GIF players show at most {FASTEST_FPS} frames per second, the clip has {fps}"));
        }
        Ok(Written { path, frames, bytes, width, height, notes })
    }
}

fn failed(path: &Path, error: EncodingError) -> MediaError {
    match error {
        EncodingError::Io(source) => MediaError::io("write", path, source),
        other => MediaError::encoder("the GIF encoder", "write", other.to_string()),
    }
}

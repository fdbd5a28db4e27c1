//! Animated GIF (<https://www.w3.org/Graphics/GIF/spec-gif89a.txt>): 256 colours per frame, chosen for each frame, and
//! times in hundredths of a second.

use crate::clip::{ClipSpec, Fps, Frame};
use crate::color::rgb8;
use crate::error::{MediaError, Result};
use crate::output::Output;
use crate::{ClipWriter, WriteOptions, Written};
use gif::{AnyExtension, Encoder, EncodingError, Repeat};
use std::path::{Path, PathBuf};

/// The speed of the palette's choice: 1 is the slowest and best, 30 the fastest.
const PALETTE_SPEED: i32 = 10;

/// Browsers show frames of shorter times at a slow default speed.
const FASTEST_FPS: u32 = 50;

const COMMENT: AnyExtension = AnyExtension(0xfe);

pub(crate) struct GifWriter {
    spec: ClipSpec,
    path: PathBuf,
    encoder: Encoder<Output>,
    /// The number of frames that were pushed.
    pushed: u64,
    /// The number of frames in the file.
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
        Ok(Self { spec: *spec, path, encoder, pushed: 0, frames: 0 })
    }
}

impl ClipWriter for GifWriter {
    fn push(&mut self, frame: &Frame) -> Result<()> {
        self.spec.check(frame, self.pushed)?;
        let delay = delay(self.spec.fps, self.pushed);
        self.pushed += 1;
        let Some(delay) = delay else { return Ok(()) };
        let (width, height) = (frame.width as u16, frame.height as u16);
        let mut image = gif::Frame::from_rgb_speed(width, height, &rgb8(frame), PALETTE_SPEED);
        image.delay = delay;
        self.encoder.write_frame(&image).map_err(|error| failed(&self.path, error))?;
        self.frames += 1;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        let Self { spec, path, encoder, pushed, frames } = *self;
        let ClipSpec { width, height, fps } = spec;
        if frames == 0 {
            return Err(MediaError::NoFrames { path });
        }
        let bytes = encoder.into_inner().map_err(|error| failed(&path, error))?.commit()?;
        let mut notes = vec!["GIF keeps 256 colours per frame; .mp4 and .webp keep them all".to_owned()];
        if pushed > frames {
            let left_out = pushed - frames;
            notes.push(format!(
                "GIF players show at most {FASTEST_FPS} frames per second, the clip has {fps}: {left_out} of {pushed} \
                 frames are left out"
            ));
        }
        Ok(Written { path, frames, bytes, width, height, notes })
    }
}

/// Returns the time of frame `index` in hundredths of a second, or `None` if it is left out because the clip has more than
/// [`FASTEST_FPS`]: then each fiftieth of a second shows the first frame that starts in it.
fn delay(fps: Fps, index: u64) -> Option<u16> {
    if fps.as_f64() <= f64::from(FASTEST_FPS) {
        return Some((fps.start_of(index + 1, 100) - fps.start_of(index, 100)) as u16);
    }
    let slot = |index: u64| u128::from(index) * u128::from(fps.den()) * u128::from(FASTEST_FPS) / u128::from(fps.num());
    (index == 0 || slot(index) != slot(index - 1)).then_some((100 / FASTEST_FPS) as u16)
}

fn failed(path: &Path, error: EncodingError) -> MediaError {
    match error {
        EncodingError::Io(source) => MediaError::io("write", path, source),
        other => MediaError::encoder("the GIF encoder", "write", other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_frame_is_shorter_than_players_show() {
        for (num, den, frames, kept) in
            [(50, 1, 100, 100), (60, 1, 120, 100), (240, 1, 240, 50), (60000, 1001, 600, 500)]
        {
            let fps = Fps::new(num, den).unwrap();
            let delays: Vec<u16> = (0..frames).filter_map(|index| delay(fps, index)).collect();
            assert_eq!(delays, vec![2; kept], "{fps}");
        }
        assert_eq!((0..6).filter_map(|index| delay(Fps::new(16, 1).unwrap(), index)).sum::<u16>(), 38);
    }
}

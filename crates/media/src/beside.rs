//! [`SoundBeside`]: a writer that also writes the sound to a file of its own.

use crate::clip::{Fps, Frame};
use crate::error::Result;
use crate::output::Output;
use crate::sound::track::SoundTrack;
use crate::{ClipWriter, Written};
use std::path::PathBuf;

/// A writer that passes everything on, and writes the sound to a WAV file, as long as the clip, when that is complete.
pub struct SoundBeside<'a> {
    inner: Box<dyn ClipWriter + 'a>,
    path: PathBuf,
    fps: Fps,
    frames: u64,
    sound: Option<SoundTrack>,
}

impl<'a> SoundBeside<'a> {
    /// Returns a writer to `inner`, which has `fps` frames per second, and to the WAV file `path`.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn new(inner: Box<dyn ClipWriter + 'a>, path: impl Into<PathBuf>, fps: Fps) -> Result<Self> {
        let path = path.into();
        drop(Output::create(&path)?);
        Ok(Self { inner, path, fps, frames: 0, sound: None })
    }
}

impl ClipWriter for SoundBeside<'_> {
    fn push(&mut self, frame: &Frame) -> Result<()> {
        self.frames += 1;
        self.inner.push(frame)
    }

    fn sound(&mut self, sound: &SoundTrack) -> Result<Option<String>> {
        self.sound = Some(sound.clone());
        // What the clip cannot hold is beside it.
        self.inner.sound(sound).map(|_| None)
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        let Self { inner, path, fps, frames, sound } = *self;
        let mut written = inner.finish()?;
        let Some(sound) = sound else {
            written.notes.push(format!("the clip has no sound: `{}` is not written", path.display()));
            return Ok(written);
        };
        match sound.decoded() {
            Ok(sound) => sound.fitted_to(frames, fps).write_wav(&path)?,
            Err(error) => written.notes.push(format!("the sound is not written to `{}`: {error}", path.display())),
        }
        Ok(written)
    }
}

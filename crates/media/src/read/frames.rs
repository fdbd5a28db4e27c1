//! Frames in memory as a clip.

use super::{ClipReader, USUAL_FPS};
use crate::clip::{ClipSpec, Fps, Frame};
use crate::error::Result;
use crate::picture::Picture;
use crate::sound::track::SoundTrack;
use crate::source::Decoded;
use std::sync::Arc;

pub(crate) struct FramesReader {
    frames: Arc<[Picture]>,
    spec: ClipSpec,
    next: usize,
    sound: Option<SoundTrack>,
}

impl FramesReader {
    /// Opens frames; one that a caller put together may be of a wrong length.
    pub(crate) fn open(Decoded { frames, fps, sound, .. }: &Decoded) -> Result<Self> {
        frames[0].check()?;
        let fps = fps.map_or_else(|| Fps::new(USUAL_FPS, 1), Ok)?;
        let spec = ClipSpec { width: frames[0].width, height: frames[0].height, fps };
        Ok(Self { frames: Arc::clone(frames), spec, next: 0, sound: sound.clone() })
    }
}

impl ClipReader for FramesReader {
    fn spec(&self) -> ClipSpec {
        self.spec
    }

    fn frames(&self) -> Option<usize> {
        Some(self.frames.len())
    }

    fn sound(&self) -> Option<SoundTrack> {
        self.sound.clone()
    }

    fn next_frame(&mut self) -> Result<Option<Frame>> {
        let frame = self.frames.get(self.next).map(Picture::to_frame);
        self.next += 1;
        Ok(frame)
    }
}

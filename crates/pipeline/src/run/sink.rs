//! [`Sink`]: takes the frames of a clip where no file is wanted.

use crate::request::Request;
use crate::request::output::Output;
use kinora_media::{ClipSpec, ClipWriter, Frame, MediaError, Sound, SoundTrack, Written};
use std::error::Error;
use std::path::PathBuf;
use tempfile::TempDir;

/// What a sink knows of the clip before its first frame.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ClipInfo {
    /// Width of the frames in pixels.
    pub width: usize,
    /// Height of the frames in pixels.
    pub height: usize,
    /// Frames that will come; 0 of a story, whose number is known at its end.
    pub frames: usize,
    /// Frames per second.
    pub fps: f64,
    /// The recipe, in JSON, unless [`Output::metadata`](crate::Output::metadata) leaves it out.
    pub recipe: Option<String>,
}

/// Takes the frames of one clip, in order: [`Pipeline::generate_into`](crate::Pipeline::generate_into) calls it on a thread of its own,
/// while later frames are decoded, [`Pipeline::film_into`](crate::Pipeline::film_into) between them. An error ends the run; the latents are kept then.
pub trait Sink: Send {
    /// Is called once, before the first frame.
    ///
    /// # Errors
    /// Whatever should end the run.
    fn begin(&mut self, clip: &ClipInfo) -> Result<(), Box<dyn Error + Send + Sync>> {
        let _ = clip;
        Ok(())
    }

    /// Takes the sound of the clip, which begins with its first frame: once at most, before the first frame where there is any.
    /// It is as long as the clip if [`ClipInfo::frames`] is known. Without this method, the sound is left out.
    ///
    /// # Errors
    /// Whatever should end the run.
    fn sound(&mut self, sound: &Sound) -> Result<(), Box<dyn Error + Send + Sync>> {
        let _ = sound;
        Ok(())
    }

    /// Takes the next frame, planar RGB in 0..1; [`Picture::from_frame`](crate::Picture::from_frame) rounds it to 8 bits.
    ///
    /// # Errors
    /// Whatever should end the run.
    fn frame(&mut self, frame: &Frame) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Is called once, after the last frame.
    ///
    /// # Errors
    /// Whatever makes the clip useless.
    fn finish(&mut self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}

/// A sink that keeps every frame, 12 bytes for each pixel of each, and the sound.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frames {
    /// What is known of the clip, once it has begun.
    pub clip: Option<ClipInfo>,
    /// The frames so far.
    pub frames: Vec<Frame>,
    /// The sound, if the clip has any.
    pub sound: Option<Sound>,
}

impl Sink for Frames {
    fn begin(&mut self, clip: &ClipInfo) -> Result<(), Box<dyn Error + Send + Sync>> {
        (self.clip, self.frames, self.sound) = (Some(clip.clone()), Vec::with_capacity(clip.frames), None);
        Ok(())
    }

    fn sound(&mut self, sound: &Sound) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.sound = Some(sound.clone());
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.frames.push(frame.clone());
        Ok(())
    }
}

/// The frames' way out of a run.
pub(crate) enum Destination<'a> {
    /// The file that [`Output::clip`](crate::Output::clip) names.
    File,
    /// The caller's.
    Sink(&'a mut dyn Sink),
}

/// The request with a clip in a new temporary folder, which no file is written to: what a run keeps beside its clip goes there.
pub(crate) fn without_file(request: &Request) -> crate::Result<(Request, TempDir)> {
    let error = |source| crate::Error::Io { path: std::env::temp_dir(), source };
    let folder = tempfile::Builder::new().prefix("kinora-").tempdir().map_err(error)?;
    let output = Output { clip: folder.path().join("clip"), ..request.output.clone() };
    Ok((Request { output, ..request.clone() }, folder))
}

/// A sink as a writer among others.
pub(crate) struct SinkWriter<'a> {
    sink: &'a mut dyn Sink,
    spec: ClipSpec,
    /// Frames that will come, if that is known.
    expected: Option<u64>,
    frames: u64,
}

impl<'a> SinkWriter<'a> {
    /// A writer to `sink`, which is told of the clip.
    pub(crate) fn begin(sink: &'a mut dyn Sink, spec: ClipSpec, clip: &ClipInfo) -> Result<Self, MediaError> {
        sink.begin(clip).map_err(refused)?;
        let expected = Some(clip.frames as u64).filter(|frames| *frames > 0);
        Ok(Self { sink, spec, expected, frames: 0 })
    }
}

impl ClipWriter for SinkWriter<'_> {
    fn push(&mut self, frame: &Frame) -> Result<(), MediaError> {
        self.frames += 1;
        self.sink.frame(frame).map_err(refused)
    }

    fn sound(&mut self, sound: &SoundTrack) -> Result<Option<String>, MediaError> {
        let sound = match sound.decoded() {
            Ok(sound) => sound,
            Err(error) => return Ok(Some(format!("the sound is not kept: {error}"))),
        };
        let fitted = self.expected.map(|frames| sound.fitted_to(frames, self.spec.fps));
        self.sink.sound(fitted.as_ref().unwrap_or(&sound)).map_err(refused)?;
        Ok(None)
    }

    fn finish(self: Box<Self>) -> Result<Written, MediaError> {
        self.sink.finish().map_err(refused)?;
        let ClipSpec { width, height, .. } = self.spec;
        Ok(Written { path: PathBuf::new(), frames: self.frames, bytes: 0, width, height, notes: Vec::new() })
    }
}

fn refused(error: Box<dyn Error + Send + Sync>) -> MediaError {
    MediaError::Sink(error)
}

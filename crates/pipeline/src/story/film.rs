//! [`Film`]: the frames of a story on their way to the file, window after window.

use super::colours::Colours;
use super::windows::least_frames;
use crate::families::capabilities::Continuation;
use crate::families::family::ClipEnd;
use crate::plan::inputs::{named, said_of};
use crate::plan::sound::of_clip;
use crate::request::output::{LATENTS_SUFFIX, Output, Report};
use crate::run::Pipeline;
use crate::run::decode::{self, Decoding, Stream, writer};
use crate::run::encode::{Encoding, fitted_frame};
use crate::run::latents_file::{About, LatentsFile, video};
use crate::run::observer::Observer;
use crate::run::report::{replaced, report_of};
use crate::run::sink::Destination;
use crate::run::sound::hand_over;
use crate::{Error, Event, Result, Stage};
use candle_core::{Device, Tensor};
use kinora_media::{ClipWriter, Fit, Frame, Source};
use kinora_vae::Parts;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// The shape that all windows of a story share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Width and height of the decoded frames.
    pub size: (usize, usize),
    /// Width and height of the file, where they are smaller.
    pub cut: Option<(usize, usize)>,
    pub fps: f64,
}

/// Latents of one window, or of the end of the clip that is continued.
struct Part {
    latents: PathBuf,
    /// The decoder starts anew.
    cut: bool,
    /// Latent frames at its beginning that the part before has decoded already.
    known: usize,
    /// Frames at its beginning that are in the clip already: they show how far the colours are off.
    overlap: usize,
}

/// A clip that grows.
pub(super) struct Film<'a, 'w> {
    pipeline: &'a Pipeline,
    output: &'a Output,
    shape: Shape,
    tail: Continuation,
    reel: Reel<'w>,
    /// The recipe that the file carries.
    recipe: Option<String>,
    /// Parts that are not decoded yet.
    parts: Vec<Part>,
    /// The latents of every window so far, and how many of their frames the window before has too.
    latents: Vec<(PathBuf, usize)>,
    /// The whole clip is one stream of latents.
    one_stream: bool,
    /// The clip is a file, beside which its latents are kept.
    to_file: bool,
    /// A sentence about sound that is not kept.
    silent: Option<String>,
}

/// The file, and the last frames that went into it.
struct Reel<'w> {
    writer: Box<dyn ClipWriter + 'w>,
    end: VecDeque<Frame>,
    frames: usize,
}

/// The path of the latents from which a clip can be continued.
pub(super) fn sidecar(clip: &Path) -> PathBuf {
    kinora_files::beside(clip, LATENTS_SUFFIX)
}

impl<'a, 'w> Film<'a, 'w> {
    /// Opens the file; the recipe is written into it.
    pub(super) fn new(
        pipeline: &'a Pipeline,
        output: &'a Output,
        (shape, tail): (Shape, Continuation),
        recipe: Option<&str>,
        destination: Destination<'w>,
    ) -> Result<Self> {
        let to_file = matches!(destination, Destination::File);
        let Shape { size, cut, fps } = shape;
        let shape_of_file = decode::Shape { size, cut, fps, frames: 0, recipe };
        let writer = writer(destination, output, &shape_of_file, pipeline.upscale(output)?)?;
        let reel = Reel { writer, end: VecDeque::new(), frames: 0 };
        let (parts, latents, recipe) = (Vec::new(), Vec::new(), recipe.map(str::to_string));
        Ok(Self {
            pipeline,
            output,
            shape,
            tail,
            reel,
            recipe,
            parts,
            latents,
            one_stream: true,
            to_file,
            silent: None,
        })
    }

    /// Begins with `clip`, and its sound; where its end must be encoded, its latents are kept at `before`.
    pub(super) fn take_over(&mut self, clip: &Source, before: &Path, observer: &mut Observer) -> Result<()> {
        if let Some(Ok(sound)) = of_clip(clip, self.shape.fps, &self.pipeline.readers) {
            self.silent = hand_over(&mut *self.reel.writer, Some(&sound), observer)?;
        }
        if matches!(self.tail, Continuation::Latents { .. })
            && let Some(latents) = latents_of(self.pipeline, self.shape, clip)
        {
            self.latents.push((latents.clone(), 0));
            self.parts.push(Part { latents, cut: true, known: 0, overlap: 0 });
            return Ok(());
        }
        self.one_stream = false;
        let factor = self.pipeline.latent_format().temporal_factor;
        let kept = match self.tail {
            Continuation::Frames(count) => count,
            Continuation::Latents { frames, context } => (frames + context - 1) * factor + 1,
        };
        self.copy(clip, kept, observer)?;
        let found = self.reel.end.len();
        if let Continuation::Latents { .. } = self.tail {
            // A short clip is encoded whole, as far as it makes latent frames.
            let usable = (found - 1) / factor * factor + 1;
            self.reel.end.drain(..found - usable);
            self.encode_end(before, observer)?;
            self.latents.push((before.to_path_buf(), 0));
            self.parts.push(Part { latents: before.to_path_buf(), cut: true, known: 0, overlap: usable });
        }
        Ok(())
    }

    /// Writes every frame of `clip`, and remembers the last `kept`.
    fn copy(&mut self, clip: &Source, kept: usize, observer: &mut Observer) -> Result<()> {
        let (width, height) = self.shape.size;
        let mut reader = self.pipeline.readers.open(clip)?;
        let total = reader.frames().unwrap_or_default();
        while let Some(frame) = reader.next_frame()? {
            let frame = match self.shape.cut {
                Some(cut) if cut == (frame.width, frame.height) => uncut(&frame, width, height)?,
                _ => fitted_frame(frame, width, height, Fit::Crop)?,
            };
            self.reel.write(frame, kept)?;
            let done = self.reel.frames;
            observer.tell(Event::Frames { done, total: total.max(done) })?;
        }
        Ok(())
    }

    fn encode_end(&self, path: &Path, observer: &mut Observer) -> Result<()> {
        if path.exists() {
            return Ok(());
        }
        observer.tell(Event::Stage(Stage::Encode))?;
        let (vae, device, end) = (self.pipeline.vae(Parts::Encoder)?, self.pipeline.device(), &self.reel.end);
        let mut encoding = Encoding { vae: vae.as_ref(), device, source: "the clip that is continued", observer };
        let latents = encoding.encode(end.len(), |index| Ok(end[index].clone()))?;
        LatentsFile::save(path, &video(latents), About::default()).map(drop)
    }

    /// The end of the clip so far, which the next window continues.
    pub(super) fn end(&mut self, observer: &mut Observer) -> Result<ClipEnd> {
        if let Continuation::Latents { frames, .. } = self.tail {
            let (path, _) = self.latents.last().expect("a window that continues has one before it");
            return Ok(ClipEnd::Latents(LatentsFile::open(path)?.tail(frames, self.pipeline.device())?));
        }
        self.decode(observer)?;
        Ok(ClipEnd::Frames(self.reel.end.iter().cloned().collect()))
    }

    /// Adds a window's latents; `end` is the end of the clip that it continues.
    pub(super) fn add(&mut self, latents: PathBuf, end: Option<&ClipEnd>) {
        let (known, overlap) = match end {
            Some(ClipEnd::Latents(tensor)) => (tensor.dims()[2], 0),
            Some(ClipEnd::Frames(frames)) => (0, frames.len()),
            None => (0, 0),
        };
        let cut = known == 0;
        self.one_stream &= self.latents.is_empty() || !cut;
        self.latents.push((latents.clone(), known));
        self.parts.push(Part { latents, cut, known, overlap });
    }

    /// Decodes and writes every part that is left, and completes the file.
    pub(super) fn finish(mut self, observer: &mut Observer) -> Result<Report> {
        self.decode(observer)?;
        let replaced = replaced(&self.output.clip);
        let mut written = self.reel.writer.finish()?;
        written.notes.extend(replaced);
        for note in &written.notes {
            observer.tell_last(Event::Notice(note));
        }
        if self.to_file {
            observer.tell_last(Event::Saved(&written.path));
        }
        written.notes.extend(self.silent);
        let mut report = report_of(written);
        if self.to_file && self.one_stream {
            // The clip is complete: without its latents it can be continued too.
            match keep_latents(&self.latents, self.output, self.shape, self.recipe.as_deref()) {
                Ok(path) => report.latents = Some(path),
                Err(error) => report.notices.push(format!("the clip's latents are not kept: {error}")),
            }
        }
        Ok(report)
    }

    /// Decodes every part that is left into the file.
    fn decode(&mut self, observer: &mut Observer) -> Result<()> {
        let parts = std::mem::take(&mut self.parts);
        if parts.is_empty() {
            return Ok(());
        }
        observer.tell(Event::Stage(Stage::Decode))?;
        let (vae, remembered) = (self.pipeline.vae(Parts::Decoder)?, self.remembered());
        let (device, tile, scratch) = (self.pipeline.device(), self.output.tile, self.output.clip.as_path());
        let in_turn = self.output.enlarges_by_network();
        let decoding = Decoding { vae: vae.as_ref(), device, tile, scratch, in_turn };
        let streams = parts.chunk_by(|_, next| !next.cut).map(|parts| {
            let open = |part: &Part| Ok((LatentsFile::open_for(&part.latents, vae.latent_format())?, part.known));
            Ok((parts.iter().map(open).collect::<Result<Stream>>()?, parts[0].overlap))
        });
        let streams = streams.collect::<Result<Vec<_>>>()?;
        let new: usize = streams.iter().map(|(stream, overlap)| decoding.frames(stream) - overlap).sum();
        let total = self.reel.frames + new;
        for (stream, overlap) in &streams {
            let before = self.reel.frames;
            let mut join = Join::new(&mut self.reel.end, *overlap);
            let reel = &mut self.reel;
            let take = |frame| match join.pass(frame) {
                Some(frame) => reel.write(frame, remembered),
                None => Ok(()),
            };
            decoding.decode(stream, take, &mut |done| {
                observer.tell(Event::Frames { done: before + done.saturating_sub(*overlap), total })
            })?;
        }
        Ok(())
    }

    /// Frames that must be remembered for the next window.
    fn remembered(&self) -> usize {
        match self.tail {
            Continuation::Frames(count) => count,
            Continuation::Latents { .. } => 0,
        }
    }
}

impl Reel<'_> {
    fn write(&mut self, frame: Frame, remembered: usize) -> Result<()> {
        self.writer.push(&frame)?;
        self.frames += 1;
        if remembered > 0 {
            self.end.push_back(frame);
            while self.end.len() > remembered {
                self.end.pop_front();
            }
        }
        Ok(())
    }
}

/// The beginning of a stream, whose first frames repeat the end of the clip so far.
struct Join {
    known: Vec<Frame>,
    seen: Vec<Frame>,
    colours: Option<Colours>,
}

impl Join {
    /// Before a stream that repeats the last `overlap` frames of `end`; none of them is needed after a cut.
    fn new(end: &mut VecDeque<Frame>, overlap: usize) -> Self {
        if overlap == 0 {
            end.clear();
        }
        let known = end.iter().skip(end.len().saturating_sub(overlap)).cloned().collect();
        Self { known, seen: Vec::new(), colours: None }
    }

    /// The next frame of the stream as it goes into the clip, its colours matched; `None` for one that is there already.
    fn pass(&mut self, frame: Frame) -> Option<Frame> {
        if self.seen.len() < self.known.len() {
            self.seen.push(frame);
            if self.seen.len() == self.known.len() {
                self.colours = Some(Colours::from(&self.seen, &self.known));
            }
            return None;
        }
        Some(match self.colours {
            Some(colours) => colours.apply(frame),
            None => frame,
        })
    }
}

/// Refuses a clip that is too short to be continued, before anything is made; returns sentences about what is not read of it
/// and what it loses. Of a clip without its latents, as many frames are read as are needed.
pub(super) fn check_continued(
    pipeline: &Pipeline,
    clip: &Source,
    shape: Shape,
    tail: Continuation,
) -> Result<Vec<String>> {
    let sound = match of_clip(clip, shape.fps, &pipeline.readers) {
        Some(Ok(_)) => Some(said_of(&clip.label(), "its sound is kept, and what is added to the clip is silent")),
        Some(Err(sentence)) => Some(sentence),
        None => None,
    };
    if let Continuation::Latents { frames, .. } = tail
        && let Some(latents) = latents_of(pipeline, shape, clip)
    {
        return LatentsFile::open(&latents)?.tail(frames, &Device::Cpu).map(|_| sound.into_iter().collect());
    }
    let least = least_frames(tail, pipeline.latent_format().temporal_factor);
    let mut reader = pipeline.readers.open(clip)?;
    for found in 0..least {
        if reader.next_frame()?.is_none() {
            let reason = format!("it has {found} frames, {least} are needed to continue");
            let hint = "continue a longer clip, or begin a new one with its last frame";
            return Err(Error::bad_file(clip.label(), reason, hint).about(&["image"]));
        }
    }
    let again = "its frames are compressed again, which loses a little each time: its latents are not beside it";
    let notes = named(&clip.label(), &[reader.notes(), vec![again.into()]].concat());
    Ok(notes.into_iter().chain(sound).collect())
}

/// The latents beside the file of `clip`, if they are of its size, made by its recipe, and saved when it was as it is now.
fn latents_of(pipeline: &Pipeline, shape: Shape, clip: &Source) -> Option<PathBuf> {
    let clip = clip.path()?;
    let latents = sidecar(clip);
    let file = LatentsFile::open(&latents).ok()?;
    let factor = pipeline.latent_format().spatial_factor;
    let ([_, _, h, w], (width, height)) = (file.shape(), shape.size);
    let recipe = kinora_media::read_recipe(clip).ok().flatten();
    let belongs = [h, w] == [height / factor, width / factor]
        && recipe.is_some()
        && file.recipe() == recipe.as_deref()
        && file.is_of_clip(clip);
    belongs.then_some(latents)
}

/// Writes the latents of a whole clip, those of its windows without the frames that the window before has too, beside it.
fn keep_latents(windows: &[(PathBuf, usize)], output: &Output, shape: Shape, recipe: Option<&str>) -> Result<PathBuf> {
    let new = |(path, known): &(PathBuf, usize)| LatentsFile::open(path)?.from(*known);
    let all = windows.iter().map(new).collect::<Result<Vec<_>>>()?;
    let path = sidecar(&output.clip);
    // What is not the latents of a clip may be all that is left of a run whose decoding failed.
    if path.exists() && !LatentsFile::open(&path).is_ok_and(|old| old.is_of_a_clip()) {
        let what = format!("`{}` is not the latents of an earlier clip", path.display());
        return Err(Error::request(what, "move it away"));
    }
    let about = About { fps: Some(shape.fps), cut: shape.cut, recipe, clip: Some(&output.clip) };
    LatentsFile::save(&path, &video(Tensor::cat(&all, 2)?), about)?;
    Ok(path)
}

/// The frame that `frame` was cut out of the middle of, as far as it is known: its edges go on.
fn uncut(frame: &Frame, width: usize, height: usize) -> Result<Frame> {
    let (left, top) = ((width - frame.width) / 2, (height - frame.height) / 2);
    let mut data = Vec::with_capacity(3 * width * height);
    for plane in frame.data.chunks_exact(frame.width * frame.height) {
        for y in 0..height {
            let row = y.saturating_sub(top).min(frame.height - 1) * frame.width;
            data.extend((0..width).map(|x| plane[row + x.saturating_sub(left).min(frame.width - 1)]));
        }
    }
    Ok(Frame::new(width, height, data)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sidecar_lies_beside_the_clip() {
        assert_eq!(sidecar(Path::new("a/b.mp4")), Path::new("a/b.mp4.latents.safetensors"));
    }
}

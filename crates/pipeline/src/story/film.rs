//! [`Film`]: the frames of a story on their way to the file, window after window.

use super::{LOOKS_BACK, Shape, Tail, last_frames, last_latents};
use crate::families::wan::conditioning::{Before, Encoding, fitted_frame};
use crate::request::output::Output;
use crate::run::Pipeline;
use crate::run::codec;
use crate::{Error, Event, Result, Stage};
use candle_core::{DType, Tensor};
use kinora_checkpoint::TensorFile;
use kinora_media::{ClipWriter, Fit, Frame};
use kinora_vae::{Parts, StreamDecoder};
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// How far a join may change the contrast of a window.
const MOST_GAIN: f64 = 1.1;

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

/// How the frames of one decoder join the clip.
#[derive(Default)]
struct Join {
    /// Frames at the decoder's start that are in the clip already.
    overlap: usize,
    /// Those frames as the clip has them, and as they are decoded.
    known: Vec<Frame>,
    seen: Vec<Frame>,
    /// The change from the latter to the former.
    colours: Option<Colours>,
}

/// A clip that grows.
pub(super) struct Film<'a> {
    pipeline: &'a Pipeline,
    output: &'a Output,
    shape: Shape,
    tail: Tail,
    writer: Box<dyn ClipWriter>,
    /// What the file says of itself.
    recipe: Option<String>,
    /// What is not decoded yet.
    parts: Vec<Part>,
    /// Of every window so far, in the order of the clip.
    latents: Vec<(PathBuf, usize)>,
    /// The last frames that were written.
    end: VecDeque<Frame>,
    /// The whole clip is one stream of latents.
    one_stream: bool,
    frames: usize,
}

/// A finished film.
pub(super) struct Written {
    pub path: PathBuf,
    pub width: usize,
    pub height: usize,
    pub frames: u64,
    pub bytes: u64,
    pub notes: Vec<String>,
    /// Its latents, where they are one stream.
    pub latents: Option<PathBuf>,
}

/// Where the latents of a clip lie that can be continued from them.
pub(super) fn sidecar(clip: &Path) -> PathBuf {
    let name = clip.file_name().unwrap_or_default().to_string_lossy();
    clip.with_file_name(format!("{name}.latents.safetensors"))
}

impl<'a> Film<'a> {
    /// Opens the file; the recipe is written into it.
    pub(super) fn new(
        pipeline: &'a Pipeline,
        output: &'a Output,
        shape: Shape,
        tail: Tail,
        recipe: Option<&str>,
    ) -> Result<Self> {
        let writer = codec::writer(output, shape.size, shape.cut, shape.fps, recipe)?;
        let (parts, latents, end) = (Vec::new(), Vec::new(), VecDeque::new());
        let recipe = recipe.map(str::to_string);
        Ok(Self { pipeline, output, shape, tail, writer, recipe, parts, latents, end, one_stream: true, frames: 0 })
    }

    /// Begins with the clip in the file `clip`; what was encoded of its end is kept at `before`.
    pub(super) fn take_over(
        &mut self,
        clip: &Path,
        before: &Path,
        on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<()> {
        let latents = sidecar(clip);
        if matches!(self.tail, Tail::Latents(_)) && self.belongs(&latents, clip) {
            self.latents.push((latents.clone(), 0));
            self.parts.push(Part { latents, cut: true, known: 0, overlap: 0 });
            return Ok(());
        }
        self.one_stream = false;
        let kept = match self.tail {
            Tail::Frames(count) => count,
            Tail::Latents(count) => (count + LOOKS_BACK - 1) * self.pipeline.latent_format().temporal_factor + 1,
        };
        let (width, height) = self.shape.size;
        let mut reader = kinora_media::open(clip)?;
        let total = reader.frames().unwrap_or_default();
        while let Some(frame) = reader.next_frame()? {
            let frame = match self.shape.cut {
                Some(cut) if cut == (frame.width, frame.height) => uncut(&frame, width, height)?,
                _ => fitted_frame(frame, width, height, Fit::Crop)?,
            };
            self.write(frame, kept)?;
            if on_event(Event::Frames { done: self.frames, total: total.max(self.frames) }).is_break() {
                return Err(Error::Stopped { resumable: None });
            }
        }
        let factor = self.pipeline.latent_format().temporal_factor;
        let least = match self.tail {
            Tail::Frames(count) => count,
            Tail::Latents(count) => count * factor + 1,
        };
        if self.end.len() < least {
            return Err(Error::BadFile {
                path: clip.to_path_buf(),
                reason: format!("it has {} frames, {least} are needed to go on", self.end.len()),
                hint: "continue a longer clip, or begin with its last frame: --image",
            });
        }
        if let Tail::Latents(_) = self.tail {
            // A short clip is encoded whole, as far as it makes latent frames.
            let usable = (self.end.len() - 1) / factor * factor + 1;
            self.end.drain(..self.end.len() - usable);
            self.encode_end(before, on_event)?;
            self.latents.push((before.to_path_buf(), 0));
            self.parts.push(Part { latents: before.to_path_buf(), cut: true, known: 0, overlap: usable });
        }
        Ok(())
    }

    /// Whether `latents` are there and those of `clip`: of its size, and made by its recipe.
    fn belongs(&self, latents: &Path, clip: &Path) -> bool {
        let Ok(file) = TensorFile::open(latents) else { return false };
        let factor = self.pipeline.latent_format().spatial_factor;
        let fits = file.infos().iter().any(|info| {
            let (width, height) = self.shape.size;
            let size = [height / factor, width / factor];
            info.name == "latents" && info.shape.len() == 5 && info.shape[3..] == size
        });
        let recipe = kinora_media::read_recipe(clip).ok().flatten();
        fits && recipe.is_some() && file.metadata().get("recipe") == recipe.as_ref()
    }

    fn encode_end(&self, path: &Path, on_event: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<()> {
        if path.exists() {
            return Ok(());
        }
        let _ = on_event(Event::Stage(Stage::Encode));
        let vae = self.pipeline.vae(Parts::Encoder)?;
        let mut encoding = Encoding { vae: vae.as_ref(), device: self.pipeline.device(), on_event };
        let latents = encoding.encode(self.end.len(), |index| Ok(self.end[index].clone()))?;
        Ok(kinora_checkpoint::save_safetensors(path, &[("latents".to_string(), latents)], &BTreeMap::new())?)
    }

    /// What the next window continues.
    pub(super) fn end(&mut self, on_event: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<Before> {
        if let Tail::Latents(count) = self.tail {
            let (path, _) = self.latents.last().expect("a window that continues has one before it");
            return Ok(Before::Latents(last_latents(path, count, self.pipeline.device())?));
        }
        self.decode(on_event)?;
        Ok(last_frames(&self.end))
    }

    /// Adds a window's latents; `before` is what it continues.
    pub(super) fn add(&mut self, latents: PathBuf, before: Option<&Before>) {
        let (known, overlap) = match before {
            Some(Before::Latents(tensor)) => (tensor.dims()[2], 0),
            Some(Before::Frames(frames)) => (0, frames.len()),
            None => (0, 0),
        };
        let cut = known == 0;
        self.one_stream &= self.latents.is_empty() || !cut;
        self.latents.push((latents.clone(), known));
        self.parts.push(Part { latents, cut, known, overlap });
    }

    /// Decodes and writes what is left, and completes the file.
    pub(super) fn finish(mut self, on_event: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<Written> {
        self.decode(on_event)?;
        let Self { writer, latents, output, shape, recipe, one_stream, .. } = self;
        let written = writer.finish()?;
        let _ = on_event(Event::Saved(&written.path));
        let mut notes = written.notes;
        // The clip is complete: without its latents it can be continued too.
        let kept = one_stream.then(|| keep_latents(&latents, output, shape, recipe)).transpose();
        let latents = kept.unwrap_or_else(|error| {
            notes.push(format!("the clip's latents are not kept: {error}"));
            None
        });
        Ok(Written {
            path: written.path,
            width: written.width,
            height: written.height,
            frames: written.frames,
            bytes: written.bytes,
            notes,
            latents,
        })
    }

    /// Everything that waits, into the file.
    fn decode(&mut self, on_event: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<()> {
        if self.parts.is_empty() {
            return Ok(());
        }
        if on_event(Event::Stage(Stage::Decode)).is_break() {
            return Err(Error::Stopped { resumable: None });
        }
        let vae = self.pipeline.vae(Parts::Decoder)?;
        let mut stream: Option<(Box<dyn StreamDecoder + '_>, Join)> = None;
        let parts = std::mem::take(&mut self.parts);
        let total: usize = self.frames + parts.iter().map(|part| self.pixel_frames(part)).sum::<Result<usize>>()?;
        for part in &parts {
            let (mut decoder, mut join) = match stream.take() {
                Some(stream) if !part.cut => stream,
                before => {
                    if let Some((decoder, mut join)) = before {
                        self.write_joined(decoder.finish()?, &mut join)?;
                    }
                    if part.overlap == 0 {
                        self.end.clear(); // nothing goes on from before a cut
                    }
                    let join = Join { known: self.last(part.overlap), overlap: part.overlap, ..Join::default() };
                    (vae.decoder()?, join)
                }
            };
            let file = TensorFile::open(&part.latents)?;
            for index in part.known..latent_frames(&file) {
                let latents = file.narrow("latents", 2, index, 1)?.to_device(self.pipeline.device())?;
                self.write_joined(decoder.push(&latents.to_dtype(DType::F32)?)?, &mut join)?;
                if on_event(Event::Frames { done: self.frames, total }).is_break() {
                    return Err(Error::Stopped { resumable: None });
                }
            }
            stream = Some((decoder, join));
        }
        if let Some((decoder, mut join)) = stream {
            self.write_joined(decoder.finish()?, &mut join)?;
        }
        Ok(())
    }

    /// Writes decoded pixels, without those that the clip has already and in the colours of those.
    fn write_joined(&mut self, pixels: Option<Tensor>, join: &mut Join) -> Result<()> {
        let Some(pixels) = pixels else { return Ok(()) };
        for frame in codec::to_frames(&pixels)? {
            if join.seen.len() < join.overlap {
                join.seen.push(frame);
                if join.seen.len() == join.overlap {
                    join.colours = Some(Colours::from(&join.seen, &join.known));
                }
                continue;
            }
            let frame = match join.colours {
                Some(colours) => colours.apply(frame),
                None => frame,
            };
            self.write(frame, self.remembered())?;
        }
        Ok(())
    }

    fn pixel_frames(&self, part: &Part) -> Result<usize> {
        let count = latent_frames(&TensorFile::open(&part.latents)?);
        let format = self.pipeline.latent_format();
        let frames = if part.cut { format.pixel_frames(count) } else { (count - part.known) * format.temporal_factor };
        Ok(frames - part.overlap)
    }

    /// Frames that must be remembered for what comes.
    fn remembered(&self) -> usize {
        match self.tail {
            Tail::Frames(count) => count,
            Tail::Latents(_) => 0,
        }
    }

    fn last(&self, count: usize) -> Vec<Frame> {
        self.end.iter().skip(self.end.len().saturating_sub(count)).cloned().collect()
    }

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

/// Writes the latents of a whole clip, those of its windows without what the window before has too, beside it.
fn keep_latents(
    windows: &[(PathBuf, usize)],
    output: &Output,
    shape: Shape,
    recipe: Option<String>,
) -> Result<PathBuf> {
    let mut all = Vec::new();
    for (path, known) in windows {
        let file = TensorFile::open(path)?;
        let count = latent_frames(&file);
        all.push(file.narrow("latents", 2, *known, count - known)?.to_dtype(DType::F32)?);
    }
    let path = sidecar(&output.clip);
    let mut metadata = BTreeMap::from([("fps".to_string(), shape.fps.to_string())]);
    metadata.extend(recipe.map(|recipe| ("recipe".to_string(), recipe)));
    kinora_checkpoint::save_safetensors(&path, &[("latents".to_string(), Tensor::cat(&all, 2)?)], &metadata)?;
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

fn latent_frames(file: &TensorFile) -> usize {
    file.infos().iter().find(|info| info.name == "latents").map_or(0, |info| info.shape[2])
}

/// What brings a window's colours to those of the clip before it: every chunk is compared at its overlap, so that small
/// shifts of the autoencoder do not add up.
#[derive(Debug, Clone, Copy)]
struct Colours {
    gain: [f32; 3],
    offset: [f32; 3],
}

impl Colours {
    /// Means and deviations of `seen` become those of `known`, which show the same.
    fn from(seen: &[Frame], known: &[Frame]) -> Self {
        let mut colours = Self { gain: [1.0; 3], offset: [0.0; 3] };
        for plane in 0..3 {
            let (mean, deviation) = statistics(seen, plane);
            let (wanted_mean, wanted_deviation) = statistics(known, plane);
            let gain = if deviation > 1e-4 { wanted_deviation / deviation } else { 1.0 };
            let gain = gain.clamp(1.0 / MOST_GAIN, MOST_GAIN);
            colours.gain[plane] = gain as f32;
            colours.offset[plane] = (wanted_mean - gain * mean) as f32;
        }
        colours
    }

    fn apply(self, mut frame: Frame) -> Frame {
        let area = frame.width * frame.height;
        for (plane, values) in frame.data.chunks_exact_mut(area).enumerate() {
            for value in values {
                *value = (*value * self.gain[plane] + self.offset[plane]).clamp(0.0, 1.0);
            }
        }
        frame
    }
}

/// Mean and standard deviation of one colour over all frames.
fn statistics(frames: &[Frame], plane: usize) -> (f64, f64) {
    let values = frames.iter().flat_map(|frame| {
        let area = frame.width * frame.height;
        frame.data[plane * area..(plane + 1) * area].iter().map(|value| f64::from(*value))
    });
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        sum += value;
        squares += value * value;
    }
    let mean = sum / f64::max(count, 1.0);
    (mean, (squares / f64::max(count, 1.0) - mean * mean).max(0.0).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(values: [f32; 4], scale: f32, offset: f32) -> Frame {
        let data = values.iter().map(|value| value * scale + offset).collect::<Vec<_>>().repeat(3);
        Frame::new(2, 2, data).expect("three planes")
    }

    #[test]
    fn colours_of_the_same_picture_become_equal() {
        let values = [0.2, 0.4, 0.6, 0.5];
        let (known, seen) = (frame(values, 1.0, 0.0), frame(values, 0.95, 0.03));
        let colours = Colours::from(std::slice::from_ref(&seen), std::slice::from_ref(&known));
        let found = colours.apply(seen);
        let error = found.data.iter().zip(&known.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error < 1e-5, "{error}");
    }

    #[test]
    fn contrast_changes_little() {
        let (known, seen) = (frame([0.0, 1.0, 0.0, 1.0], 1.0, 0.0), frame([0.5, 0.6, 0.5, 0.6], 1.0, 0.0));
        let colours = Colours::from(std::slice::from_ref(&seen), std::slice::from_ref(&known));
        assert!(colours.gain.iter().all(|gain| (f64::from(*gain) - MOST_GAIN).abs() < 1e-6));
    }

    #[test]
    fn the_sidecar_lies_beside_the_clip() {
        assert_eq!(sidecar(Path::new("a/b.mp4")), Path::new("a/b.mp4.latents.safetensors"));
    }
}

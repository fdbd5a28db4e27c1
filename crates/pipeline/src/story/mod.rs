//! [`Story`]: a clip of several shots, each made of windows that continue each other.
//!
//! A window is one run of the sampler, with a directory of its own in the project's: a story that is killed at any point
//! goes on where it was. What a window continues is what the model can use: latent frames of the window before (then old
//! and new are decoded as one stream, and nothing is lost at the join), or decoded frames.

mod film;

use crate::families::wan::conditioning::Before;
use crate::plan::Plan;
use crate::request::inputs::Images;
use crate::request::output::{Output, Predictions, Report, Seconds, distinct};
use crate::request::recipe::Recipe;
use crate::request::{Request, Size};
use crate::run::{Part, Pipeline};
use crate::{Error, Event, Result};
use candle_core::{DType, Device, Tensor};
use film::Film;
use kinora_checkpoint::TensorFile;
use kinora_media::Frame;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Frames that a model which takes no latents continues from.
const TAIL_OF_FRAMES: usize = 5;
/// The same for a model that keeps frames of a control clip.
const TAIL_OF_CONTROL: usize = 9;
/// Latent frames before those that are continued, encoded too: the autoencoder looks back.
const LOOKS_BACK: usize = 4;
/// The end of the clip that a story continues, encoded.
const BEFORE: &str = "before.safetensors";
/// What a project says of its story.
const STORY: &str = "story.json";
/// The longest story.
const MOST_SECONDS: f64 = 3600.0;

/// A clip of several shots.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Story {
    /// The clip that the first shot continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<PathBuf>,
    /// In their order.
    #[serde(rename = "shot", default)]
    pub shots: Vec<Shot>,
}

/// A part of a story with one prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shot {
    /// What it shows.
    pub prompt: String,
    /// How long it is; `None` is the model's own length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// How it follows the one before.
    #[serde(default)]
    pub join: Join,
    /// What to avoid in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// The picture that it begins with; only after a cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<PathBuf>,
    /// How the camera moves, such as `pan=5,zoom=-3`, or a preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera: Option<String>,
    /// Seed of its first window; else it follows from the story's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// How a shot follows the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Join {
    /// Without a visible join.
    #[default]
    Continue,
    /// With a new beginning.
    Cut,
}

/// One run of the sampler.
struct Window {
    request: Request,
    /// It begins anew.
    cut: bool,
}

/// What all windows of a story share.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Width and height of the decoded frames.
    size: (usize, usize),
    /// Those of the file, where it is smaller.
    cut: Option<(usize, usize)>,
    fps: f64,
}

/// What a model continues from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    Latents(usize),
    Frames(usize),
}

impl Story {
    /// The same with whole paths, for a recipe.
    fn with_whole_paths(&self) -> Self {
        let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let shot = |shot: &Shot| Shot { image: shot.image.as_ref().map(whole), ..shot.clone() };
        Self { after: self.after.as_ref().map(whole), shots: self.shots.iter().map(shot).collect() }
    }

    /// Every file that it names.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.after.as_deref().into_iter().chain(self.shots.iter().filter_map(|shot| shot.image.as_deref()))
    }

    /// Reads a story: `[[shot]]` tables of TOML.
    ///
    /// # Errors
    /// No such file, or one that says something else.
    pub fn read(path: &Path) -> Result<Self> {
        let hint = "a story is TOML with `[[shot]]` tables of prompt, seconds, join (continue or cut), camera, image";
        let bad = |reason: String| Error::BadFile { path: path.to_path_buf(), reason, hint };
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        let mut story: Self = toml::from_str(&text).map_err(|error| bad(error.message().to_string()))?;
        if story.shots.is_empty() {
            return Err(bad("it has no shots".into()));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        for path in story.shots.iter_mut().filter_map(|shot| shot.image.as_mut()).chain(&mut story.after) {
            *path = folder.join(&path);
        }
        Ok(story)
    }
}

/// The seed of the story that the project in `directory` holds, if it holds one.
pub fn story_seed(directory: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(directory.join(STORY)).ok()?;
    serde_json::from_str::<Recipe>(&text).ok().map(|recipe| recipe.seed)
}

/// Removes what a finished story left in its project, and the directory if nothing else is in it.
pub fn discard_project(directory: &Path) {
    // The clip is complete: what cannot be removed is only untidy.
    for index in 0.. {
        let window = directory.join(format!("{index:03}"));
        if !window.is_dir() {
            break;
        }
        let _ = std::fs::remove_dir_all(window);
    }
    for file in [STORY, BEFORE, crate::run::run_dir::INPUTS] {
        let _ = std::fs::remove_file(directory.join(file));
    }
    let _ = std::fs::remove_dir(directory);
}

impl Pipeline {
    /// Makes the clip of `story` in windows, with `request` for everything that a shot does not say; what is needed to
    /// go on after an interruption is kept in the directory `project`.
    ///
    /// # Errors
    /// As of [`Pipeline::generate`]; a model that cannot continue a clip.
    pub fn film(
        &self,
        story: &Story,
        request: &Request,
        project: &Path,
        mut on_event: impl FnMut(Event) -> ControlFlow<()> + Send,
    ) -> Result<Report> {
        self.run(|| Filming::new(self, story, request, project)?.run(&mut on_event))
    }
}

/// A story on its way.
struct Filming<'a> {
    pipeline: &'a Pipeline,
    windows: Vec<Window>,
    output: Output,
    project: &'a Path,
    after: Option<PathBuf>,
    tail: Tail,
    shape: Shape,
    seed: u64,
    recipe: String,
    notices: Vec<String>,
}

impl<'a> Filming<'a> {
    fn new(pipeline: &'a Pipeline, story: &Story, request: &Request, project: &'a Path) -> Result<Self> {
        let tail = tail(pipeline)?;
        let mut request = request.clone();
        let mut notices = Vec::new();
        if request.output.tile.is_some() {
            let what = "frames of a story are decoded whole, not in tiles";
            return Err(Error::request(what, "leave --tile out, or make the frames smaller and --upscale them"));
        }
        if let Some(clip) = &story.after {
            let spec = kinora_media::open(clip)?.spec();
            // Frames that were enlarged after decoding go on in the size that they were made in.
            let made = Recipe::read(clip).ok().filter(|recipe| recipe.upscale.is_some());
            let (width, height) = made.map_or((spec.width, spec.height), |recipe| (recipe.width, recipe.height));
            request.size = Size::Pixels { width: Some(width), height: Some(height) };
            request.fps = Some(request.fps.unwrap_or(spec.fps.as_f64()));
        }
        let goes_on = |index: usize, shot: &Shot| shot.join == Join::Continue && (index > 0 || story.after.is_some());
        let seconds: f64 = story.shots.iter().filter_map(|shot| shot.seconds).sum();
        if seconds > MOST_SECONDS {
            let what = format!("a story of {seconds:.0} s is longer than {MOST_SECONDS:.0} s");
            return Err(Error::request(what, "make it of several"));
        }
        let first = story.shots.first().ok_or_else(|| Error::request("the story has no shots", "add one"))?;
        let own = request_of(&request, first)?;
        let plan = pipeline.plan_of(&own, if goes_on(0, first) { Part::GoesOn } else { Part::Begins })?;
        notices.extend(plan.notices.clone());
        // Every window has the size that the first one got.
        let (width, height) = plan.cropped.unwrap_or((plan.width, plan.height));
        request.size = Size::Pixels { width: Some(width), height: Some(height) };
        let mut windows = Vec::new();
        // Frames since the last cut; a clip that is too short to continue is refused when it is read.
        let mut since_cut = if story.after.is_some() { usize::MAX } else { 0 };
        for (index, shot) in story.shots.iter().enumerate() {
            let mut own = request_of(&request, shot)?;
            own.seed = shot.seed;
            let goes_on = goes_on(index, shot);
            if goes_on && shot.image.is_some() {
                let what = format!("shot {} continues the one before and begins with an image", index + 1);
                return Err(Error::request(what, "join = \"cut\" begins anew"));
            }
            if !goes_on {
                since_cut = 0;
            }
            windows.extend(windows_of(&own, shot, &plan, tail, &mut since_cut)?);
        }
        let request = request; // what shots do not say, from here on
        for (index, window) in windows.iter_mut().enumerate() {
            window.request.seed.get_or_insert(plan.seed.wrapping_add(index as u64));
            window.request.output.resume = Some(project.join(format!("{index:03}")));
        }
        // What is wrong with a later window must come out before the first one is made.
        let mut checked: Vec<(&Request, bool)> = Vec::new();
        for window in &windows {
            let same = |request: &Request| {
                let plain = |request: &Request| Request { seed: None, frames: None, ..request.clone() };
                plain(request) == plain(&window.request)
            };
            if checked.iter().any(|(request, cut)| *cut == window.cut && same(request)) {
                continue;
            }
            for (_, path) in window.request.given.files() {
                std::fs::metadata(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
            }
            let more = pipeline.plan_of(&window.request, if window.cut { Part::Begins } else { Part::GoesOn })?.notices;
            notices.extend(more.into_iter().filter(|notice| !plan.notices.contains(notice)));
            checked.push((&window.request, window.cut));
        }
        notices.dedup();
        let output = request.output.clone();
        let latents = film::sidecar(&output.clip);
        let mut files = vec![("the clip", output.clip.as_path()), ("its latents", &latents)];
        files.extend(story.after.iter().map(|path| ("the clip before", path.as_path())));
        files.extend(story.shots.iter().filter_map(|shot| Some(("the image of a shot", shot.image.as_deref()?))));
        distinct(&files, 2)?;
        let shape = Shape { size: (plan.width, plan.height), cut: plan.cropped, fps: plan.fps };
        let recipe = Recipe {
            story: Some(story.with_whole_paths()),
            // What the first shot says is in the story.
            given: request.given.with_whole_paths(),
            negative_prompt: request
                .negative_prompt
                .clone()
                .unwrap_or(pipeline.manifest().defaults.negative_prompt.clone()),
            ..pipeline.recipe(&plan, &output)
        };
        let (recipe, seed, after) = (recipe.to_text(), plan.seed, story.after.clone());
        Ok(Self { pipeline, windows, output, project, after, tail, shape, seed, recipe, notices })
    }

    fn run(self, on_event: &mut (dyn FnMut(Event) -> ControlFlow<()> + Send)) -> Result<Report> {
        let start = Instant::now();
        let recipe = self.output.metadata.then_some(self.recipe.as_str());
        let mut film = Film::new(self.pipeline, &self.output, self.shape, self.tail, recipe)?;
        self.keep_story()?;
        for notice in &self.notices {
            if on_event(Event::Notice(notice)).is_break() {
                return Err(self.stopped());
            }
        }
        if let Some(clip) = &self.after {
            let taken = film.take_over(clip, &self.project.join(BEFORE), on_event);
            taken.map_err(|error| self.resumable(error))?;
        }
        let (mut seconds, mut predictions) = (Seconds::default(), Predictions::default());
        for (index, window) in self.windows.iter().enumerate() {
            let before = if window.cut { None } else { Some(film.end(on_event)) };
            let before = before.transpose().map_err(|error| self.resumable(error))?;
            let plan = self.pipeline.plan_of(&window.request, if window.cut { Part::Begins } else { Part::GoesOn })?;
            let text = format!("window {} of {}: {}", index + 1, self.windows.len(), plan.spoken_prompt());
            if on_event(Event::Notice(&text)).is_break() {
                return Err(self.stopped());
            }
            let made = self.pipeline.window(&plan, &window.request.output, before.as_ref(), on_event);
            let (latents, new_predictions, new_seconds) = made.map_err(|error| self.resumable(error))?;
            predictions.computed += new_predictions.computed;
            predictions.reused += new_predictions.reused;
            predictions.skipped += new_predictions.skipped;
            seconds.text += new_seconds.text;
            seconds.denoise += new_seconds.denoise;
            film.add(latents, before.as_ref());
        }
        let decoding = Instant::now();
        let written = film.finish(on_event).map_err(|error| self.resumable(error))?;
        seconds.decode = decoding.elapsed().as_secs_f64();
        seconds.total = start.elapsed().as_secs_f64();
        let mut notices = self.notices;
        notices.extend(written.notes);
        Ok(Report {
            clip: written.path,
            width: written.width,
            height: written.height,
            frames: written.frames as usize,
            bytes: written.bytes,
            seed: Some(self.seed),
            latents: written.latents,
            notices,
            predictions: Some(predictions),
            seconds,
            peak_memory: crate::plan::memory::peak_memory(),
            planned_memory: None,
        })
    }

    /// Notes in the project which story it is, and refuses another one's.
    fn keep_story(&self) -> Result<()> {
        let path = self.project.join(STORY);
        let io = |source| Error::Io { path: path.clone(), source };
        std::fs::create_dir_all(self.project).map_err(io)?;
        let own: Recipe = serde_json::from_str(&self.recipe).expect("its own text");
        match std::fs::read_to_string(&path) {
            Ok(kept) => {
                let read = |text: &str| serde_json::from_str::<Recipe>(text);
                let bad = |error: serde_json::Error| Error::BadRun { path: path.clone(), reason: error.to_string() };
                if let Some(difference) = own.difference(&read(&kept).map_err(bad)?) {
                    return Err(Error::ResumeMismatch { path: self.project.to_path_buf(), difference });
                }
                crate::run::run_dir::check_inputs(self.project, &own)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let other = std::fs::read_dir(self.project).map_err(io)?.next().is_some();
                if other {
                    let what = format!("`{}` is not empty, and no project of a story", self.project.display());
                    return Err(Error::request(what, "name another directory with --project"));
                }
                crate::run::run_dir::write_text(&path, &self.recipe)?;
                crate::run::run_dir::check_inputs(self.project, &own)
            }
            Err(error) => Err(io(error)),
        }
    }

    fn stopped(&self) -> Error {
        Error::StoryStopped { project: self.project.to_path_buf() }
    }

    /// A stop of any part is a stop of the story, which its project continues.
    fn resumable(&self, error: Error) -> Error {
        if error.is_stop() { self.stopped() } else { error }
    }
}

/// What the model continues a clip from.
fn tail(pipeline: &Pipeline) -> Result<Tail> {
    let (takes, manifest) = (pipeline.takes(), pipeline.manifest());
    match takes.images {
        Images::CleanFrames => Ok(manifest.tail_latents.map_or(Tail::Frames(TAIL_OF_FRAMES), Tail::Latents)),
        Images::Control => Ok(Tail::Frames(TAIL_OF_CONTROL)),
        Images::Channels { pair: false, .. } => Ok(Tail::Frames(1)),
        Images::Channels { pair: true, .. } | Images::None => {
            let what = format!("{} cannot continue a clip", manifest.name);
            Err(Error::request(what, crate::request::inputs::who_takes("image")))
        }
    }
}

/// `request` with what `shot` says.
fn request_of(request: &Request, shot: &Shot) -> Result<Request> {
    let mut request = request.clone();
    request.prompt.clone_from(&shot.prompt);
    request.negative_prompt = shot.negative_prompt.clone().or(request.negative_prompt);
    if let Some(image) = &shot.image {
        request.given.image = Some(image.clone());
    }
    if let Some(camera) = &shot.camera {
        let bad =
            |reason| Error::request(format!("camera `{camera}`: {reason}"), "such as pan=5,zoom=-3 or forward-up");
        request.given.camera = Some(camera.parse().map_err(bad)?);
    }
    Ok(request)
}

/// The windows of one shot, none longer than what the model was made for; the first one begins anew where there are no
/// frames `since_cut`, which is increased by the frames of the shot.
fn windows_of(request: &Request, shot: &Shot, plan: &Plan, tail: Tail, since_cut: &mut usize) -> Result<Vec<Window>> {
    let factor = plan.temporal_factor;
    let seconds = shot.seconds.unwrap_or(plan.frames as f64 / plan.fps);
    if !(seconds > 0.0 && seconds <= MOST_SECONDS) {
        let what = format!("a shot of {seconds} s is not possible");
        return Err(Error::request(what, format!("give seconds above 0, at most {MOST_SECONDS:.0}")));
    }
    let wanted = (seconds * plan.fps).round().max(1.0) as usize;
    // Frames of a window that are not those of the one before.
    let overlap = match tail {
        Tail::Latents(count) => (count - 1) * factor + 1,
        Tail::Frames(count) => count,
    };
    let longest = plan.frames.max(overlap + factor);
    let (mut windows, mut made) = (Vec::new(), 0);
    while made < wanted {
        let (cut, old) = (*since_cut == 0, overlap.min(*since_cut));
        let frames = (wanted - made + old).min(longest).max(old + 1);
        let frames = (frames - 1).div_ceil(factor) * factor + 1;
        let mut request = request.clone();
        (request.frames, request.duration) = (Some(frames), None);
        if !windows.is_empty() {
            request.given.image = None;
            request.seed = None;
        }
        windows.push(Window { request, cut });
        made += frames - old;
        *since_cut = since_cut.saturating_add(frames - old);
    }
    Ok(windows)
}

/// The last `count` latent frames of a file.
fn last_latents(path: &Path, count: usize, device: &Device) -> Result<Tensor> {
    let file = TensorFile::open(path)?;
    let infos = file.infos();
    let frames = infos.iter().find(|info| info.name == "latents").map_or(0, |info| info.shape[2]);
    if frames < count {
        return Err(Error::BadFile {
            path: path.to_path_buf(),
            reason: format!("it has {frames} latent frames, {count} are needed to go on"),
            hint: "continue a longer clip",
        });
    }
    Ok(file.narrow("latents", 2, frames - count, count)?.to_dtype(DType::F32)?.to_device(device)?)
}

/// What continues a window: its last frames.
fn last_frames(frames: &std::collections::VecDeque<Frame>) -> Before {
    Before::Frames(frames.iter().cloned().collect())
}

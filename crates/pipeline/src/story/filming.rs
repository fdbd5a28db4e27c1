//! [`Filming`]: a story on its way, window after window.

use super::film::{Film, Shape, check_continued, sidecar};
use super::windows::{Window, request_of, windows_of};
use super::{BEFORE, STORY};
use crate::families::capabilities::Continuation;
use crate::plan::pace::Estimate;
use crate::plan::{Plan, Planned, fps_of_clip};
use crate::request::inputs::who_takes;
use crate::request::output::{Output, Predictions, Report, Seconds};
use crate::request::recipe::Recipe;
use crate::request::story::{Join, MOST_SECONDS, Shot, Story};
use crate::request::{Request, Size};
use crate::run::directory::{Lock, check_own, tidied};
use crate::run::observer::Observer;
use crate::run::run_dir::{check_inputs, write_text};
use crate::run::sink::{Destination, Sink, without_file};
use crate::run::{Part, Pipeline};
use crate::{Error, Event, Result};
use kinora_media::{Readers, Source};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

impl Pipeline {
    /// Plans `story` as [`Self::film`] does, and makes nothing.
    ///
    /// # Errors
    /// As of [`Self::film`] before it begins.
    pub fn plan_story(&self, story: &Story, request: &Request) -> Result<PlannedStory> {
        let filming = Filming::new(self, story, request, Path::new("story"))?;
        let time = filming.expected_time()?;
        let Filming { planned, frames, windows, notices, .. } = filming;
        Ok(PlannedStory { first: planned, frames, windows: windows.len(), time, notices })
    }

    /// Makes the clip of `story` in windows, with `request` for everything that a shot does not say; the directory
    /// `project` keeps everything that is needed to continue after an interruption.
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
        self.run(|| {
            let observer = &mut Observer::new(&mut on_event);
            tidied(Some(project), || Filming::new(self, story, request, project)?.run(Destination::File, observer))
        })
    }

    /// Makes the clip of `story` as [`Pipeline::film`] does and hands its frames to `sink`; `request.output.clip` is not written, and
    /// no latents are kept after it.
    ///
    /// # Errors
    /// As of [`Pipeline::film`], and those of the sink.
    pub fn film_into(
        &self,
        story: &Story,
        request: &Request,
        project: &Path,
        sink: &mut dyn Sink,
        mut on_event: impl FnMut(Event) -> ControlFlow<()> + Send,
    ) -> Result<Report> {
        let (request, _folder) = without_file(request)?;
        let request = &request;
        self.run(|| {
            let observer = &mut Observer::new(&mut on_event);
            tidied(Some(project), || {
                Filming::new(self, story, request, project)?.run(Destination::Sink(sink), observer)
            })
        })
    }
}

/// What a story will be.
#[derive(Debug)]
pub struct PlannedStory {
    /// The plan of its first window; the others are alike.
    pub first: Planned,
    /// Frames of all shots, without those of a clip that is continued.
    pub frames: usize,
    /// Runs of the sampler.
    pub windows: usize,
    /// The time that all of them will take, where anything is known of it.
    pub time: Option<Estimate>,
    /// Sentences worth knowing.
    pub notices: Vec<String>,
}

/// A story with its windows planned.
struct Filming<'a> {
    pipeline: &'a Pipeline,
    /// That of the first window.
    planned: Planned,
    windows: Vec<Window>,
    /// Frames that they add.
    frames: usize,
    output: Output,
    project: &'a Path,
    after: Option<Source>,
    tail: Continuation,
    shape: Shape,
    seed: u64,
    recipe: String,
    notices: Vec<String>,
}

impl<'a> Filming<'a> {
    fn new(pipeline: &'a Pipeline, story: &Story, request: &Request, project: &'a Path) -> Result<Self> {
        let tail = pipeline.capabilities().continuation.ok_or_else(|| {
            let what = format!("{} cannot continue a clip", pipeline.manifest().name);
            Error::request(what, who_takes("image"))
        })?;
        check_length(story)?;
        let mut request = request.clone();
        if let Some(clip) = &story.after {
            take_size(&pipeline.readers, clip, &mut request)?;
        }
        let first = story.shots.first().ok_or_else(|| Error::request("the story has no shots", "add one"))?;
        let planned = pipeline.plan_of(&request_of(&request, first)?, part(continues(story, 0, first)))?;
        let plan = &planned.plan;
        // Every window has the size that the first one got.
        let (width, height) = plan.cropped.unwrap_or((plan.width, plan.height));
        request.size = Size::Pixels { width: Some(width), height: Some(height) };
        let all = all_windows(story, &request, plan, tail, project)?;
        let mut notices = check_windows(pipeline, &all.windows, &planned.notices)?;
        notices.extend(all.lengths);
        let output = Output { tile: planned.tile, ..request.output.clone() };
        check_names(pipeline, story, &request, &output)?;
        let shape = Shape { size: (plan.width, plan.height), cut: plan.cropped, fps: plan.fps };
        if let Some(clip) = &story.after {
            notices.splice(0..0, check_continued(pipeline, clip, shape, tail)?);
        }
        let recipe = Recipe {
            story: Some(story.with_whole_paths()),
            // The inputs of the first shot are in the story.
            inputs: request.inputs.with_whole_paths(),
            negative_prompt: request
                .negative_prompt
                .clone()
                .unwrap_or(pipeline.manifest().defaults.negative_prompt.clone()),
            ..pipeline.recipe(plan, &output)
        };
        Ok(Self {
            pipeline,
            windows: all.windows,
            frames: all.frames,
            output,
            project,
            after: story.after.clone(),
            tail,
            shape,
            seed: plan.seed,
            recipe: recipe.text_for(&request.output),
            notices,
            planned,
        })
    }

    /// About how long all windows will take, if times are kept.
    fn expected_time(&self) -> Result<Option<Estimate>> {
        let plan = &self.planned.plan;
        let [c, _, h, w] = plan.latent_shape;
        let mut alike: BTreeMap<usize, usize> = BTreeMap::new();
        for window in &self.windows {
            *alike.entry(window.request.frames.unwrap_or(plan.frames)).or_default() += 1;
        }
        let mut whole = None;
        for (frames, count) in alike {
            let latents = [c, (frames - 1) / plan.temporal_factor + 1, h, w];
            let Some(one) = self.pipeline.expected_time(&self.planned, latents, &self.output)? else { return Ok(None) };
            let own = one.times(count);
            whole = Some(whole.map_or(own, |before: Estimate| before.and(own)));
        }
        Ok(whole)
    }

    fn run(self, destination: Destination, observer: &mut Observer) -> Result<Report> {
        let start = Instant::now();
        let recipe = self.output.metadata.then_some(self.recipe.as_str());
        let mut film = Film::new(self.pipeline, &self.output, (self.shape, self.tail), recipe, destination)?;
        let _lock = self.keep_story()?;
        observer.keeps_story(self.project.to_path_buf());
        observer.notices(&self.notices)?;
        if let Some(clip) = &self.after {
            film.take_over(clip, &self.project.join(BEFORE), observer)?;
        }
        let (mut seconds, mut predictions, mut runs) = (Seconds::default(), Predictions::default(), Vec::new());
        for (index, window) in self.windows.iter().enumerate() {
            // Where frames are continued, those of the window before are decoded here.
            let decoding = Instant::now();
            let end = if window.cut { None } else { Some(film.end(observer)?) };
            seconds.decode += decoding.elapsed().as_secs_f64();
            let planned = self.pipeline.plan_of(&window.request, part(!window.cut))?;
            let text = format!("window {} of {}: {}", index + 1, self.windows.len(), planned.plan.spoken_prompt());
            observer.tell(Event::Window { number: index + 1, total: self.windows.len() })?;
            observer.tell(Event::Notice(&text))?;
            let (latents, new_predictions, new_seconds) =
                self.pipeline.window(&planned, &window.request.output, end.as_ref(), observer)?;
            predictions.computed += new_predictions.computed;
            predictions.reused += new_predictions.reused;
            predictions.skipped += new_predictions.skipped;
            seconds.text += new_seconds.text;
            seconds.denoise += new_seconds.denoise;
            runs.push((planned.plan.latent_shape, new_predictions, new_seconds));
            film.add(latents, end.as_ref());
        }
        let decoding = Instant::now();
        let mut report = film.finish(observer)?;
        seconds.decode += decoding.elapsed().as_secs_f64();
        seconds.total = start.elapsed().as_secs_f64();
        self.learn_pace(runs, seconds.decode);
        report.notices.splice(0..0, self.notices);
        Ok(Report { seed: Some(self.seed), predictions: Some(predictions), seconds, ..report })
    }

    /// Keeps how long the windows took, if times are kept; all were decoded in `decode` seconds.
    fn learn_pace(&self, mut runs: Vec<([usize; 4], Predictions, Seconds)>, decode: f64) {
        let frames = |latents: [usize; 4]| latents[1] as f64;
        let all: f64 = runs.iter().map(|(latents, ..)| frames(*latents)).sum();
        for (latents, _, seconds) in &mut runs {
            seconds.decode = decode * frames(*latents) / all;
        }
        self.pipeline.learn_pace(&self.planned, &self.output, &runs);
    }

    /// Keeps the story in its project, and refuses the project of another one.
    fn keep_story(&self) -> Result<Lock> {
        let path = self.project.join(STORY);
        let io = |source| Error::Io { path: path.clone(), source };
        check_own(self.project, STORY, "story", &["project"])?;
        let lock = Lock::take(self.project)?;
        let own: Recipe = serde_json::from_str(&self.recipe).expect("its own text");
        match kinora_files::read_text(&path) {
            Ok(kept) => {
                let read = |text: &str| serde_json::from_str::<Recipe>(text);
                let bad = |error: serde_json::Error| Error::BadRun { path: path.clone(), reason: error.to_string() };
                if let Some(difference) = own.difference(&read(&kept).map_err(bad)?) {
                    return Err(Error::ResumeMismatch { path: self.project.to_path_buf(), difference });
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_text(&path, &self.recipe)?,
            Err(error) => return Err(io(error)),
        }
        check_inputs(self.project, &own, &self.pipeline.model.files())?;
        Ok(lock)
    }
}

/// Whether shot number `index` continues something.
fn continues(story: &Story, index: usize, shot: &Shot) -> bool {
    shot.join == Join::Continue && (index > 0 || story.after.is_some())
}

fn part(continues: bool) -> Part {
    if continues { Part::Continues } else { Part::Begins }
}

fn check_length(story: &Story) -> Result<()> {
    let seconds: f64 = story.shots.iter().filter_map(|shot| shot.seconds).sum();
    if seconds > MOST_SECONDS {
        let what = format!("a story of {seconds:.0} s is longer than {MOST_SECONDS:.0} s");
        return Err(Error::request(what, "make it of several"));
    }
    Ok(())
}

/// Gives `request` the size and the frame rate of the clip that it continues.
fn take_size(readers: &Readers, clip: &Source, request: &mut Request) -> Result<()> {
    let spec = readers.open(clip)?.spec();
    // Frames that were upscaled after decoding are continued in the size that they were made in.
    // A recipe that says more than the frames have is not believed: it may be anyone's.
    let is_larger = |recipe: &Recipe| recipe.width > spec.width || recipe.height > spec.height;
    let made = Recipe::read(clip).ok().filter(|recipe| recipe.upscale.is_some() && !is_larger(recipe));
    let (width, height) = made.map_or((spec.width, spec.height), |recipe| (recipe.width, recipe.height));
    request.size = Size::Pixels { width: Some(width), height: Some(height) };
    request.fps = Some(request.fps.map_or_else(|| fps_of_clip(spec.fps.as_f64()), Ok)?);
    Ok(())
}

/// The windows of all shots.
struct AllWindows {
    windows: Vec<Window>,
    /// Frames that they add to the clip.
    frames: usize,
    /// A sentence for each shot that has not the length asked for.
    lengths: Vec<String>,
}

/// The windows of every shot, with their seeds and directories.
fn all_windows(
    story: &Story,
    request: &Request,
    plan: &Plan,
    tail: Continuation,
    project: &Path,
) -> Result<AllWindows> {
    let (mut windows, mut lengths, mut frames) = (Vec::new(), Vec::new(), 0);
    // Frames since the last cut; a clip that is too short to continue is refused when it is read.
    let mut since_cut = if story.after.is_some() { usize::MAX } else { 0 };
    for (index, shot) in story.shots.iter().enumerate() {
        let mut own = request_of(request, shot)?;
        own.seed = shot.seed;
        let continues = continues(story, index, shot);
        if continues && shot.image.is_some() {
            let what = format!("shot {} continues the one before and begins with an image", index + 1);
            return Err(Error::request(what, "join = \"cut\" begins anew"));
        }
        if !continues {
            since_cut = 0;
        }
        let more = windows_of(&own, shot, plan, tail, &mut since_cut)?;
        lengths.extend(shot.seconds.filter(|_| more.made != more.wanted).map(|asked| {
            let made = more.made as f64 / plan.fps;
            format!("shot {}: {asked} s became {made:.3} s, {} frames", index + 1, more.made)
        }));
        windows.extend(more.windows);
        frames += more.made;
    }
    for (index, window) in windows.iter_mut().enumerate() {
        window.request.seed.get_or_insert(plan.seed.wrapping_add(index as u64));
        window.request.output.resume = Some(project.join(format!("{index:03}")));
    }
    Ok(AllWindows { windows, frames, lengths })
}

/// Plans one window of each kind, so that errors of a later one come out before the first is made; the notices of all,
/// `first` those of the first.
fn check_windows(pipeline: &Pipeline, windows: &[Window], first: &[String]) -> Result<Vec<String>> {
    let mut notices = first.to_vec();
    let mut checked: Vec<(&Request, bool)> = Vec::new();
    for window in windows {
        let same = |request: &Request| {
            let plain = |request: &Request| Request { seed: None, frames: None, ..request.clone() };
            plain(request) == plain(&window.request)
        };
        if checked.iter().any(|(request, cut)| *cut == window.cut && same(request)) {
            continue;
        }
        for (_, path) in window.request.inputs.files() {
            std::fs::metadata(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        }
        let more = pipeline.plan_of(&window.request, part(!window.cut))?.notices;
        notices.extend(more.into_iter().filter(|notice| !first.contains(notice)));
        checked.push((&window.request, window.cut));
    }
    notices.dedup();
    Ok(notices)
}

/// Refuses a result that is one of the story's inputs, a file of the model, or the other result.
fn check_names(pipeline: &Pipeline, story: &Story, request: &Request, output: &Output) -> Result<()> {
    let (latents, before) = (sidecar(&output.clip), story.after.as_ref().and_then(Source::path).map(sidecar));
    let mut inputs = request.inputs.files();
    inputs.extend(story.after.iter().filter_map(|clip| Some(("the clip before", clip.path()?))));
    inputs.extend(before.iter().map(|path| ("the latents of the clip before", path.as_path())));
    inputs.extend(story.shots.iter().filter_map(|shot| Some(("the image of a shot", shot.image.as_ref()?.path()?))));
    let audio = output.audio.iter().map(|path| ("the sound", path.as_path()));
    let results: Vec<_> =
        [("the clip", output.clip.as_path()), ("its latents", &latents)].into_iter().chain(audio).collect();
    pipeline.check_results(&results, &inputs, output)
}

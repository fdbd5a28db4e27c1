//! A clip, from its order to its report.

use super::problem::Words;
use super::{Shared, Worker};
use crate::dto::CAMERA_PATH;
use crate::protocol::{ClipFacts, Make, Problem, Report, Stage, Time};
use kinora::{Error, Estimate, Event, LatentRgb, Pipeline, Plan, write_preview};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Previews are written at most once in this time.
const PREVIEW_EVERY: Duration = Duration::from_millis(500);
/// The file of a camera's path, beside the clip.
const CAMERA_FILE: &str = "camera.txt";
/// Added to the name of a clip, the name of its latents: from them a continuation goes on.
const LATENTS: &str = ".latents.safetensors";

/// The events of a run, on their way to the server.
struct Watch<'a, W> {
    order: &'a Make,
    out: &'a mut W,
    shared: Shared,
    colours: Option<LatentRgb>,
    /// Latent frames per second, of previews.
    fps: f64,
    stage: Stage,
    last_preview: Option<Instant>,
    window: [usize; 2],
    broken: bool,
}

impl<W: Write + Send> Worker<W> {
    /// Makes the clip; the report is its end.
    pub(super) fn make(&mut self, order: &Make) -> io::Result<Report> {
        let (job, attempt) = (order.job.clone(), order.attempt);
        let words = Words::new(&order.files);
        let loading = progress(order, Stage::Load, 0, 0, [1, 1]);
        self.tell(&loading)?;
        let failed = |problem| Report::Failed { job: job.clone(), attempt, problem };
        if let Err(error) = self.pipeline(&order.model) {
            return Ok(failed(words.of_model(&error)));
        }
        let Some((_, pipeline)) = &self.loaded else { unreachable!("it was just loaded") };
        let mut watch = Watch {
            order,
            out: &mut self.out,
            shared: self.shared.clone(),
            colours: pipeline.latent_rgb().filter(|_| order.preview.is_some()),
            fps: 4.0,
            stage: Stage::Load,
            last_preview: None,
            window: [1, 1],
            broken: false,
        };
        let mut made = run(pipeline, order, &words, &mut watch);
        // A state of other settings, of which the request or the operator's options have changed since, or one that is damaged.
        if matches!(&made, Ok(Err(Error::ResumeMismatch { .. } | Error::BadRun { .. }))) {
            let _ = std::fs::remove_dir_all(&order.state);
            made = run(pipeline, order, &words, &mut watch);
        }
        self.shared.with(|signals| signals.stop.retain(|(id, number)| (id, *number) != (&job, attempt)));
        Ok(match made {
            Ok(Ok(clip)) => {
                let notices = clip.notices.iter().map(|notice| words.plain(notice)).collect();
                Report::Made { job, attempt, clip: ClipFacts { notices, ..clip } }
            }
            Ok(Err(error)) if error.is_stop() => Report::Stopped { job, attempt },
            Ok(Err(error)) => failed(words.of(&error)),
            Err(problem) => failed(problem),
        })
    }
}

/// Makes the clip of `order`; a problem is one of the request's words.
fn run<W: Write + Send>(
    pipeline: &Pipeline,
    order: &Make,
    words: &Words,
    watch: &mut Watch<W>,
) -> Result<kinora::Result<ClipFacts>, Problem> {
    let mut files = order.files.clone();
    if let Some(text) = order.request.camera_file()? {
        // In the same place at every attempt, and the same file if it is there: its time is a part of the run's state.
        let path = order.clip.with_file_name(CAMERA_FILE);
        if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            std::fs::write(&path, text).map_err(|source| words.of(&Error::Io { path: path.clone(), source }))?;
        }
        files.insert(CAMERA_PATH.into(), path);
    }
    let mut request = order.request.request(|id| files.get(id).cloned())?;
    let story = order.request.story(|id| files.get(id).cloned())?;
    let mut latents = order.clip.clone().into_os_string();
    latents.push(LATENTS);
    let names: Vec<_> = files.iter().map(|(id, path)| (path.clone(), id.clone())).collect();
    request.output = order.request.output()?.names(names);
    request.output.clip.clone_from(&order.clip);
    if story.is_none() {
        request.output = request.output.latents(latents).resume(&order.state);
    }
    let made = match story {
        None => pipeline.generate(&request, |event| watch.see(&event)),
        Some(story) => {
            let request = request.duration(None);
            // Its windows are planned one by one; what is wrong with it is said below.
            watch.expected(pipeline.plan_story(&story, &request).ok().and_then(|planned| planned.time));
            pipeline.film(&story, &request, &order.state, |event| watch.see(&event))
        }
    };
    Ok(made.map(|report| ClipFacts {
        width: report.width,
        height: report.height,
        frames: report.frames,
        fps: kinora_media::open(&report.clip).map_or(pipeline.manifest().defaults.fps, |clip| clip.spec().fps.as_f64()),
        bytes: report.bytes,
        seed: report.seed.map(|seed| seed.to_string()),
        seconds: [report.seconds.text, report.seconds.denoise, report.seconds.decode, report.seconds.total],
        peak_memory: report.peak_memory,
        notices: report.notices,
    }))
}

impl<W: Write> Watch<'_, W> {
    fn see(&mut self, event: &Event) -> ControlFlow<()> {
        match event {
            Event::Planned(planned) => {
                self.expected(planned.time);
                self.planned(&planned.plan);
            }
            Event::Window { number, total } => self.window = [*number, *total],
            Event::Stage(stage) => {
                self.stage = match stage {
                    kinora::Stage::Text => Stage::Text,
                    kinora::Stage::Denoise => Stage::Steps,
                    kinora::Stage::Decode => Stage::Frames,
                    kinora::Stage::Encode => Stage::Encode,
                };
                self.tell(&progress(self.order, self.stage, 0, 0, self.window));
            }
            Event::Step { done, total, elapsed, denoised, .. } => {
                let preview = self.preview(denoised);
                let seconds = Some(elapsed.as_secs_f64());
                if let Report::Progress { job, attempt, stage, done, total, .. } =
                    progress(self.order, Stage::Steps, *done, *total, self.window)
                {
                    let window = self.window;
                    self.tell(&Report::Progress { job, attempt, stage, done, total, seconds, preview, window });
                }
            }
            Event::Frames { done, total } => self.tell(&progress(self.order, self.stage, *done, *total, self.window)),
            _ => {}
        }
        if self.broken || self.shared.stops(&self.order.job, self.order.attempt) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Tells the server how long all of it will take, where that is known.
    fn expected(&mut self, time: Option<Estimate>) {
        if let Some(time) = time.map(Time::from) {
            let (job, attempt) = (self.order.job.clone(), self.order.attempt);
            self.tell(&Report::Expected { job, attempt, time });
        }
    }

    fn planned(&mut self, plan: &Plan) {
        self.fps = (plan.fps / plan.temporal_factor as f64).max(1.0);
    }

    /// Writes a preview, if it is time for one.
    fn preview(&mut self, denoised: &kinora::Tensor) -> bool {
        let is_due = self.last_preview.is_none_or(|last| last.elapsed() >= PREVIEW_EVERY);
        let (Some(colours), Some(path), true) = (&self.colours, &self.order.preview, is_due) else { return false };
        // A clip without a preview is a clip.
        let written = colours.frames(denoised).and_then(|frames| write_preview(path, &frames, self.fps)).is_ok();
        if written {
            self.last_preview = Some(Instant::now());
        }
        written
    }

    /// Tells the server; without one, the run stops.
    fn tell(&mut self, report: &Report) {
        let line = serde_json::to_string(report).unwrap_or_default() + "\n";
        self.broken |= self.out.write_all(line.as_bytes()).and_then(|()| self.out.flush()).is_err();
    }
}

fn progress(order: &Make, stage: Stage, done: usize, total: usize, window: [usize; 2]) -> Report {
    let (job, attempt) = (order.job.clone(), order.attempt);
    Report::Progress { job, attempt, stage, done, total, seconds: None, preview: false, window }
}

//! Shows the events of a run on stderr: progress of the steps and of the frames, and notices above it.

use crate::args::PreviewArgs;
use crate::bar::{Bar, Look};
use crate::terminal::Protocol;
use crate::{report, signals};
use kinora::{Event, LatentRgb, Picture, Pipeline, Plan, Planned, Stage, write_preview};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

/// Shows the events of one run.
pub struct Progress {
    bar: Bar,
    quiet: bool,
    steps: Steps,
    /// What its bar is called, until the number of frames is known that a stage goes through.
    frames: Option<&'static str>,
    preview: Option<Preview>,
}

/// The bar of the steps.
const STEPS: Look = Look { name: "denoising", wide: "{prefix} {elapsed}{msg}", narrow: "{prefix} {elapsed}{wide_msg}" };

/// How far the steps are, and what they take.
#[derive(Debug, Clone, Copy, Default)]
struct Steps {
    /// Steps of the run, and predictions of one.
    total: usize,
    predictions: usize,
    /// Steps done, also by an earlier process; predictions since.
    done: usize,
    since: usize,
    /// Steps that this process has done, and the time that they took.
    own: (u32, Duration),
    /// The time that the run was expected to take.
    expected: Option<Duration>,
}

impl Steps {
    /// Predictions done, and those of the whole run.
    fn position(&self) -> (u64, u64) {
        // A sampler that makes more in a step than is usual does not go past it.
        let done = self.done * self.predictions + self.since.min(self.predictions.saturating_sub(1));
        (done as u64, (self.total * self.predictions) as u64)
    }

    /// The time of one step, by those of this process; those of an earlier one do not count.
    fn each(&self) -> Option<Duration> {
        self.own.1.checked_div(self.own.0)
    }

    /// What is known of the time, behind the time that has passed.
    fn left(&self) -> String {
        let of = |left: Duration| report::seconds(left.as_secs_f64());
        match (self.each(), self.expected) {
            (Some(each), _) => {
                let left = each.saturating_mul(u32::try_from(self.total - self.done).unwrap_or(u32::MAX));
                format!(", {} left, {:.2} s/step", of(left), each.as_secs_f64())
            }
            (None, Some(expected)) if self.done == 0 => format!(" of about {}", of(expected)),
            (None, _) => String::new(),
        }
    }
}

/// Shows small frames of the latents every few steps.
struct Preview {
    colours: LatentRgb,
    file: Option<PathBuf>,
    terminal: Option<Protocol>,
    every: usize,
    /// Latent frames per second.
    fps: f64,
}

impl Preview {
    /// Returns the preview that `args` ask for, or the reason why the model or the terminal cannot show it.
    fn new(args: &PreviewArgs, pipeline: &Pipeline) -> Result<Option<Self>, &'static str> {
        if args.preview.is_none() && !args.preview_in_terminal {
            return Ok(None);
        }
        let colours = pipeline.latent_rgb().ok_or("the colours of this model's latents are not known")?;
        let terminal = args.preview_in_terminal.then(|| Protocol::detect(|name| std::env::var(name).ok())).flatten();
        if args.preview_in_terminal && terminal.is_none() && args.preview.is_none() {
            return Err(
                "this terminal cannot show pictures (kitty, iTerm2 and sixel ones can): --preview FILE writes a file",
            );
        }
        let (file, every) = (args.preview.clone(), usize::from(args.preview_every));
        Ok(Some(Self { colours, file, terminal, every, fps: 4.0 }))
    }

    fn planned(&mut self, plan: &Plan) {
        self.fps = (plan.fps / plan.temporal_factor as f64).max(1.0);
    }

    /// Writes the frames of `denoised` to the file, and returns the text that shows one in the terminal.
    fn step(&self, denoised: &kinora::Tensor) -> kinora::Result<Option<String>> {
        let frames = self.colours.frames(denoised)?;
        if let Some(file) = &self.file {
            write_preview(file, &frames, self.fps)?;
        }
        let middle = frames.get(frames.len() / 2);
        let shown = self.terminal.zip(middle).map(|(terminal, frame)| terminal.show(&Picture::from_frame(frame)));
        shown.transpose()
    }
}

impl Progress {
    /// Returns a display of progress; it shows nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        signals::listen();
        Self { bar: Bar::hidden(), quiet, steps: Steps::default(), frames: None, preview: None }
    }

    /// Adds previews of the latents.
    pub fn with_preview(mut self, args: &PreviewArgs, pipeline: &Pipeline) -> Self {
        match Preview::new(args, pipeline) {
            Ok(preview) => self.preview = preview,
            Err(reason) => report::note(&format!("no preview: {reason}")),
        }
        self
    }

    /// Shows a note.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.bar.above(|| report::note(text));
        }
    }

    /// Shows one event; returns `Break` after a signal to stop.
    pub fn handle(&mut self, event: &Event) -> ControlFlow<()> {
        if !self.quiet {
            self.show(event);
        }
        self.preview(event);
        if signals::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Shows the preview of an event; a failing preview does not stop the run.
    fn preview(&mut self, event: &Event) {
        let Some(preview) = &mut self.preview else { return };
        match event {
            Event::Planned(planned) => preview.planned(&planned.plan),
            Event::Step { done, total, denoised, .. } if done % preview.every == 0 || done == total => {
                match preview.step(denoised) {
                    Ok(None) => {}
                    Ok(Some(picture)) => self.bar.above(|| report::raw(&picture)),
                    Err(error) => {
                        self.bar.above(|| report::note(&format!("no preview: {error}")));
                        self.preview = None;
                    }
                }
            }
            _ => {}
        }
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::Planned(planned) => {
                let expected = planned.time.map(|time| Duration::from_secs_f64(time.seconds));
                self.steps = Steps { expected, ..Steps::default() };
                self.bar.above(|| say(planned));
            }
            Event::Notice(text) => self.bar.above(|| report::note(text)),
            Event::Stage(stage) => {
                self.bar = Bar::hidden(); // the old one goes before the new one comes
                self.bar = self.bar_of(*stage);
            }
            Event::Steps { done, total, predictions } => {
                // Windows of a story have the same steps, so that the time of one is that of the next ones, too.
                let (done, total, predictions) = (*done, *total, *predictions);
                self.steps = Steps { done, total, predictions, since: 0, ..self.steps };
                if done > 0 {
                    self.bar.above(|| report::note(&format!("it goes on after step {done} of {total}")));
                }
                self.bar = Bar::hidden();
                self.bar = Bar::of(STEPS, self.steps.position().1);
                self.stepped();
            }
            Event::NetworkCall => {
                self.steps.since += 1;
                self.stepped();
            }
            Event::Step { done, elapsed, .. } => {
                let (steps, time) = self.steps.own;
                self.steps = Steps { done: *done, since: 0, own: (steps + 1, time + *elapsed), ..self.steps };
                self.stepped();
                let Steps { total, .. } = self.steps;
                let left = self.steps.left();
                self.bar.log(|| format!("{done} of {total} steps{left}"));
            }
            Event::Frames { done, total } => {
                if let Some(name) = self.frames.take() {
                    self.bar = Bar::hidden();
                    self.bar = frames_bar(name, *total as u64);
                }
                self.bar.at(*done as u64, *total as u64);
                self.bar.log(|| format!("{done} of {total} frames"));
            }
            _ => {}
        }
    }

    /// Shows how far the steps are.
    fn stepped(&mut self) {
        let (done, total) = self.steps.position();
        self.bar.at(done, total);
        self.bar.count(format!("{}/{}", self.steps.done, self.steps.total));
        let left = self.steps.left();
        let shorter = left.rsplit_once(", ").map(|(left, _)| left).filter(|left| !left.is_empty());
        self.bar.message(shorter.filter(|_| self.bar.is_narrow()).unwrap_or(&left));
    }

    /// The bar of a stage that begins.
    fn bar_of(&mut self, stage: Stage) -> Bar {
        self.frames = None;
        match stage {
            Stage::Text => Bar::text("reading the prompt"),
            Stage::Denoise => Bar::text("denoising"), // until the steps begin
            Stage::Decode => {
                self.frames = Some("decoding ");
                Bar::text("decoding")
            }
            Stage::Encode => {
                self.frames = Some("encoding ");
                Bar::text("encoding")
            }
        }
    }
}

/// Counts frames, once the number of all is known.
fn frames_bar(name: &'static str, total: u64) -> Bar {
    let (wide, narrow) = ("{pos}/{len} frames {elapsed}, {eta} left", "{pos}/{len} {elapsed}");
    Bar::of(Look { name, wide, narrow }, total)
}

/// Says what will be done.
fn say(Planned { plan, memory, time, .. }: &Planned) {
    let (size, steps) = (format!("{}×{}", plan.width, plan.height), plan.steps());
    let Plan { frames, fps, sampler, seed, .. } = plan;
    report::say(&format!("{size}, {frames} frames at {fps} fps, {steps} steps of {sampler}, seed {seed}"));
    report::say(&memory.to_string());
    if let Some(time) = time {
        report::say(&report::time(time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_that_of_this_runs_steps() {
        // Step 18 of 20 ended, the second one after going on from step 16.
        let resumed =
            Steps { total: 20, predictions: 2, done: 18, own: (2, Duration::from_secs(6)), ..Steps::default() };
        assert_eq!(resumed.left(), ", 6.0 s left, 3.00 s/step");
        assert_eq!(Steps { since: 3, ..resumed }.position(), (37, 40));
        let first = Steps { total: 20, predictions: 1, expected: Some(Duration::from_secs(90)), ..Steps::default() };
        assert_eq!((first.left(), first.position()), (" of about 1:30 min".into(), (0, 20)));
        assert_eq!(Steps { done: 16, ..first }.left(), "");
    }
}

//! Shows the events of a run on stderr: progress of the steps and of the frames, and notices above it.

use crate::args::PreviewArgs;
use crate::bar::{Bar, Look};
use crate::terminal::Protocol;
use crate::{report, signals};
use indicatif::HumanDuration;
use kinora::{Event, LatentRgb, Picture, Pipeline, Plan, Planned, Stage, write_preview};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

/// Shows the events of one run.
pub struct Progress {
    bar: Bar,
    quiet: bool,
    /// The number of steps that this process has done, and the time they took.
    steps: (u32, Duration),
    preview: Option<Preview>,
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
        Self { bar: Bar::hidden(), quiet, steps: (0, Duration::ZERO), preview: None }
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
            Event::Planned(Planned { plan, memory, .. }) => self.bar.above(|| {
                let (size, steps) = (format!("{}×{}", plan.width, plan.height), plan.steps());
                let Plan { frames, fps, sampler, seed, .. } = plan;
                report::say(&format!("{size}, {frames} frames at {fps} fps, {steps} steps of {sampler}, seed {seed}"));
                report::say(&memory.to_string());
            }),
            Event::Notice(text) => self.bar.above(|| report::note(text)),
            Event::Stage(stage) => {
                self.bar = Bar::hidden(); // the old one goes before the new one comes
                self.bar = bar_of(*stage);
            }
            Event::Step { done, total, elapsed, .. } => {
                self.steps = (self.steps.0 + 1, self.steps.1 + *elapsed);
                let left = HumanDuration(remaining(self.steps, total - done));
                self.bar.message(&format!("{left:#} left  {:.2} s/step", elapsed.as_secs_f64()));
                self.bar.at(*done as u64, *total as u64, " steps");
            }
            Event::Frames { done, total } => self.bar.at(*done as u64, *total as u64, " frames"),
            _ => {}
        }
    }
}

fn bar_of(stage: Stage) -> Bar {
    let of = |name, wide, narrow| Bar::of(Look { name, wide, narrow });
    match stage {
        Stage::Text => Bar::text("reading the prompt"),
        Stage::Denoise => of("denoising", "{pos}/{len} {elapsed} / {msg}", "{pos}/{len} {wide_msg}"),
        Stage::Decode => of("decoding ", "{pos}/{len} frames {elapsed} / {eta} left", "{pos}/{len}"),
        Stage::Encode => of("encoding ", "{pos}/{len} frames {elapsed}", "{pos}/{len}"),
    }
}

/// Returns the time of `left` more steps at the mean of the steps of this process; those of an earlier one do not
/// count.
fn remaining((steps, elapsed): (u32, Duration), left: usize) -> Duration {
    elapsed.checked_div(steps).unwrap_or_default().saturating_mul(u32::try_from(left).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remaining_time_is_that_of_this_runs_steps() {
        // Step 18 of 20 ended, the second one after going on from step 16.
        assert_eq!(remaining((2, Duration::from_secs(6)), 2), Duration::from_secs(6));
        assert_eq!(remaining((0, Duration::ZERO), 5), Duration::ZERO);
    }
}

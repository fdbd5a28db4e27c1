//! Progress on stderr: a bar for the steps and one for the frames, notices above them.

use crate::signals;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use kinora::{Event, Stage};
use std::ops::ControlFlow;
use std::time::Duration;

/// Shows the events of one run.
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
    /// Steps that this run has done itself, and the time they took.
    steps: (u32, Duration),
}

impl Progress {
    /// Nothing is shown when `quiet`.
    pub fn new(quiet: bool) -> Self {
        signals::listen();
        Self { bar: ProgressBar::hidden(), quiet, steps: (0, Duration::ZERO) }
    }

    /// Shows one event; breaks after Ctrl-C or a request to end.
    pub fn handle(&mut self, event: &Event) -> ControlFlow<()> {
        if !self.quiet {
            self.show(event);
        }
        if signals::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::Planned(plan) => self.bar.suspend(|| {
                eprintln!(
                    "{}×{}, {} frames at {} fps, {} steps of {}, seed {}",
                    plan.width,
                    plan.height,
                    plan.frames,
                    plan.fps,
                    plan.steps(),
                    plan.sampler,
                    plan.seed
                );
                eprintln!("{}", plan.memory);
            }),
            Event::Notice(text) => self.bar.suspend(|| eprintln!("note: {text}")),
            Event::Stage(stage) => self.start(*stage),
            Event::Step { done, total, elapsed, .. } => {
                self.bar.set_length(*total as u64);
                self.bar.set_position(*done as u64);
                self.steps = (self.steps.0 + 1, self.steps.1 + *elapsed);
                let left = HumanDuration(remaining(self.steps, total - done));
                self.bar.set_message(format!("{left:#} left  {:.2} s/step", elapsed.as_secs_f64()));
            }
            Event::Frames { done, total } => {
                self.bar.set_length(*total as u64);
                self.bar.set_position(*done as u64);
            }
            _ => {}
        }
    }

    fn start(&mut self, stage: Stage) {
        let (name, style) = match stage {
            Stage::Text => ("reading the prompt", "{msg}"),
            Stage::Denoise => ("", "denoising {bar:30} {pos}/{len} {elapsed} / {msg}"),
            Stage::Decode => ("", "decoding  {bar:30} {pos}/{len} frames {elapsed} / {eta} left"),
            Stage::Encode => ("", "encoding  {bar:30} {pos}/{len} frames {elapsed}"),
        };
        self.bar.finish_and_clear();
        self.bar = ProgressBar::new(0).with_message(name);
        self.bar.set_style(ProgressStyle::with_template(style).expect("templates are constants"));
        self.bar.tick();
    }
}

/// What `left` more steps take at the mean of the steps done in this run; those of an earlier run say nothing.
fn remaining((steps, elapsed): (u32, Duration), left: usize) -> Duration {
    elapsed.checked_div(steps).unwrap_or_default().saturating_mul(u32::try_from(left).unwrap_or(u32::MAX))
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
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

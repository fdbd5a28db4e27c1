//! Progress on stderr: a bar for the steps and one for the frames, notices above them.

use indicatif::{ProgressBar, ProgressStyle};
use kinora::{Event, Stage};
use std::ops::ControlFlow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the first Ctrl-C; a second one ends the process at once.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Lets Ctrl-C stop the run after the network call under way.
pub fn listen_for_interrupt() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let handler = || {
            if INTERRUPTED.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        };
        // Without a handler Ctrl-C ends the process at once, which loses nothing that is on disk.
        let _ = ctrlc::set_handler(handler);
    });
}

/// Whether Ctrl-C was pressed.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Shows the events of one run.
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    /// Nothing is shown when `quiet`.
    pub fn new(quiet: bool) -> Self {
        listen_for_interrupt();
        Self { bar: ProgressBar::hidden(), quiet }
    }

    /// Shows one event; breaks after Ctrl-C.
    pub fn handle(&mut self, event: &Event) -> ControlFlow<()> {
        if !self.quiet {
            self.show(event);
        }
        if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
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
            }),
            Event::Notice(text) => self.bar.suspend(|| eprintln!("note: {text}")),
            Event::Stage(stage) => self.start(*stage),
            Event::Step { done, total, elapsed, .. } => {
                self.bar.set_length(*total as u64);
                self.bar.set_position(*done as u64);
                self.bar.set_message(format!("{:.2} s/step", elapsed.as_secs_f64()));
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
            Stage::Denoise => ("", "denoising {bar:30} {pos}/{len} {elapsed} / {eta} left  {msg}"),
            Stage::Decode => ("", "decoding  {bar:30} {pos}/{len} frames {elapsed} / {eta} left"),
            Stage::Encode => ("", "encoding  {bar:30} {pos}/{len} frames {elapsed}"),
        };
        self.bar.finish_and_clear();
        self.bar = ProgressBar::new(0).with_message(name);
        self.bar.set_style(ProgressStyle::with_template(style).expect("templates are constants"));
        self.bar.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

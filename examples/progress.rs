//! A run on a thread of its own that tells how far it is, is cancelled from another one, and goes on later:
//! `cargo run --release -p kinora --example progress`.
#![allow(clippy::print_stdout, reason = "it is what an example is for")]

use kinora::{Event, LoadOptions, Output, Pipeline, Report, Request};
use std::ops::ControlFlow::{Break, Continue};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

/// Makes the clip in two parts.
pub fn main() -> kinora::Result<()> {
    let pipeline = Pipeline::load(&LoadOptions::default())?;
    let folder = tempfile::tempdir().map_err(|source| kinora::Error::Io { path: std::env::temp_dir(), source })?;
    // With a directory for its state, a run that was cancelled goes on where it was.
    let output = Output::new(folder.path().join("ball.mp4")).resume(folder.path().join("run"));
    let request = Request::new("a red ball bounces on a striped blue background").seed(7).output(output);

    match run(&pipeline, &request, Some(6)) {
        Err(error) if error.is_stop() => println!("{error}; {}", error.hint().unwrap_or_default()),
        other => return other.map(|_| ()), // it was too fast to be cancelled
    }
    let report = run(&pipeline, &request, None)?;
    println!("{} frames in {}", report.frames, report.clip.display());
    Ok(())
}

/// Makes the clip of `request` on another thread, prints how far it is, and cancels it after so many steps.
fn run(pipeline: &Pipeline, request: &Request, most: Option<usize>) -> kinora::Result<Report> {
    let cancelled = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let cancelled = &cancelled;
        let running = scope.spawn(move || {
            pipeline.generate(request, |event| {
                match event {
                    Event::Stage(stage) => drop(sender.send((format!("{stage:?}"), 0))),
                    Event::Step { done, total, .. } => drop(sender.send((format!("step {done} of {total}"), done))),
                    _ => {}
                }
                // Asked after every prediction of the network, and every few frames.
                if cancelled.load(Ordering::Relaxed) { Break(()) } else { Continue(()) }
            })
        });
        for (line, done) in receiver {
            println!("{line}");
            if most == Some(done) {
                cancelled.store(true, Ordering::Relaxed);
            }
        }
        running.join().expect("it does not panic")
    })
}

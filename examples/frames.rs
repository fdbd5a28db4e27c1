//! Frames in memory, with progress and a way to stop: `cargo run --release -p kinora --example frames`.
#![allow(clippy::print_stdout, reason = "it is what an example is for")]

use kinora::{Event, Frames, LoadOptions, Picture, Pipeline, Request};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// A run that takes longer is stopped.
const MOST: Duration = Duration::from_mins(10);

/// Makes the clips.
pub fn main() -> kinora::Result<()> {
    let pipeline = Pipeline::load(&LoadOptions::default())?;
    let prompt = "a red ball bounces on a striped blue background";
    let request = Request::new(prompt).seed(7);
    let (begun, mut frames) = (Instant::now(), Frames::default());
    let report = pipeline.generate_into(&request, &mut frames, |event| {
        if let Event::Step { done, total, .. } = event {
            println!("step {done} of {total}");
        }
        if begun.elapsed() > MOST { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    println!("{} frames of {}×{}, seed {:?}", frames.frames.len(), report.width, report.height, report.seed);
    // Red, green and blue of the pixel in the middle of every fourth frame, in 0..=255.
    for frame in frames.frames.iter().step_by(4) {
        let Picture { width, height, rgb } = Picture::from_frame(frame);
        let middle = 3 * (width * (height / 2) + width / 2);
        println!("{:?}", &rgb[middle..middle + 3]);
    }
    Ok(())
}

//! Two clips with one model that stays in memory between them: `cargo run --release -p kinora --example warm`.
#![allow(clippy::print_stdout, reason = "it is what an example is for")]

use kinora::{LoadOptions, Output, Pipeline, Request};
use std::ops::ControlFlow;

/// Makes the clips.
pub fn main() -> kinora::Result<()> {
    let options = LoadOptions { keep_warm: true, ..LoadOptions::default() };
    let pipeline = Pipeline::load(&options)?;
    let folder = std::env::temp_dir();
    for (number, prompt) in ["a red ball moves left", "a blue square moves up"].into_iter().enumerate() {
        let output = Output { clip: folder.join(format!("kinora-example-{number}.mp4")), ..Output::default() };
        let request = Request { prompt: prompt.into(), output, ..Request::default() };
        let report = pipeline.generate(&request, |_| ControlFlow::Continue(()))?;
        println!(
            "{} in {:.2} s, {:.2} s of it for the steps",
            report.clip.display(),
            report.seconds.total,
            report.seconds.denoise
        );
    }
    Ok(())
}

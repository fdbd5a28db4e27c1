//! Two clips with one model that stays in memory between them: `cargo run --release -p kinora --example warm`.
#![allow(clippy::print_stdout, reason = "it is what an example is for")]

use kinora::{LoadOptions, Output, Pipeline, Request};
use std::ops::ControlFlow;

/// Makes the clips.
pub fn main() -> kinora::Result<()> {
    let options = LoadOptions::default().keep_warm(true);
    let pipeline = Pipeline::load(&options)?;
    let folder = std::env::temp_dir();
    for (number, prompt) in ["a red ball moves left", "a blue square moves up"].into_iter().enumerate() {
        let output = Output::new(folder.join(format!("kinora-example-{number}.mp4")));
        let request = Request::new(prompt).output(output);
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

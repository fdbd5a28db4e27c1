//! `kinora decode`.

use super::generate::{clip_or, output, print};
use crate::args::DecodeArgs;
use crate::progress::Progress;
use kinora::{Output, Pipeline, Result};

/// Turns saved latents into a clip.
pub fn run(args: &DecodeArgs) -> Result<()> {
    let pipeline = Pipeline::load(&args.model.load_options())?;
    let (clip, _claim) = clip_or(&args.output, || args.latents.with_extension("mp4"));
    let mut progress = Progress::new(args.output.json);
    let output = Output { clip, ..output(&args.output) };
    let report = pipeline.decode(&args.latents, &output, args.fps, |event| progress.handle(&event))?;
    drop(progress);
    print(&report, args.output.json);
    Ok(())
}

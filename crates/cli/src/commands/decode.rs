//! `kinora decode`.

use super::generate::output;
use super::target::Target;
use crate::args::DecodeArgs;
use crate::progress::Progress;
use kinora::{Pipeline, Result};

/// Turns saved latents into a clip.
pub fn run(args: &DecodeArgs) -> Result<()> {
    let pipeline = Pipeline::load(&args.model.load_options())?;
    let target = Target::of(&args.output, || args.latents.with_extension("mp4"))?;
    let mut progress = Progress::new(args.output.is_quiet());
    let output = output(&args.output).clip(target.clip());
    let report = pipeline.decode(&args.latents, &output, args.fps, |event| progress.handle(&event))?;
    drop(progress);
    target.print(&report, &args.output)
}

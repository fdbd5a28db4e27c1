//! `kinora encode`.

use crate::args::EncodeArgs;
use crate::progress::Progress;
use crate::report;
use kinora::{Pipeline, Result};

/// Turns a clip into latents.
pub fn run(args: &EncodeArgs) -> Result<()> {
    let pipeline = Pipeline::load(&args.model.load_options())?;
    let mut progress = Progress::new(false);
    let [c, f, h, w] = pipeline.encode(&args.clip, &args.output, |event| progress.handle(&event))?;
    drop(progress);
    report::line(&format!("{}  latents [1, {c}, {f}, {h}, {w}]", args.output.display()));
    Ok(())
}

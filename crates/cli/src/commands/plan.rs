//! `kinora plan`.

use crate::args::{GenerateArgs, Prompt};
use crate::report;
use kinora::{PartMemory, PartsMemory, Planned, Result};
use serde_json::json;

/// Prints what `kinora generate` would do with the same arguments.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let prompt = Prompt::of(&args.prompt)?;
    let mut planned = kinora::outline(&args.model.load_options(), &args.request(&prompt.text))?;
    planned.notices.extend(prompt.note);
    if args.output.json {
        as_json(&planned);
    } else {
        table(&planned);
    }
    Ok(())
}

fn table(planned: &Planned) {
    let Planned { plan, memory, notices, .. } = planned;
    let [_, latent_frames, ..] = plan.latent_shape;
    report::line(&format!(
        "{}×{}, {} frames ({latent_frames} in latents) at {} fps, {} steps of {}, {}",
        plan.width,
        plan.height,
        plan.frames,
        plan.fps,
        plan.steps(),
        plan.sampler,
        if plan.guided() { "guided" } else { "not guided" }
    ));
    report::line("");
    report::line(&format!("{:<10}  {:>8}  {:>8}  {:>13}", "stage", "weights", "working", "with program"));
    let PartsMemory { text, denoise, decode } = memory.parts;
    for (stage, part) in [("text", text), ("denoising", denoise), ("decoding", decode)] {
        let PartMemory { weights, working } = part;
        let [weights, working, all] = [weights, working, part.total() + memory.process].map(report::bytes);
        report::line(&format!("{stage:<10}  {weights:>8}  {working:>8}  {all:>13}"));
    }
    report::line("");
    let free = memory.available.map_or_else(String::new, |free| format!(" of {} free", report::bytes(free)));
    report::line(&format!("peak: about {}{free}", report::bytes(memory.peak)));
    for notice in notices {
        report::line(&format!("note: {notice}"));
    }
}

fn as_json(planned: &Planned) {
    let Planned { plan, memory, notices, .. } = planned;
    let value = json!({
        "width": plan.width,
        "height": plan.height,
        "frames": plan.frames,
        "latents": plan.latent_shape,
        "fps": plan.fps,
        "steps": plan.steps(),
        "sampler": plan.sampler.to_string(),
        "guided": plan.guided(),
        "memory": memory,
        "notices": notices,
    });
    report::json(&value);
}

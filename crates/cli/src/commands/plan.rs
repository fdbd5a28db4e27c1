//! `kinora plan`.

use super::generate::output;
use crate::args::{GenerateArgs, Print, prompt};
use crate::report;
use kinora::{PartMemory, PartsMemory, Planned, Result};
use serde_json::json;

/// Prints what `kinora generate` would do with the same arguments.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let prompt = prompt(&args.prompt)?;
    let request = args.request(&prompt).output(output(&args.output));
    let planned = kinora::outline(&args.loras.over(args.model.load_options(), args.denoising.sampling.mode), &request)?;
    if args.output.printed() == Print::Json {
        as_json(&planned);
    } else {
        table(&planned);
        if args.output.verbose {
            levels(&planned);
        }
    }
    Ok(())
}

fn table(planned: &Planned) {
    let Planned { plan, memory, time, notices, .. } = planned;
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
    if let Some(time) = time {
        report::line(&report::time(time));
    }
    for notice in notices {
        report::line(&format!("note: {notice}"));
    }
}

/// Prints the noise levels of the steps.
fn levels(Planned { plan, .. }: &Planned) {
    let numbers = |numbers: &[f64]| numbers.iter().map(|number| format!("{number:.4}")).collect::<Vec<_>>().join(" ");
    report::line(&format!("sigmas: {}", numbers(plan.schedule.sigmas())));
    report::line(&format!("timesteps: {}", numbers(plan.schedule.timesteps())));
}

fn as_json(planned: &Planned) {
    let Planned { plan, memory, time, notices, .. } = planned;
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
        "time": time,
        "notices": notices,
    });
    report::json(&value);
}

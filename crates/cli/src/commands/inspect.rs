//! `kinora inspect`.

use crate::args::InspectArgs;
use crate::ffmpeg;
use crate::report;
use kinora::{ClipDescription, Error, Inspection, LoraDescription, PartInspection, Result};
use kinora_files::shell_word;
use std::path::Path;

/// Prints the contents of a model, a LoRA or a clip.
///
/// # Errors
/// Nothing there, or a model that cannot be used, after its contents were printed.
pub fn run(args: &InspectArgs) -> Result<()> {
    if let [file] = args.model.as_slice()
        && let Some(description) = kinora::inspect_lora(file)?
    {
        if args.json {
            report::pretty_json(&description);
        } else {
            lora(file, &description);
        }
        return Ok(());
    }
    if let [file] = args.model.as_slice()
        && let Some(description) = kinora::inspect_clip(file, ffmpeg::find())
    {
        if args.json {
            report::pretty_json(&description);
        } else {
            clip(file, &description);
        }
        return Ok(());
    }
    let mut inspection = kinora::inspect(&args.model)?;
    if !args.tensors {
        inspection.parts.iter_mut().for_each(|part| part.tensors.clear());
    }
    if args.json {
        report::pretty_json(&inspection);
    } else {
        print(&inspection);
    }
    if inspection.problems.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = args.model.iter().map(|path| format!("`{}`", path.display())).collect();
    let hint = inspection.hint.unwrap_or_else(|| "give what is missing, or take all files from one source".into());
    Err(Error::request(format!("{} cannot be used as a model", names.join(", ")), hint))
}

fn print(inspection: &Inspection) {
    report::line(&format!("layout   {}", inspection.layout));
    report::line(&format!("family   {}", inspection.family.as_deref().unwrap_or("not known")));
    report::line(&format!("variant  {}", inspection.variant.as_deref().unwrap_or("not known")));
    inspection.parts.iter().for_each(part);
    inspection.problems.iter().for_each(|problem| report::line(&format!("usable   no: {problem}")));
    if inspection.problems.is_empty() {
        report::line("usable   yes");
    }
    inspection.notes.iter().for_each(|note| report::line(&format!("note     {note}")));
}

fn clip(file: &Path, clip: &ClipDescription) {
    let frames = match clip.frames {
        Some(1) => "1 frame".to_string(),
        Some(frames) => format!("{frames} frames, {:.2} s", frames as f64 / clip.fps),
        None => "frames that only reading counts".to_string(),
    };
    report::line(&format!("clip     {}×{}, {frames} at {} fps", clip.width, clip.height, clip.fps));
    let recipe = if clip.recipe { format!("yes: `kinora show {}` prints it", shell_word(file)) } else { "none".into() };
    report::line(&format!("recipe   {recipe}"));
    clip.notes.iter().for_each(|note| report::line(&format!("note     {} {note}", file.display())));
}

fn part(part: &PartInspection) {
    let types: Vec<&str> = part.types.keys().map(String::as_str).collect();
    let format = if part.format == "safetensors" { String::new() } else { format!("{} of ", part.format) };
    report::line(&format!(
        "part     {} ({}): {:.2} M parameters, {format}{}, {}",
        part.name,
        part.role.unwrap_or("not known"),
        part.parameters as f64 / 1e6,
        types.join(" and "),
        report::bytes(part.bytes)
    ));
    for (name, same) in part.types.iter().filter(|_| part.types.len() > 1) {
        let bytes = report::bytes(same.bytes);
        report::line(&format!(
            "           {name}: {} tensors, {:.2} M, {bytes}",
            same.tensors,
            same.parameters as f64 / 1e6
        ));
    }
    for (name, dtype, shape) in &part.tensors {
        report::line(&format!("           {name} {dtype} {shape:?}"));
    }
}

fn lora(file: &Path, lora: &LoraDescription) {
    let counted = |counts: &mut dyn Iterator<Item = (String, usize)>| {
        counts.map(|(what, count)| format!("{what} ({count})")).collect::<Vec<_>>().join(", ")
    };
    let named = |counts: &std::collections::BTreeMap<&'static str, usize>| {
        counted(&mut counts.iter().map(|(name, count)| ((*name).to_string(), *count)))
    };
    let prefixes: Vec<&str> = lora.prefixes.iter().map(|p| if p.is_empty() { "no prefix" } else { p }).collect();
    let flattened = if lora.flattened { ", underscores for dots" } else { "" };
    report::line(&format!("layout   LoRA, for --lora {}", shell_word(file)));
    report::line(&format!("names    {}{flattened}; {}", prefixes.join(", "), lora.suffixes.join(", ")));
    report::line(&format!("modules  {}", named(&lora.parts)));
    report::line(&format!("changes  {}", named(&lora.kinds)));
    if !lora.ranks.is_empty() {
        let ranks = counted(&mut lora.ranks.iter().map(|(rank, count)| (rank.to_string(), *count)));
        let alphas = counted(&mut lora.alphas.iter().map(|(alpha, count)| (alpha.clone(), *count)));
        let from = lora.alpha_from.map_or_else(String::new, |from| format!(", from {from}"));
        report::line(&format!("ranks    {ranks}"));
        report::line(&format!("alphas   {alphas}{from}"));
    }
    for (name, value) in &lora.metadata {
        report::line(&format!("field    {name}: {value}"));
    }
    lora.remarks.iter().for_each(|remark| report::line(&format!("note     {remark}")));
}

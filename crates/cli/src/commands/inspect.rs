//! `kinora inspect`.

use crate::args::InspectArgs;
use crate::report;
use kinora::{PartInspection, Result};

/// Prints the contents of a model directory or file.
pub fn run(args: &InspectArgs) -> Result<()> {
    let mut inspection = kinora::inspect(&args.path)?;
    if !args.tensors {
        inspection.parts.iter_mut().for_each(|part| part.tensors.clear());
    }
    if args.json {
        report::pretty_json(&inspection);
        return Ok(());
    }
    report::line(&format!("layout   {}", inspection.layout));
    report::line(&format!("family   {}", inspection.family.as_deref().unwrap_or("not known")));
    report::line(&format!("variant  {}", inspection.variant.as_deref().unwrap_or("not known")));
    inspection.parts.iter().for_each(part);
    match inspection.problems.as_slice() {
        [] => report::line("usable   yes"),
        problems => problems.iter().for_each(|problem| report::line(&format!("usable   no: {problem}"))),
    }
    Ok(())
}

fn part(part: &PartInspection) {
    let dtypes: Vec<&str> = part.dtypes.keys().map(String::as_str).collect();
    report::line(&format!(
        "part     {} ({}): {:.2} M parameters, {}, {}",
        part.name,
        part.role.unwrap_or("not known"),
        part.parameters as f64 / 1e6,
        dtypes.join(" and "),
        report::bytes(part.bytes)
    ));
    for (name, dtype, shape) in &part.tensors {
        report::line(&format!("           {name} {dtype} {shape:?}"));
    }
}

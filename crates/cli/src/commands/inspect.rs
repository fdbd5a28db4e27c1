//! `kinora inspect`.

use crate::args::InspectArgs;
use crate::report;
use kinora::{Error, Inspection, PartInspection, Result};

/// Prints the contents of a model.
///
/// # Errors
/// Nothing there, or a model that cannot be used, after its contents were printed.
pub fn run(args: &InspectArgs) -> Result<()> {
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
    Err(Error::Request { what: format!("{} cannot be used as a model", names.join(", ")), hint })
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

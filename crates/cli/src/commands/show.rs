//! `kinora show`.

use crate::args::ShowArgs;
use crate::report;
use kinora::{Recipe, Result};

/// Prints the recipe stored in a clip.
pub fn run(args: &ShowArgs) -> Result<()> {
    let recipe = Recipe::read(&args.clip)?;
    let value = serde_json::to_value(&recipe).expect("a recipe is plain data");
    if args.json {
        report::line(&value.to_string());
        return Ok(());
    }
    let fields = value.as_object().expect("a recipe is an object");
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in fields {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        report::line(&format!("{name:width$}  {text}"));
    }
    Ok(())
}

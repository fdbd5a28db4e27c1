//! `kinora-api JSON LIST`: prints in which lines the public interface that rustdoc's JSON describes differs from the list, and fails
//! then; with `--record` it writes the list.

use std::collections::BTreeSet;
use std::error::Error;
use std::process::ExitCode;
use std::{env, fs};

/// The format of rustdoc's JSON that can be read.
const FORMAT: u64 = 57;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let ([json, list] | [json, list, _]) = words.as_slice() else { return Err("give JSON LIST [--record]".into()) };
    let document: serde_json::Value = serde_json::from_str(&fs::read_to_string(json)?)?;
    if document["format_version"] != FORMAT {
        println!("skipped: rustdoc writes format {}, {FORMAT} (Rust 1.95) can be read", document["format_version"]);
        return Ok(ExitCode::SUCCESS);
    }
    let builder = public_api::Builder::from_rustdoc_json(json).omit_blanket_impls(true).omit_auto_trait_impls(true);
    let now = builder.omit_auto_derived_impls(true).build()?.to_string();
    if words.len() > 2 {
        fs::write(list, now)?;
        return Ok(ExitCode::SUCCESS);
    }
    let before = fs::read_to_string(list)?;
    let lines = |text: &str| text.lines().map(str::to_string).collect::<BTreeSet<_>>();
    let (before, now) = (lines(&before), lines(&now));
    before.difference(&now).for_each(|line| println!("- {line}"));
    now.difference(&before).for_each(|line| println!("+ {line}"));
    Ok(if before == now { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

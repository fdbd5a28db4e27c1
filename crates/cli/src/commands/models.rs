//! `kinora models` and `kinora pull`.

use crate::args::{ModelsArgs, PullArgs};
use crate::{report, signals};
use indicatif::{ProgressBar, ProgressStyle};
use kinora::{Manifest, Result, hub};
use std::ops::ControlFlow;

/// Lists the known models.
#[expect(clippy::unnecessary_wraps, reason = "every subcommand returns a result")]
pub fn list(args: &ModelsArgs) -> Result<()> {
    let known: Vec<Manifest> = Manifest::embedded().into_iter().chain(Manifest::known()).collect();
    let here = |manifest: &Manifest| match &manifest.repository {
        None => Some("(compiled in)".into()),
        Some(repository) => hub::cached(repository),
    };
    if args.json {
        let row = |m: &Manifest| {
            serde_json::json!({
                "name": m.name, "title": m.title, "licence": m.licence, "parameters": m.parameters,
                "repository": m.repository, "here": here(m),
            })
        };
        let rows: Vec<_> = known.iter().map(row).collect();
        report::line(&serde_json::to_string_pretty(&rows).expect("plain data"));
        return Ok(());
    }
    report::line(&format!(
        "{:16} {:>12} {:>14}  {:17} {:5} {}",
        "name", "transformer", "all, in bf16", "licence", "here", "what"
    ));
    for manifest in &known {
        report::line(&format!(
            "{:16} {:>10.3} B {:>14}  {:17} {:5} {}",
            manifest.name,
            manifest.parameters.transformer as f64 / 1e9,
            report::bytes(2 * manifest.parameters.total()),
            manifest.licence,
            if here(manifest).is_some() { "yes" } else { "no" },
            manifest.title
        ));
    }
    Ok(())
}

/// Downloads a known model; prints its directory.
pub fn pull(args: &PullArgs) -> Result<()> {
    signals::listen();
    let bar = ProgressBar::new(0);
    let template = "{bar:30} {bytes} / {total_bytes}  {bytes_per_sec}  {eta} left  {msg}";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
    let place = hub::pull(&args.name, |progress| show(&bar, progress));
    bar.finish_and_clear();
    report::line(&place?.display().to_string());
    Ok(())
}

fn show(bar: &ProgressBar, progress: hub::Progress) -> ControlFlow<()> {
    if bar.length() != Some(progress.total) {
        bar.set_length(progress.total);
        // Speed and remaining time are about this download, not about what was here before.
        bar.set_position(progress.done);
        bar.reset_eta();
    }
    bar.set_position(progress.done);
    if bar.message() != progress.file {
        bar.set_message(progress.file.to_string());
    }
    if signals::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

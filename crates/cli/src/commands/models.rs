//! `kinora models` and `kinora pull`.

use crate::args::{ModelsArgs, ModelsCommand, PullArgs};
use crate::bar::{Bar, Look};
use crate::{report, signals};
use kinora::{Error, Manifest, Result, Sampling, hub};
use std::ops::ControlFlow;

/// Lists the known models, or deletes one.
pub fn run(args: &ModelsArgs) -> Result<()> {
    match &args.command {
        None => list(args),
        Some(ModelsCommand::Rm { name, dry_run }) => remove(name, *dry_run),
    }
}

fn remove(name: &str, only_tell: bool) -> Result<()> {
    let Some((folder, bytes)) = hub::remove(name, only_tell)? else {
        let hint = "`kinora models` says which ones are here; files elsewhere are not Kinora's to delete";
        return Err(Error::request(format!("`{name}` has no download on this machine"), hint));
    };
    let done = if only_tell { "would be deleted" } else { "deleted" };
    report::line(&format!("{}  {}, {done}", folder.display(), report::bytes(bytes)));
    Ok(())
}

fn list(args: &ModelsArgs) -> Result<()> {
    let known: Vec<Manifest> = Manifest::embedded().into_iter().chain(Manifest::known()).collect();
    if let Some(name) = &args.show {
        return show_one(&known, name, args.json);
    }
    let here = |manifest: &Manifest| match (&manifest.repository, &manifest.page) {
        (Some(repository), _) => hub::cached(repository),
        (None, Some(_)) => None, // it may be anywhere: only --model names its directory
        (None, None) => Some("(compiled in)".into()),
    };
    if args.json {
        let row = |m: &Manifest| {
            serde_json::json!({
                "name": m.name, "title": m.title, "licence": m.licence, "parameters": m.parameters,
                "repository": m.repository, "here": here(m).map(|path| kinora_files::path_text(&path)),
            })
        };
        let rows: Vec<_> = known.iter().map(row).collect();
        report::pretty_json(&rows);
        return Ok(());
    }
    report::line(&format!(
        "{:22} {:>12} {:>14}  {:17} {:5} {}",
        "name", "transformer", "all, in bf16", "licence", "here", "title"
    ));
    for manifest in &known {
        report::line(&format!(
            "{:22} {:>10.3} B {:>14}  {:17} {:5} {}",
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

/// Prints everything that is known about one model.
fn show_one(known: &[Manifest], name: &str, json: bool) -> Result<()> {
    let manifest = known.iter().find(|manifest| manifest.name == name).ok_or_else(|| Error::UnknownModel {
        name: name.to_string(),
        hint: "`kinora models` lists the known models".into(),
    })?;
    let value = serde_json::json!({
        "name": manifest.name,
        "title": manifest.title,
        "licence": manifest.licence,
        "repository": manifest.repository,
        "takes": manifest.takes,
        "parameters": manifest.parameters,
        "defaults": manifest.defaults,
        "fast": manifest.modes.fast,
        "quality": manifest.modes.quality,
    });
    if json {
        report::json(&value);
        return Ok(());
    }
    report::line(&format!("{}: {}", manifest.name, manifest.title));
    let takes = [&["prompt".to_string()], &manifest.takes[..]].concat().join(", ");
    report::line(&format!("licence {}, takes {takes}", manifest.licence));
    let defaults = serde_json::to_value(&manifest.defaults).expect("plain data");
    let modes = ["fast", "quality"];
    report::line("");
    report::line(&format!("{:18} {:>14} {:>18} {:>14}", "", "default", modes[0], modes[1]));
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    for row in ["width", "height", "frames", "fps"].iter().chain(Sampling::KEYS) {
        let cells = [&defaults[row], &value["fast"][row], &value["quality"][row]].map(text);
        if cells.iter().any(|cell| !cell.is_empty()) {
            let [default, fast, quality] = cells.map(|cell| if cell.is_empty() { "·".to_string() } else { cell });
            report::line(format!("{:18} {default:>14} {fast:>18} {quality:>14}", row.replace('_', " ")).trim_end());
        }
    }
    Ok(())
}

/// Downloads a known model; prints its directory.
pub fn pull(args: &PullArgs) -> Result<()> {
    signals::listen();
    let wide = "{bytes} / {total_bytes}  {bytes_per_sec}  {eta} left  {wide_msg}";
    let mut bar = Bar::of(Look { name: "", wide, narrow: "{bytes} / {total_bytes}  {wide_msg}" }, 1);
    let mut total = None;
    let place = hub::pull(&args.name, |progress| show(&mut bar, &mut total, progress));
    drop(bar);
    report::line(&place?.display().to_string());
    Ok(())
}

fn show(bar: &mut Bar, total: &mut Option<u64>, progress: hub::Progress) -> ControlFlow<()> {
    if total.replace(progress.total) != Some(progress.total) {
        // Speed and remaining time count only this download, not the bytes of earlier ones.
        bar.begin_at(progress.done);
    }
    bar.message(progress.file);
    bar.at(progress.done, progress.total);
    bar.log(|| format!("{} of {}", report::bytes(progress.done), report::bytes(progress.total)));
    if signals::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

//! `kinora models` and `kinora pull`.

use crate::args::{ModelsArgs, ModelsCommand, PullArgs};
use crate::bar::{Bar, Look};
use crate::{report, signals};
use kinora::{Error, Manifest, Result, Sampling, hub};
use std::io::BufRead;
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
                "name": m.name, "title": m.title, "licence": m.licence, "licence_limits": m.licence_limits,
                "licence_page": m.licence_page, "gated": m.gated, "parameters": m.parameters,
                "repository": m.repository, "here": here(m).map(|path| kinora_files::path_text(&path)),
            })
        };
        let rows: Vec<_> = known.iter().map(row).collect();
        report::pretty_json(&rows);
        return Ok(());
    }
    for line in table(&known, |manifest| here(manifest).is_some()) {
        report::line(&line);
    }
    Ok(())
}

/// The lines of the table of the known models.
fn table(known: &[Manifest], is_here: impl Fn(&Manifest) -> bool) -> Vec<String> {
    let title = known.iter().map(|manifest| manifest.title.chars().count()).max().unwrap_or_default();
    let head = format!(
        "{:22} {:>12} {:>14}  {:17} {:5} {:title$}  {}",
        "name", "transformer", "all, in bf16", "licence", "here", "title", "limits of the licence"
    );
    let row = |manifest: &Manifest| {
        format!(
            "{:22} {:>10.3} B {:>14}  {:17} {:5} {:title$}  {}",
            manifest.name,
            manifest.parameters.transformer() as f64 / 1e9,
            report::bytes(2 * manifest.parameters.total()),
            manifest.licence,
            if is_here(manifest) { "yes" } else { "no" },
            manifest.title,
            manifest.licence_limits.as_deref().unwrap_or("none")
        )
    };
    std::iter::once(head).chain(known.iter().map(row)).collect()
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
        "licence_limits": manifest.licence_limits,
        "licence_page": manifest.licence_page,
        "gated": manifest.gated,
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
    if let Some(limits) = &manifest.licence_limits {
        report::line(&format!("limits of the licence: {limits}"));
    }
    if let Some(page) = &manifest.licence_page {
        report::line(&format!("text of the licence: {page}"));
    }
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

/// Downloads a known model; prints its directory. A licence that is to be accepted is shown and asked for, once.
pub fn pull(args: &PullArgs) -> Result<()> {
    // Without a terminal, and after a no, the download says what is missing.
    if let Some(licence) = hub::licence_to_accept(&args.name)?
        && (args.accept_licence || report::can_ask())
    {
        for line in licence_lines(&args.name, &licence) {
            report::say(&line);
        }
        if args.accept_licence || agreed(&mut std::io::stdin().lock()) {
            hub::accept_licence(&args.name)?;
        }
    }
    signals::listen();
    let wide = "{bytes} / {total_bytes}  {bytes_per_sec}  {eta} left  {wide_msg}";
    let mut bar = Bar::of(Look { name: "", wide, narrow: "{bytes} / {total_bytes}  {wide_msg}" }, 1);
    let mut total = None;
    let place = hub::pull(&args.name, |progress| show(&mut bar, &mut total, progress));
    drop(bar);
    report::line(&place?.display().to_string());
    Ok(())
}

/// What is said of the licence of the model `name`.
fn licence_lines(name: &str, licence: &hub::Licence) -> Vec<String> {
    let limits = licence.limits.as_ref().map(|limits| format!("its limits: {limits}"));
    let text = format!("its text: {}", licence.page);
    std::iter::once(format!("{name} is under the licence {}", licence.name)).chain(limits).chain([text]).collect()
}

/// Asks whether the licence is accepted.
fn agreed(answers: &mut impl BufRead) -> bool {
    report::say("accept it? type yes or no");
    let mut answer = String::new();
    answers.read_line(&mut answer).is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_accepted_by_a_clear_yes_alone() {
        for yes in ["yes\n", "y", " YES \r\n"] {
            assert!(agreed(&mut yes.as_bytes()), "{yes:?}");
        }
        for no in ["", "\n", "no\n", "yesterday\n", "\nyes\n"] {
            assert!(!agreed(&mut no.as_bytes()), "{no:?}");
        }
        let licence = hub::Licence::new("One", Some("companies pay".into()), "https://c");
        let lines = ["m is under the licence One", "its limits: companies pay", "its text: https://c"];
        assert_eq!(licence_lines("m", &licence), lines);
    }

    #[test]
    fn the_table_has_the_limits_of_licences_in_one_column() {
        let mut known = Manifest::known();
        known.truncate(2);
        known[1].licence_limits = Some("companies pay".into());
        let lines = table(&known, |manifest| manifest.name == known[0].name);
        let column = lines[0].find("limits of the licence").expect("a column");
        let cells: Vec<&str> = lines[1..].iter().map(|line| &line[column..]).collect();
        assert_eq!(cells, ["none", "companies pay"]);
        assert!(lines[1].contains(" yes ") && lines[2].contains(" no "));
    }
}

//! `kinora suite`: makes clips of a file of prompts with several models and settings, and one page to compare them.

mod page;

use crate::args::{DenoisingArgs, SuiteArgs};
use crate::progress::Progress;
use crate::report;
use clap::Parser;
use kinora::{Error, LoadOptions, Output, Pipeline, Recipe, Report, Request, Result, SeedChoice};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Frames of a contact sheet.
const SHEET_FRAMES: usize = 8;

/// A file of prompts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prompts {
    prompt: Vec<Prompt>,
}

/// One prompt.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// The prompt itself.
    text: String,
    /// The prompt in English, for the readers of the page.
    #[serde(default)]
    english: Option<String>,
    /// The ability that the prompt tests.
    #[serde(default)]
    category: String,
    /// Whether other models are known to fail on the prompt.
    #[serde(default)]
    known_hard: bool,
    /// A remark for the readers of the page.
    #[serde(default)]
    note: Option<String>,
}

/// A column of the page.
struct Column {
    /// The name of the column, and of its directory.
    name: String,
    model: String,
    /// Its own settings and those of every clip.
    denoising: DenoisingArgs,
}

/// The record beside each clip; a clip with a record is complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Made {
    prompt: String,
    seed: u64,
    width: usize,
    height: usize,
    frames: usize,
    seconds: f64,
    decode_seconds: f64,
}

/// One prompt in one column of the page.
struct Cell {
    clip: PathBuf,
    sheet: PathBuf,
    made: Made,
}

/// The options that `--set` accepts.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Settings {
    #[command(flatten)]
    denoising: DenoisingArgs,
}

/// Makes the clips that are missing, and the page.
pub fn run(args: &SuiteArgs) -> Result<()> {
    let prompts = chosen(args)?;
    let columns = columns(args)?;
    fs::create_dir_all(&args.output).map_err(|source| Error::Io { path: args.output.clone(), source })?;
    let mut rows: Vec<Vec<Cell>> = prompts.iter().map(|_| Vec::new()).collect();
    let path = args.output.join("index.html");
    for column in &columns {
        let options = args.loras.over(args.compute.load_options(vec![column.model.clone()]), args.sampling.mode);
        let pipeline = Pipeline::load(&options)?;
        pipeline.check_results(&[("the page", &path)], &[("the prompts", &args.prompts)], &Output::default())?;
        for (index, ((number, prompt), row)) in prompts.iter().zip(&mut rows).enumerate() {
            report::say(&format!("{}, {} of {}: {}", column.name, index + 1, prompts.len(), prompt.text));
            row.push(cell(&pipeline, args, column, *number, prompt)?);
        }
    }
    let headings: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let prompts: Vec<&Prompt> = prompts.iter().map(|(_, prompt)| prompt).collect();
    let title = args.prompts.file_stem().unwrap_or_default().to_string_lossy();
    let html = page::html(&title, args.seed, &headings, &prompts, &rows);
    write(&path, &html)?;
    report::line(&path.display().to_string());
    Ok(())
}

/// Returns the prompts that `--category` and `--limit` select, with their numbers in the file.
fn chosen(args: &SuiteArgs) -> Result<Vec<(usize, Prompt)>> {
    let wanted = |prompt: &Prompt| args.category.as_ref().is_none_or(|prefix| prompt.category.starts_with(prefix));
    let all = read(&args.prompts)?;
    if all.is_empty() {
        return Err(bad(&args.prompts, "it has no prompts".into()));
    }
    let numbered = all.into_iter().enumerate().map(|(index, prompt)| (index + 1, prompt));
    let mut prompts: Vec<(usize, Prompt)> = numbered.filter(|(_, prompt)| wanted(prompt)).collect();
    prompts.truncate(args.limit.unwrap_or(usize::MAX));
    if prompts.is_empty() {
        return Err(Error::request(
            format!("--category and --limit select no prompt of `{}`", args.prompts.display()),
            "check the categories in the file, or leave these options out",
        ));
    }
    Ok(prompts)
}

/// Reads all prompts of a file.
fn read(path: &Path) -> Result<Vec<Prompt>> {
    let text = kinora_files::read_text(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
    let all: Prompts = toml::from_str(&text).map_err(|error| bad(path, error.message().to_string()))?;
    Ok(all.prompt)
}

fn bad(path: &Path, reason: String) -> Error {
    let hint = "write `[[prompt]]` tables with `text` and, optionally, category, english, known_hard and note";
    Error::bad_file(path.to_path_buf(), reason, hint)
}

/// Returns one column for every model with every set of settings.
fn columns(args: &SuiteArgs) -> Result<Vec<Column>> {
    let models = if args.model.is_empty() { LoadOptions::default().model } else { args.model.clone() };
    let sets = if args.set.is_empty() { vec![String::new()] } else { args.set.clone() };
    let mut columns = Vec::new();
    for model in &models {
        for set in &sets {
            let settings = settings(set);
            let own = parsed(&settings)?; // settings are checked before the first clip is made
            if own.seed == Some(SeedChoice::Random) {
                return Err(Error::request(
                    format!("--set {set}: all clips of a column have one seed"),
                    "write a number, such as seed=7",
                ));
            }
            let denoising = DenoisingArgs { sampling: own.sampling.or(&args.sampling), seed: own.seed };
            let last = Path::new(model).file_name().unwrap_or_default().to_string_lossy();
            let name = [&[last.into_owned()], &settings[..]].concat().join(" ");
            if columns.iter().any(|column: &Column| column.name == name) {
                return Err(Error::request(
                    format!("two columns have the name `{name}`"),
                    "give each model and each --set once",
                ));
            }
            columns.push(Column { name, model: model.clone(), denoising });
        }
    }
    Ok(columns)
}

/// Splits `steps=4,sigmas=1,0.5` into settings: a number after a comma belongs to the list before it.
fn settings(set: &str) -> Vec<String> {
    let mut settings: Vec<String> = Vec::new();
    for part in set.split(',').filter(|part| !part.is_empty()) {
        match settings.last_mut() {
            Some(last) if part.parse::<f64>().is_ok() => *last = format!("{last},{part}"),
            _ => settings.push(part.to_string()),
        }
    }
    settings
}

/// Reads settings such as `steps=4` as the command line does.
fn parsed(settings: &[String]) -> Result<DenoisingArgs> {
    let flags = settings.iter().map(|setting| format!("--{}", setting.replace('_', "-")));
    match Settings::try_parse_from(flags) {
        Ok(parsed) => Ok(parsed.denoising),
        Err(error) => {
            let text = report::words(&error);
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_string();
            Err(Error::request(format!("--set: {line}"), "write NAME=VALUE, such as --set steps=4,cache=easycache"))
        }
    }
}

/// Makes the clip of one prompt in one column, unless it is there.
fn cell(pipeline: &Pipeline, args: &SuiteArgs, column: &Column, number: usize, prompt: &Prompt) -> Result<Cell> {
    let folder: String =
        column.name.chars().map(|c| if c.is_alphanumeric() || "-._".contains(c) { c } else { '-' }).collect();
    let relative = |ending: &str| PathBuf::from(&folder).join(format!("{number:03}{ending}"));
    let (clip, sheet, note) = (relative(".mp4"), relative(".png"), relative(".json"));
    let shape = &args.shape;
    let request = column.denoising.apply(
        Request::new(prompt.text.clone())
            .size(shape.size())
            .frames(shape.frames)
            .duration(shape.duration)
            .fps(shape.fps)
            .seed(args.seed)
            .output(
                Output::new(args.output.join(&clip))
                    .resume(args.output.join(relative(".run")))
                    .reads(vec![args.prompts.clone()]),
            ),
    );
    let recipe = pipeline.recipe_of(&request)?;
    let (clip_path, sheet_path, note_path) =
        (args.output.join(&clip), args.output.join(&sheet), args.output.join(&note));
    let kept = kinora_files::read_text(&note_path).ok().and_then(|text| serde_json::from_str::<Made>(&text).ok());
    let fits = |_: &Made| {
        let same = Recipe::read(&clip_path).is_ok_and(|kept| recipe.difference(&kept).is_none());
        same && sheet_path.exists()
    };
    if let Some(made) = kept.filter(fits) {
        return Ok(Cell { clip, sheet, made });
    }
    pipeline.check_results(&[("the sheet", &sheet_path), ("the record", &note_path)], &[], &request.output)?;
    let parent = clip_path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|source| Error::Io { path: parent.to_path_buf(), source })?;
    let mut progress = Progress::new(false);
    let report = pipeline.generate(&request, |event| progress.handle(&event))?;
    drop(progress);
    kinora::contact_sheet(&clip_path, &sheet_path, SHEET_FRAMES)?;
    let made = made(&report, prompt, recipe.seed);
    write(&note_path, &serde_json::to_string_pretty(&made).expect("plain data"))?;
    if let Some(run) = &request.output.resume {
        let _ = fs::remove_dir_all(run); // the complete clip needs no saved state
    }
    Ok(Cell { clip, sheet, made })
}

fn made(report: &Report, prompt: &Prompt, seed: u64) -> Made {
    Made {
        prompt: prompt.text.clone(),
        seed,
        width: report.width,
        height: report.height,
        frames: report.frames,
        seconds: report.seconds.total,
        decode_seconds: report.seconds.decode,
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    kinora_files::write(path, text).map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_after_a_comma_belong_to_a_list() {
        assert_eq!(settings("steps=4,cache=easycache"), ["steps=4", "cache=easycache"]);
        assert_eq!(settings("sigmas=1,0.5,shift=3"), ["sigmas=1,0.5", "shift=3"]);
        assert!(settings("").is_empty());
    }

    #[test]
    fn the_suites_of_the_repository_can_be_read() {
        for (file, count) in [("prompts.toml", 64), ("embedded.toml", 12)] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/suite").join(file);
            let prompts = read(&path).unwrap();
            assert_eq!(prompts.len(), count, "{file}");
            for Prompt { text, english, category, .. } in prompts {
                assert!(!text.is_empty() && !category.is_empty(), "{file}: {text}");
                assert!(text.is_ascii() || english.is_some_and(|english| !english.is_empty()), "{file}: {text}");
            }
        }
    }
}

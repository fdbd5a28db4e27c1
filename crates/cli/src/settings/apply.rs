//! [`with_settings`]: a command line with the settings in the places of the options that it leaves out.

use super::{Origin, Setting, Settings, Values};
use crate::args::Cli;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory};
use std::ffi::OsString;

/// Commands whose settings are recorded in the clip that they start from. Of the settings for all commands, only those that no
/// recipe has are theirs.
const RECORDED: [&str; 2] = ["rerun", "extend"];
/// Options that no recipe has.
const UNRECORDED: [&str; 7] = ["device", "threads", "gpu-memory", "no-ffmpeg", "quiet", "verbose", "print"];

/// Returns the command `line`, which was `parsed`, with the settings that hold for its command. Options that are given, or that
/// exclude or are excluded by ones that are given, stay as they are.
pub fn with_settings(line: &[OsString], parsed: &ArgMatches, settings: &Settings) -> Vec<OsString> {
    let mut line = line.to_vec();
    let mut command = Cli::command();
    command.build();
    let Some((name, given)) = parsed.subcommand() else { return line };
    let (Some(command), Some(place)) =
        (command.find_subcommand(name), line.iter().position(|word| word.as_os_str() == name))
    else {
        return line;
    };
    let mut set: Vec<&str> = Vec::new();
    let mut words = Vec::new();
    for setting in ordered(settings, name) {
        let Some(arg) = option(command, &setting.option) else { continue };
        if set.contains(&setting.option.as_str()) || is_given(command, arg, given) {
            continue;
        }
        set.push(&setting.option);
        match &setting.values {
            Values::Flag(true) => words.push(format!("--{}", setting.option).into()),
            Values::Flag(false) => {}
            Values::Words(values) => {
                words.extend(values.iter().map(|value| OsString::from(format!("--{}={value}", setting.option))));
            }
        }
    }
    line.splice(place + 1..=place, words);
    line
}

/// Says what is wrong with the name of an option of a command, or of any command.
pub fn check(name: &str, command: Option<&str>) -> Result<(), String> {
    let mut all = Cli::command();
    all.build();
    let commands: Vec<&Command> = match command {
        None => all.get_subcommands().collect(),
        Some(wanted) => {
            let names = || all.get_subcommands().map(Command::get_name);
            let found = all.find_subcommand(wanted);
            vec![found.ok_or_else(|| format!("[{wanted}] is no command{}", meant(wanted, names())))?]
        }
    };
    if commands.iter().any(|command| option(command, name).is_some()) {
        return Ok(());
    }
    let names = commands.iter().flat_map(|command| command.get_arguments().filter_map(Arg::get_long));
    Err(format!("`{name}` is no option{}", meant(name, names)))
}

/// Those that may hold for a command, in the order in which they count.
fn ordered<'a>(settings: &'a Settings, command: &'a str) -> impl Iterator<Item = &'a Setting> {
    settings.all.iter().filter(move |setting| match &setting.origin {
        Origin::File(Some(own)) => own == command,
        Origin::File(None) | Origin::Variable(_) => {
            !RECORDED.contains(&command) || UNRECORDED.contains(&setting.option.as_str())
        }
    })
}

fn option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let taken = |arg: &&Arg| arg.get_long() == Some(name) && !matches!(name, "help" | "version");
    command.get_arguments().find(taken)
}

/// Whether the command line has the option, its opposite, or one that excludes it.
fn is_given(command: &Command, arg: &Arg, given: &ArgMatches) -> bool {
    let is_there = |arg: &Arg| given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let name = arg.get_long().unwrap_or_default();
    let opposite = name.strip_prefix("no-").map_or_else(|| format!("no-{name}"), str::to_string);
    let excludes = |one: &Arg, other: &Arg| {
        command.get_arg_conflicts_with(one).iter().any(|excluded| excluded.get_id() == other.get_id())
    };
    command.get_arguments().filter(|other| is_there(other)).any(|other| {
        other.get_id() == arg.get_id()
            || other.get_long() == Some(opposite.as_str())
            || excludes(arg, other)
            || excludes(other, arg)
    })
}

/// A question after a name that is not known, if another one is like it.
fn meant<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let alike = known.map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    alike
        .filter(|(distance, _)| *distance <= 2)
        .map_or_else(String::new, |(_, known)| format!(": did you mean `{known}`?"))
}

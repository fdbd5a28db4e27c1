//! Prompts of the command line: they may begin with a dash, or come from standard input.

use super::{Cli, GenerateArgs};
use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use kinora::{Error, Result};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The most bytes of a prompt.
const LONGEST: u64 = 1 << 20;

/// Parses a command line. Words that begin with a dash and are no options of the command are prompts where they cannot
/// be mistyped options: in quotes with blanks in them, or after `--negative-prompt`.
///
/// # Errors
/// clap's, also that of a help text or a version to print.
pub fn parse(line: &[OsString]) -> std::result::Result<(Cli, ArgMatches), clap::Error> {
    let parsed = |matches: ArgMatches| Ok((Cli::from_arg_matches(&matches)?, matches));
    Cli::command().try_get_matches_from(line).and_then(parsed).or_else(|error| match error.kind() {
        ErrorKind::UnknownArgument | ErrorKind::InvalidValue => with_dashes(line).ok_or(error),
        _ => Err(error),
    })
}

fn with_dashes(line: &[OsString]) -> Option<(Cli, ArgMatches)> {
    let mut command = Cli::command();
    for name in ["generate", "plan", "extend", "story"] {
        command = command.mut_subcommand(name, |command| {
            command.mut_args(|arg| match arg.get_id().as_str() {
                "prompt" | "negative_prompt" => arg.allow_hyphen_values(true),
                _ => arg,
            })
        });
    }
    let matches = command.try_get_matches_from(line).ok()?;
    let cli = Cli::from_arg_matches(&matches).ok()?;
    let (prompt, negative) = match &cli.command {
        super::Command::Generate(args) | super::Command::Plan(args) => prompts_of(args),
        super::Command::Extend(args) => (args.prompt.as_deref(), args.negative_prompt.as_deref()),
        super::Command::Story(args) => (None, args.negative_prompt.as_deref()),
        _ => (None, None),
    };
    let is_option = |text: &str| text.starts_with("--") && !text.contains(char::is_whitespace);
    let is_dashed = |text: &str| text.len() > 1 && text.starts_with('-') && !text.contains(char::is_whitespace);
    (!prompt.is_some_and(is_dashed) && !negative.is_some_and(is_option)).then_some((cli, matches))
}

fn prompts_of(args: &GenerateArgs) -> (Option<&str>, Option<&str>) {
    (Some(&args.prompt), args.negative_prompt.as_deref())
}

/// Returns the prompt that was `given`: `-` stands for standard input, `@FILE` for the text of a file.
///
/// # Errors
/// A file or standard input that is empty, no text, or too long, and a file that is not there.
pub fn prompt(given: &str) -> Result<String> {
    if given == "-" {
        let hint = "write it there, as in `echo a red ball | kinora generate -`, or instead of the -";
        return from(std::io::stdin().lock(), "on standard input", hint);
    }
    // A sentence that begins so is one.
    let Some(name) =
        given.strip_prefix('@').filter(|name| !name.contains(char::is_whitespace) || Path::new(name).is_file())
    else {
        return Ok(given.to_string());
    };
    let hint = "@FILE is the text of a file; a prompt that begins with @ has a blank before it";
    match File::open(name) {
        Ok(file) => from(file, &format!("in `{name}`"), hint),
        Err(error) => Err(bad(&format!("in `{name}`"), &format!("cannot be read: {error}"), hint)),
    }
}

fn bad(place: &str, why: &str, hint: &str) -> Error {
    Error::request(format!("the prompt {place} {why}"), hint)
}

fn from(input: impl Read, place: &str, hint: &str) -> Result<String> {
    let bad = |why: &str| bad(place, why, hint);
    let mut bytes = Vec::new();
    input.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| bad(&format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > LONGEST {
        return Err(bad(&format!("is longer than {LONGEST} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad("is not UTF-8 text"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim();
    if text.is_empty() { Err(bad("is empty")) } else { Ok(text.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_come_from_standard_input() {
        let read = |text: &[u8]| from(text, "in a file", "").ok();
        assert_eq!(read("\u{feff}a red\nball\n".as_bytes()).as_deref(), Some("a red\nball"));
        for bad in [&b""[..], b" \n", b"\xff", &vec![b'a'; (1 << 20) + 1]] {
            assert_eq!(read(bad), None);
        }
    }

    #[test]
    fn prompts_come_from_files() {
        let folder = std::env::temp_dir();
        let file = folder.join(format!("kinora prompt {}.txt", std::process::id()));
        std::fs::write(&file, "a ball\n").expect("a file");
        assert_eq!(prompt(&format!("@{}", file.display())).ok().as_deref(), Some("a ball"));
        std::fs::remove_file(&file).expect("it is there");
        assert!(prompt("@nowhere.txt").is_err());
        for text in ["@home with a cat", " @home", "a@b"] {
            assert_eq!(prompt(text).ok().as_deref(), Some(text));
        }
    }
}

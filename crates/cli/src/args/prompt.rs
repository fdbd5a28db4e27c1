//! Prompts of the command line: they may begin with a dash, or come from standard input.

use super::{Cli, GenerateArgs};
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser};
use kinora::{Error, Result};
use std::io::Read;
use std::path::Path;

/// The most bytes of a prompt.
const LONGEST: u64 = 1 << 20;

/// Parses the command line. Words that begin with a dash and are no options of the command are prompts where they cannot
/// be mistyped options: in quotes with blanks in them, or after `--negative-prompt`.
///
/// # Errors
/// clap's, also that of a help text or a version to print.
pub fn parse() -> std::result::Result<Cli, clap::Error> {
    Cli::try_parse().or_else(|error| match error.kind() {
        ErrorKind::UnknownArgument | ErrorKind::InvalidValue => with_dashes().ok_or(error),
        _ => Err(error),
    })
}

fn with_dashes() -> Option<Cli> {
    let mut command = Cli::command();
    for name in ["generate", "plan", "extend", "story"] {
        command = command.mut_subcommand(name, |command| {
            command.mut_args(|arg| match arg.get_id().as_str() {
                "prompt" | "negative_prompt" => arg.allow_hyphen_values(true),
                _ => arg,
            })
        });
    }
    let cli = Cli::from_arg_matches(&command.try_get_matches().ok()?).ok()?;
    let (prompt, negative) = match &cli.command {
        super::Command::Generate(args) | super::Command::Plan(args) => prompts_of(args),
        super::Command::Extend(args) => (args.prompt.as_deref(), args.negative_prompt.as_deref()),
        super::Command::Story(args) => (None, args.negative_prompt.as_deref()),
        _ => (None, None),
    };
    let is_option = |text: &str| text.starts_with("--") && !text.contains(char::is_whitespace);
    let is_dashed = |text: &str| text.len() > 1 && text.starts_with('-') && !text.contains(char::is_whitespace);
    (!prompt.is_some_and(is_dashed) && !negative.is_some_and(is_option)).then_some(cli)
}

fn prompts_of(args: &GenerateArgs) -> (Option<&str>, Option<&str>) {
    (Some(&args.prompt), args.negative_prompt.as_deref())
}

/// The prompt that is meant, and what is worth knowing about it.
pub struct Prompt {
    /// The prompt.
    pub text: String,
    /// A sentence, if there is one.
    pub note: Option<String>,
}

impl Prompt {
    /// Returns the prompt that was `given`: `-` stands for standard input.
    ///
    /// # Errors
    /// Standard input that is empty, no text, or too long.
    pub fn of(given: &str) -> Result<Self> {
        if given == "-" {
            return Ok(Self { text: from(std::io::stdin().lock())?, note: None });
        }
        let file = given.strip_prefix('@').filter(|name| Path::new(name).is_file());
        let note = file.map(|name| {
            let word = kinora_files::shell_word(name);
            format!("the prompt is the text `{given}`, not what is in that file: `kinora … - < {word}` reads it")
        });
        Ok(Self { text: given.to_string(), note })
    }
}

fn from(input: impl Read) -> Result<String> {
    let bad = |why: &str| Error::Request {
        what: format!("the prompt on standard input {why}"),
        hint: "write it there, as in `echo a red ball | kinora generate -`, or instead of the -".into(),
    };
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
        assert_eq!(from("\u{feff}a red\nball\n".as_bytes()).ok().as_deref(), Some("a red\nball"));
        for bad in [&b""[..], b" \n", b"\xff", &vec![b'a'; (1 << 20) + 1]] {
            assert!(from(bad).is_err());
        }
    }
}

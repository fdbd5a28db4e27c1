//! Everything that the command prints goes through here: `error:` says what is wrong, `hint:` what to do; results go to
//! stdout, the rest to stderr. A stream that is gone or full never ends a run.
#![allow(clippy::disallowed_methods, reason = "the one place that prints")]

use crate::hints::hint;
use crate::shown::{shown, shown_json};
use crate::signals;
use serde::Serialize;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

/// Exit status of an invalid command line.
const USAGE: u8 = 2;
/// Exit status of everything else that goes wrong.
const FAILURE: u8 = 1;

/// The error of a result that could not be printed.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Prints a line on stderr, with everything in it that is not seen spelled out.
pub fn say(text: &str) {
    raw(&format!("{}\n", shown(text)));
}

/// Prints `text` on stderr as it is: pictures, of which every byte is our own. Nobody may be listening any more, and the
/// run goes on without them.
pub fn raw(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// Prints a note on stderr.
pub fn note(text: &str) {
    say(&format!("note: {text}"));
}

/// Prints a line on stdout, with everything in it that is not seen spelled out.
pub fn line(text: &str) {
    print(&shown(text));
}

/// Prints `value` as JSON on one line of stdout.
pub fn json(value: &impl Serialize) {
    print(&shown_json(&serde_json::to_string(value).expect("plain data")));
}

/// Prints `value` as JSON on stdout, indented.
pub fn pretty_json(value: &impl Serialize) {
    print(&shown_json(&serde_json::to_string_pretty(value).expect("plain data")));
}

/// Returns the pipe to a server, which reads lines of JSON.
pub fn pipe() -> impl Write + Send {
    io::stdout()
}

/// Prints `text` on stdout as it is: scripts and pages that are our own.
pub fn text(text: &[u8]) {
    let mut stdout = io::stdout().lock();
    printed(stdout.write_all(text).and_then(|()| stdout.flush()));
}

/// Writes everything that `from` has to stdout: a clip.
pub fn copy(mut from: impl io::Read) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    io::copy(&mut from, &mut stdout)?;
    stdout.flush()
}

/// Returns whether stdout is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Returns whether a question can be answered: it is seen, and stdin is somebody who types.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    printed(writeln!(stdout, "{text}").and_then(|()| stdout.flush()));
}

/// Keeps the error for the end: the run goes on, and its files are worth more than its line. A closed pipe
/// (`kinora models | head`) is none.
fn printed(result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = LOST.set(error);
    }
}

/// Ends the command: prints the error of its run, or that its result could not be printed.
pub fn finish(result: kinora::Result<()>) -> ExitCode {
    match (result, LOST.get()) {
        (Err(error), _) => {
            problem(&error.to_string(), hint(&error).as_deref());
            ExitCode::from(if error.is_stop() { signals::exit_code() } else { FAILURE })
        }
        (Ok(()), Some(error)) => {
            let hint = "free some space, or send the output elsewhere; files that were made are kept";
            problem(&format!("cannot write to standard output: {error}"), Some(hint));
            ExitCode::from(FAILURE)
        }
        (Ok(()), None) => ExitCode::SUCCESS,
    }
}

fn problem(what: &str, hint: Option<&str>) {
    say(&format!("error: {what}"));
    if let Some(hint) = hint {
        say("");
        say(&format!("hint: {hint}"));
    }
}

/// Prints the help or the version, or what is wrong with the command line.
pub fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        printed(error.print().and_then(|()| io::stdout().flush()));
        return finish(Ok(()));
    }
    words(error).lines().for_each(say);
    ExitCode::from(USAGE)
}

/// Returns clap's message in the form of our other errors, with words for those of the standard library.
pub fn words(error: &clap::Error) -> String {
    let whole = "it takes whole numbers from 0 on";
    [
        ("  tip: ", "hint: "),
        ("For more information, try", "hint: try"),
        ("invalid digit found in string", whole),
        ("cannot parse integer from empty string", whole),
        ("number too large to fit in target type", "it is too large"),
        ("number too small to fit in target type", "it is too small"),
        ("invalid float literal", "it takes numbers, such as 0.5"),
        ("cannot parse float from empty string", "it takes numbers, such as 0.5"),
    ]
    .iter()
    .fold(error.render().to_string(), |text, (from, to)| text.replace(from, to))
    .lines()
    .map(|line| if line.starts_with("hint: to pass '") { DASHES } else { line })
    .fold(String::new(), |text, line| text + line + "\n")
}

/// Instead of clap's advice, which takes a word apart into options of one letter.
const DASHES: &str =
    "hint: a prompt that begins with a dash goes behind `--` and the options, the value of an option behind `=`";

/// Says that there is no memory for `bytes` more, and ends the process: whatever asked for them cannot go on. Takes no
/// memory itself.
pub fn out_of_memory(bytes: usize) {
    let hint = "free some memory, or choose a smaller size or model; `kinora plan` prints how much is needed";
    let _ = write!(io::stderr().lock(), "error: out of memory: {bytes} bytes more are not there\n\nhint: {hint}\n");
    signals::exit_now(FAILURE);
}

/// Prints the message of a panic, which is a fault of ours.
pub fn panicked(panic: &std::panic::PanicHookInfo) {
    say(&format!("error: this is a fault in Kinora: {panic}"));
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        backtrace.to_string().lines().for_each(say);
    }
}

/// Formats seconds for people, such as `4.2 s`, `1:05 min`, `2:30 h` or `3.5 days`.
pub fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{}:{:02} min", whole / 60, whole % 60),
        3600..172_800 => format!("{}:{:02} h", whole / 3600, whole % 3600 / 60),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

/// Says how long a run will take.
pub fn time(time: &kinora::Estimate) -> String {
    format!("time: about {}, {time}", seconds(time.seconds))
}

/// Formats bytes for people, such as `1.2 GB`.
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "KB", "MB", "GB", "TB"];
    let power = (0..units.len()).rev().find(|p| bytes >= 1000u64.pow(*p as u32)).unwrap_or(0);
    if power == 0 {
        format!("{bytes} B")
    } else {
        format!("{:.1} {}", bytes as f64 / 1000f64.powi(power as i32), units[power])
    }
}

//! Prints errors and results: `error:` says what is wrong, `hint:` what to do.

use crate::signals;
use kinora::Error;
use std::process::ExitCode;

/// Exit status of an invalid command line.
const USAGE: u8 = 2;

/// Prints the error and its hint on stderr.
pub fn failure(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    if let Some(hint) = error.hint() {
        eprintln!();
        eprintln!("hint: {hint}");
    }
    if error.is_stop() { ExitCode::from(signals::exit_code()) } else { ExitCode::FAILURE }
}

/// Prints the help or the version, or what is wrong with the command line.
pub fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print(); // a closed pipe (`kinora --help | head`) is not an error
        return ExitCode::SUCCESS;
    }
    // clap's message, in the form of our other errors.
    let text = error.render().to_string().replace("  tip: ", "hint: ");
    eprint!("{}", text.replace("For more information, try", "hint: try"));
    ExitCode::from(USAGE)
}

/// Prints a line on stdout; a closed pipe (`kinora models | head`) is not an error.
pub fn line(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Formats seconds for people, such as `4.2 s` or `1:05 min`.
pub fn seconds(seconds: f64) -> String {
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{}:{:02} min", seconds as u64 / 60, seconds as u64 % 60)
    }
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

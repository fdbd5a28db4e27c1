//! The `kinora` command: parses the command line, calls the library and prints. It is built into two programs, `kinora`
//! and `kinora-cuda`.

mod args;
mod bar;
mod cache;
mod commands;
#[cfg(all(target_os = "linux", not(feature = "cuda")))]
mod cuda;
mod ffmpeg;
mod hints;
mod progress;
mod report;
mod settings;
mod shown;
mod signals;
mod terminal;
mod version;

use args::{Cli, Command};
use kinora::{LargeBlocks, OrElse};
use mimalloc::MiMalloc;
use settings::Settings;
use std::process::ExitCode;

/// Large tensors come from the system and go back to it, so that long clips do not fragment the memory.
#[global_allocator]
static ALLOCATOR: OrElse<LargeBlocks<MiMalloc>> = OrElse(LargeBlocks(MiMalloc), report::out_of_memory);

/// Runs the subcommand of the command line.
pub fn main() -> ExitCode {
    report_panics();
    signals::survive_limits();
    let cli = match command_line() {
        Ok(Ok(cli)) => cli,
        Ok(Err(error)) => return report::usage(&error),
        Err(error) => return report::finish(Err(error)),
    };
    #[cfg(all(target_os = "linux", not(feature = "cuda")))]
    if let Err(error) = cuda::hand_over(&cli.command) {
        return report::finish(Err(error));
    }
    let result = match &cli.command {
        Command::Generate(args) => commands::generate::run(args),
        Command::Plan(args) => commands::plan::run(args),
        Command::Extend(args) => commands::story::extend(args),
        Command::Story(args) => commands::story::run(args),
        Command::Suite(args) => commands::suite::run(args),
        Command::Decode(args) => commands::decode::run(args),
        Command::Encode(args) => commands::encode::run(args),
        Command::Bench(args) => commands::bench::run(args),
        Command::Inspect(args) => commands::inspect::run(args),
        Command::Models(args) => commands::models::run(args),
        Command::Pull(args) => commands::models::pull(args),
        Command::Show(args) => commands::show::run(args),
        Command::Rerun(args) => commands::generate::rerun(args),
        Command::Serve(args) => commands::serve::run(args),
        Command::Keys(args) => commands::keys::keys(args),
        Command::Hooks(args) => commands::keys::hooks(args),
        Command::Config(args) => commands::habits::config(args),
        Command::Completions(args) => {
            commands::habits::completions(args);
            Ok(())
        }
        Command::Man(args) => commands::habits::man(args),
        Command::Worker(args) => commands::serve::worker(args),
    };
    report::finish(result)
}

/// Parses the command line, with the settings in it.
fn command_line() -> kinora::Result<Result<Cli, clap::Error>> {
    let line: Vec<_> = std::env::args_os().collect();
    let given = match args::parse(&line) {
        Ok((cli, matches)) => (cli, matches),
        Err(error) => return Ok(Err(error)),
    };
    if matches!(given.0.command, Command::Config(_)) {
        return Ok(Ok(given.0)); // it shows settings that may be wrong
    }
    let settings = Settings::read()?;
    let line = settings.over(&line, &given.1);
    args::parse(&line).map(|(cli, _)| Ok(cli)).map_err(|error| settings.refused(&error))
}

/// A panic is told in our own words, and not at all where it becomes an error: a damaged tokenizer makes the tokenizers
/// library panic.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if !kinora::panic_is_contained() {
            report::panicked(panic);
        }
    }));
}

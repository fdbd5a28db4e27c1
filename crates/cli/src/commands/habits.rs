//! `kinora config`, `kinora completions` and `kinora man`.

use crate::args::{Cli, CompletionsArgs, ConfigArgs, ManArgs};
use crate::report;
use crate::settings::Settings;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use kinora::{Error, Result};

/// Prints the settings that hold.
pub fn config(args: &ConfigArgs) -> Result<()> {
    if args.path {
        if let Some(path) = Settings::place() {
            report::line(&path.display().to_string());
        }
        return Ok(());
    }
    Settings::read()?.print();
    Ok(())
}

/// Prints the completions of a shell.
pub fn completions(args: &CompletionsArgs) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kinora", &mut script);
    report::text(&script);
}

/// Writes the pages of the manual.
pub fn man(args: &ManArgs) -> Result<()> {
    let mut command = Cli::command();
    command.build();
    let Some(folder) = &args.folder else {
        report::text(&page(&command)?);
        return Ok(());
    };
    std::fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.clone(), source })?;
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    for command in shown.chain([&command]) {
        let name = command.get_bin_name().unwrap_or("kinora").replace(' ', "-");
        let path = folder.join(format!("{name}.1"));
        kinora_files::write(&path, page(command)?).map_err(|source| Error::Io { path, source })?;
    }
    Ok(())
}

fn page(command: &Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let rendered = Man::new(command.clone()).render(&mut page);
    rendered.map_err(|source| Error::Io { path: "the manual".into(), source })?;
    Ok(page)
}

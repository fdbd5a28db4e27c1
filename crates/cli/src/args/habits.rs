//! The options of commands for shells and settings.

use clap::Args;
use clap_complete::Shell;
use std::path::PathBuf;

/// `kinora config`.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// Print only the path of the file of settings.
    #[arg(long)]
    pub path: bool,
}

/// `kinora completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `kinora man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Write all pages, kinora.1, kinora-generate.1 and so on, into this folder [default: print the first one].
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

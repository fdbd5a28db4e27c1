//! Tells the program which commit it is built from, where that is known.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A crate that was unpacked somewhere has no history of its own, and must not name that of the folders around it.
    let has_history = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.git").exists();
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).filter(|_| has_history);
    if let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]).filter(|_| has_history)
    {
        println!("cargo:rerun-if-changed={log}");
    }
    println!("cargo:rustc-env=KINORA_COMMIT={}", commit.unwrap_or_default());
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_string())
}

//! Hands over to `kinora-cuda`, the program that computes on NVIDIA GPUs. It is linked to the CUDA libraries, so it
//! does not start without them. `kinora` becomes that program where `--device` asks for CUDA, or allows it and all
//! libraries are there.

mod library;

use crate::args::Command;
use kinora::{Error, Result};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::{env, process};

/// Environment variable with the path of another `kinora-cuda` than the one beside this program; an empty value means
/// none.
const BINARY: &str = "KINORA_CUDA_BINARY";
/// Environment variable that is set for `kinora-cuda`, so that one built without CUDA does not hand over to itself.
const HANDED_OVER: &str = "KINORA_HANDED_OVER";
/// The libraries that `kinora-cuda` is linked to, and the hint for each that is missing.
const LIBRARIES: &[(&str, &str)] = &[
    ("libcuda.so.1", DRIVER),
    ("libcudart.so.13", TOOLKIT),
    ("libcurand.so.10", TOOLKIT),
    ("libcublasLt.so.13", TOOLKIT),
    ("libcublas.so.13", TOOLKIT),
];
const DRIVER: &str = "install NVIDIA's driver, 580 or newer, or use --device cpu";
const TOOLKIT: &str = "install the runtime libraries of CUDA 13, or `pip install nvidia-cuda-runtime nvidia-cublas nvidia-curand` \
    and have their folders on LD_LIBRARY_PATH (see scripts/cuda/README.md)";

/// Becomes `kinora-cuda` if the command asks for CUDA, or leaves the choice and `kinora-cuda` can start. Returns only
/// if neither is the case.
///
/// # Errors
/// The command asks for CUDA, and `kinora-cuda` cannot be started.
pub fn hand_over(command: &Command) -> Result<()> {
    match device(command) {
        Some("auto") => {
            let _ = start(); // the CPU is always there
            Ok(())
        }
        Some(name) if name == "cuda" || name.starts_with("cuda:") => start(),
        _ => Ok(()),
    }
}

/// Returns the value of `--device`, or `None` for commands that do not compute.
fn device(command: &Command) -> Option<&str> {
    match command {
        Command::Generate(args) | Command::Plan(args) => Some(&args.model.compute.device),
        Command::Extend(args) => Some(&args.model.compute.device),
        Command::Story(args) => Some(&args.model.compute.device),
        Command::Suite(args) => Some(&args.compute.device),
        Command::Decode(args) => Some(&args.model.compute.device),
        Command::Encode(args) => Some(&args.model.compute.device),
        Command::Bench(args) => Some(&args.model.compute.device),
        Command::Rerun(args) => Some(&args.model.compute.device),
        Command::Worker(args) => Some(&args.compute.device),
        // A server computes nothing; its workers hand over.
        Command::Inspect(_)
        | Command::Models(_)
        | Command::Pull(_)
        | Command::Show(_)
        | Command::Serve(_)
        | Command::Keys(_)
        | Command::Hooks(_)
        | Command::Config(_)
        | Command::Completions(_)
        | Command::Man(_) => None,
    }
}

/// Becomes `kinora-cuda`; returns only with the reason why it cannot.
fn start() -> Result<()> {
    if env::var_os(HANDED_OVER).is_some() {
        return Err(error("this `kinora-cuda` was built without CUDA", BUILD));
    }
    let binary = binary()?;
    let cannot = |why: &dyn std::fmt::Display| format!("`{}` cannot start: {why}", binary.display());
    for (name, hint) in LIBRARIES {
        library::check(name).map_err(|why| error(cannot(&why), *hint))?;
    }
    // Nothing has been printed or opened yet, so replacing this process loses nothing.
    let why = process::Command::new(&binary).args(env::args_os().skip(1)).env(HANDED_OVER, "1").exec();
    Err(error(cannot(&why), "check that it is a program for this system, or use --device cpu"))
}

const BUILD: &str =
    "build it with `cargo build --release --features cuda --bin kinora-cuda` (see scripts/cuda/README.md)";

/// Returns the path of `kinora-cuda`.
fn binary() -> Result<PathBuf> {
    let named = env::var_os(BINARY).map(PathBuf::from);
    let beside = || env::current_exe().ok()?.parent().map(|folder| folder.join("kinora-cuda"));
    match named.or_else(beside) {
        Some(path) if path.is_file() => Ok(path),
        Some(path) if path != Path::new("") => {
            Err(missing(&format!("there is no `kinora-cuda` at `{}`", path.display())))
        }
        Some(_) => Err(missing(&format!("{BINARY} is empty"))),
        None => Err(missing("its own path is not known")),
    }
}

fn missing(what: &str) -> Error {
    let hint = format!("{BUILD}, put it beside `kinora` or name it in {BINARY}, or use --device cpu");
    error(format!("this program was built without CUDA, and {what}"), hint)
}

fn error(what: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::request(what, hint)
}

//! A `kinora` for another architecture, run by an emulator or on another machine, makes the clip that this one makes.
#![allow(clippy::print_stdout, reason = "what is skipped and the measured numbers are worth seeing")]

use kinora_tests::sandbox::Sandbox;
use kinora_tests::{CUDA_BINARY, Run, latents, relative_l2, video};
use std::process::Command;

/// The other program: a path, or a command that runs it, its words between spaces.
const VARIABLE: &str = "KINORA_FOREIGN";
/// Relative L2 error of f32 latents: sums in another order, step after step.
const LATENTS: f64 = 1e-5;

#[test]
fn another_architecture_makes_the_same_clip() {
    let Some(foreign) = std::env::var(VARIABLE).ok().filter(|command| !command.trim().is_empty()) else {
        println!("skipped: {VARIABLE} names no program for another architecture");
        return;
    };
    let sandbox = Sandbox::new("wan21_t2v");
    let arguments = |name: &'static str, latents: &'static str| {
        let embedded = ["--model", "embedded", "--width", "112", "--height", "64", "--steps", "4"];
        Sandbox::generate_arguments(&[&embedded[..], &["-o", name, "--save-latents", latents]].concat())
    };
    let own = sandbox.kinora(&arguments("own.safetensors", "own.latents.safetensors"));
    assert_eq!(own.status, Some(0), "{own:#?}");
    let mut words = foreign.split_whitespace();
    let mut command = Command::new(words.next().expect("not empty"));
    command.args(words).args(arguments("foreign.safetensors", "foreign.latents.safetensors"));
    let output = command.current_dir(sandbox.path("")).env(CUDA_BINARY, "").output();
    let run = Run::of(&output.unwrap_or_else(|error| panic!("{VARIABLE}, {foreign}: {error}")));
    assert_eq!(run.status, Some(0), "{run:#?}");
    let file = |name: &str| sandbox.path(name);
    let error = relative_l2(&latents(&file("foreign.latents.safetensors")), &latents(&file("own.latents.safetensors")));
    let frames = relative_l2(&video(&file("foreign.safetensors")), &video(&file("own.safetensors")));
    println!("latents {error:.1e}, frames {frames:.1e}");
    assert!(error <= LATENTS, "latents: relative L2 error {error:.2e}");
}

//! Compiles the CUDA sources where the feature `cuda` is on, for one compute capability: that of `CUDA_COMPUTE_CAP`
//! (such as 90), as candle does for its own, or that of the GPU of this machine.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const SOURCES: &str = "src/cuda/source";
const EVERYWHERE: [&str; 5] = ["attention", "conv", "elementwise", "linear", "stored"];
const HOPPER: [&str; 1] = ["attention_hopper"];

fn main() {
    println!("cargo:rerun-if-changed={SOURCES}");
    println!("cargo:rerun-if-env-changed=CUDA_COMPUTE_CAP");
    println!("cargo:rerun-if-env-changed=NVCC");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let capability = capability();
    let hopper = capability == "90";
    let target = if hopper { "90a".to_string() } else { capability.clone() };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR"));
    let compiler = env::var("NVCC").unwrap_or_else(|_| "nvcc".to_string());
    let names = EVERYWHERE.iter().chain(HOPPER.iter().filter(|_| hopper));
    let running: Vec<_> = names
        .map(|name| {
            let mut command = Command::new(&compiler);
            // What hastens a build of candle's kernels must not slow ours down.
            command.env_remove("NVCC_APPEND_FLAGS").args(["-std=c++17", "-O3", "-cubin"]);
            command.arg(format!("-gencode=arch=compute_{target},code=sm_{target}"));
            if hopper {
                command.arg("-DKINORA_HOPPER");
            }
            if let Ok(host) = env::var("NVCC_CCBIN") {
                command.args(["-ccbin", &host]);
            }
            command.arg("-o").arg(out.join(format!("{name}.cubin"))).arg(format!("{SOURCES}/{name}.cu"));
            let child = command.spawn();
            (
                name,
                child.unwrap_or_else(|error| panic!("{compiler} does not start: {error}; see scripts/cuda/README.md")),
            )
        })
        .collect();
    for (name, mut child) in running {
        let status = child.wait().expect("a child that was started");
        assert!(status.success(), "{compiler} failed on {name}.cu: {status}");
    }
    for name in HOPPER.iter().filter(|_| !hopper) {
        std::fs::write(out.join(format!("{name}.cubin")), []).expect("OUT_DIR is writable");
    }
    println!("cargo:rustc-env=KINORA_COMPUTE_CAPABILITY={capability}");
}

/// Major and minor version without a dot.
fn capability() -> String {
    if let Ok(capability) = env::var("CUDA_COMPUTE_CAP") {
        return capability.replace('.', "");
    }
    let query = Command::new("nvidia-smi").args(["--query-gpu=compute_cap", "--format=csv,noheader"]).output();
    let found = query.ok().and_then(|out| String::from_utf8(out.stdout).ok());
    let first = found.as_deref().and_then(|text| text.lines().next()).map(|line| line.trim().replace('.', ""));
    first.filter(|text| !text.is_empty()).expect("no GPU here: set CUDA_COMPUTE_CAP, such as 90 for a Hopper GPU")
}

//! Devices and threads by the names that the user gives.

use crate::{Error, Result};
use candle_core::Device;

/// The setting of errors about devices.
const DEVICE: &[&str] = &["device"];

/// The name of the level of vector instructions that this process computes with on the CPU, such as `avx2`.
pub fn cpu_level() -> &'static str {
    kinora_kernels::Level::current().name()
}

/// The devices that this build can compute on, as load options name them.
pub fn devices() -> Vec<&'static str> {
    let mut names = vec!["auto", "cpu"];
    if candle_core::utils::cuda_is_available() {
        names.extend(["cuda", "cuda:N"]);
    }
    if candle_core::utils::metal_is_available() {
        names.push("metal");
    }
    names
}

/// Opens `auto`, `cpu`, `cuda`, `cuda:N` or `metal`.
pub(crate) fn open(name: &str) -> Result<Device> {
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) => (kind, index.parse::<usize>().ok()),
        None => (name, Some(0)),
    };
    match (kind, index) {
        ("cpu", Some(0)) => Ok(Device::Cpu),
        ("auto", Some(0)) => best(),
        ("cuda", Some(index)) if candle_core::utils::cuda_is_available() => cuda(index),
        ("metal", Some(index)) if candle_core::utils::metal_is_available() => Ok(Device::new_metal(index)?),
        ("cuda" | "metal", Some(_)) => {
            Err(Error::request(format!("this build has no support for device `{name}`"), "use the CPU").about(DEVICE))
        }
        _ => Err(Error::request(format!("there is no device `{name}`"), format!("use {}", devices().join(" or ")))),
    }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device> {
    kinora_kernels::open_cuda(index).map_err(|error| {
        let hint = "see `nvidia-smi` for the GPUs of this machine, or use the CPU";
        Error::request(format!("CUDA device {index} cannot be used: {}", plain(&error)), hint).about(DEVICE)
    })
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Device> {
    Err(Error::request("this build has no support for CUDA", "use the CPU").about(DEVICE))
}

/// The driver's own words, without the name of its error type and a backtrace.
#[cfg(feature = "cuda")]
fn plain(error: &candle_core::Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    match first.split_once("DriverError(").and_then(|(_, rest)| rest.split_once(", \"")) {
        Some((_, message)) => message.trim_end_matches(['"', ')']).to_string(),
        None => first.to_string(),
    }
}

/// Whether this build's CUDA devices multiply 8-bit floating point numbers.
pub(crate) fn has_fp8() -> bool {
    #[cfg(feature = "cuda")]
    return kinora_kernels::cuda_built_for() >= (8, 9);
    #[cfg(not(feature = "cuda"))]
    false
}

/// The first GPU, where there is one, else the CPU.
///
/// # Errors
/// A GPU that this build is not for: the CPU would be a surprise.
fn best() -> Result<Device> {
    if candle_core::utils::cuda_is_available() && Device::new_cuda(0).is_ok() {
        return cuda(0);
    }
    let metal = candle_core::utils::metal_is_available().then(|| Device::new_metal(0).ok()).flatten();
    Ok(metal.unwrap_or(Device::Cpu))
}

/// A pool of `count` threads, or of one per core, of which slow ones do not count where there are fast ones.
pub(crate) fn threads(count: Option<usize>) -> Result<rayon::ThreadPool> {
    if let Some(count @ (0 | 1025..)) = count {
        return Err(Error::request(
            format!("{count} threads are not possible"),
            "use 1 to 1024, or leave it to the machine",
        )
        .about(&["threads"]));
    }
    // No more than the system lets run at once: a container may have fewer than the machine.
    let possible = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = kinora_kernels::performance_cores().map_or(possible, |cores| cores.min(possible));
    rayon::ThreadPoolBuilder::new()
        .num_threads(count.unwrap_or(cores))
        .build()
        .map_err(|error| Error::request(format!("threads cannot be started: {error}"), "try one").about(&["threads"]))
}

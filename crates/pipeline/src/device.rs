//! Devices and threads by what the user calls them.

use crate::{Error, Result};
use candle_core::Device;

/// The devices that this build can compute on, as `--device` takes them.
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
        ("auto", Some(0)) => Ok(best()),
        ("cuda", Some(index)) if candle_core::utils::cuda_is_available() => Ok(Device::new_cuda(index)?),
        ("metal", Some(index)) if candle_core::utils::metal_is_available() => Ok(Device::new_metal(index)?),
        ("cuda" | "metal", Some(_)) => {
            Err(Error::request(format!("this build has no support for device `{name}`"), "use --device cpu"))
        }
        _ => Err(Error::request(format!("there is no device `{name}`"), format!("use {}", devices().join(" or ")))),
    }
}

fn best() -> Device {
    let cuda = candle_core::utils::cuda_is_available().then(|| Device::new_cuda(0).ok()).flatten();
    let metal = || candle_core::utils::metal_is_available().then(|| Device::new_metal(0).ok()).flatten();
    cuda.or_else(metal).unwrap_or(Device::Cpu)
}

/// A pool of `count` threads, or of one per core.
pub(crate) fn threads(count: Option<usize>) -> Result<rayon::ThreadPool> {
    if let Some(count @ (0 | 1025..)) = count {
        return Err(Error::request(
            format!("{count} threads are not possible"),
            "use 1 to 1024, or leave --threads out",
        ));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(count.unwrap_or(0))
        .build()
        .map_err(|error| Error::request(format!("no threads: {error}"), "try --threads 1"))
}

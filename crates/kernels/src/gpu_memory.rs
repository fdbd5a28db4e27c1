//! What a GPU says of its memory; nothing where it says nothing: on the CPU, and in builds without CUDA.
#![cfg_attr(not(feature = "cuda"), allow(clippy::unnecessary_wraps, reason = "a GPU can fail to answer"))]

use candle_core::{Device, Result};

/// Bytes that are free.
pub fn gpu_free_bytes(device: &Device) -> Result<Option<u64>> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return crate::cuda::free_bytes(device).map(Some);
    }
    let _ = device;
    Ok(None)
}

/// The most bytes that tensors took at a time since [`gpu_reset_peak_bytes`].
pub fn gpu_peak_bytes(device: &Device) -> Result<Option<u64>> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return crate::cuda::peak_bytes(device).map(Some);
    }
    let _ = device;
    Ok(None)
}

/// Counts the peak from now on.
pub fn gpu_reset_peak_bytes(device: &Device) -> Result<Option<()>> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return crate::cuda::reset_peak_bytes(device).map(Some);
    }
    let _ = device;
    Ok(None)
}

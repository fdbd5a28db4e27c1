//! The memory of a GPU, as it reports it; `None` on other devices.

use crate::cuda;
use candle_core::{Device, Result};

/// Returns the bytes that are free.
pub fn gpu_free_bytes(device: &Device) -> Result<Option<u64>> {
    match device {
        Device::Cuda(device) => cuda::free_bytes(device).map(Some),
        _ => Ok(None),
    }
}

/// Returns the most bytes that tensors took at a time since [`gpu_reset_peak_bytes`].
pub fn gpu_peak_bytes(device: &Device) -> Result<Option<u64>> {
    match device {
        Device::Cuda(device) => cuda::peak_bytes(device).map(Some),
        _ => Ok(None),
    }
}

/// Counts the peak from now on.
pub fn gpu_reset_peak_bytes(device: &Device) -> Result<Option<()>> {
    match device {
        Device::Cuda(device) => cuda::reset_peak_bytes(device).map(Some),
        _ => Ok(None),
    }
}

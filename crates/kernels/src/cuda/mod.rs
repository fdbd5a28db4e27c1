//! CUDA versions, for tensors of f32, bf16 and f16 where not said otherwise; arithmetic and sums are f32.
//!
//! Every function returns `None` for operands that its kernel does not take, such as rows whose length is no multiple of
//! 8: the caller falls back to candle's own operations. Everything is queued in order on the device's one stream, and
//! nothing waits for it.
#![allow(unsafe_code)]

mod attention;
mod conv;
mod elementwise;
mod linear;
mod module;
mod replay;
mod upload;

pub use attention::{attention, attention_blocks, attention_fp8};
pub use conv::GpuConv;
pub use elementwise::{
    activate, channel_rms_norm, gate_heads, gate_residual, layer_norm, layer_norm_modulate, modulate, repeat_channels,
    rms_norm, rms_norm_modulate, rms_norm_rope, rms_norm_rope_split, rope,
};
pub use linear::{Quantisation, QuantisedWeight, StoredWeight, linear, linear_quantised, linear_stored};
pub use module::{built_for, free_bytes, open, peak_bytes, reset_peak_bytes};
pub use replay::Recorded;
pub use upload::{HostTensors, Uploader};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Result, Shape, Storage, StorageRef, Tensor, bail};
use half::{bf16, f16};

/// The CUDA device of `x`.
fn device_of(x: &Tensor) -> Result<&CudaDevice> {
    match x.device() {
        Device::Cuda(device) => Ok(device),
        device => bail!("expected a tensor on a CUDA device, not {:?}", device.location()),
    }
}

/// The name of a dtype in the sources.
fn suffix(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::F32 => Some("float"),
        DType::BF16 => Some("bf16"),
        DType::F16 => Some("half"),
        _ => None,
    }
}

/// A contiguous tensor's elements on the device, borrowed from its storage.
struct Operand<'a> {
    pointer: u64,
    /// Sizes of the first two axes, as far as there are any.
    shape: (usize, usize),
    _storage: StorageRef<'a>,
}

impl<'a> Operand<'a> {
    fn new(x: &'a Tensor) -> Result<Self> {
        let (storage, layout) = x.storage_and_layout();
        let Some((start, _)) = layout.contiguous_offsets() else { bail!("expected a contiguous tensor") };
        let size = |axis: usize| x.dims().get(axis).copied().unwrap_or(1);
        let shape = (size(0), size(1));
        let pointer = match &*storage {
            Storage::Cuda(storage) => pointer(storage)?,
            _ => bail!("expected a tensor on a CUDA device"),
        };
        Ok(Self { pointer: pointer + (start * x.dtype().size_in_bytes()) as u64, shape, _storage: storage })
    }

    /// The address where there is a tensor, otherwise null.
    fn optional(x: Option<&'a Tensor>) -> Result<Option<Self>> {
        x.map(Self::new).transpose()
    }
}

/// The address of an operand that may be absent.
fn address(operand: Option<&Operand>) -> u64 {
    operand.map_or(0, |operand| operand.pointer)
}

fn pointer(storage: &CudaStorage) -> Result<u64> {
    let stream = storage.device.cuda_stream();
    Ok(match storage.dtype() {
        DType::F32 => storage.as_cuda_slice::<f32>()?.device_ptr(&stream).0,
        DType::BF16 => storage.as_cuda_slice::<bf16>()?.device_ptr(&stream).0,
        DType::F16 => storage.as_cuda_slice::<f16>()?.device_ptr(&stream).0,
        DType::U8 => storage.as_cuda_slice::<u8>()?.device_ptr(&stream).0,
        DType::I32 => storage.as_cuda_slice::<i32>()?.device_ptr(&stream).0,
        DType::U32 => storage.as_cuda_slice::<u32>()?.device_ptr(&stream).0,
        dtype => bail!("no CUDA kernel for {dtype:?}"),
    })
}

/// A new tensor whose elements are yet to be written, all of them by the next kernels.
fn uninitialised(device: &CudaDevice, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
    let shape = shape.into();
    let count = shape.elem_count();
    // SAFETY: every caller launches a kernel that writes each element before anything reads it.
    let storage = unsafe {
        match dtype {
            DType::F32 => CudaStorage::wrap_cuda_slice(device.alloc::<f32>(count)?, device.clone()),
            DType::BF16 => CudaStorage::wrap_cuda_slice(device.alloc::<bf16>(count)?, device.clone()),
            DType::F16 => CudaStorage::wrap_cuda_slice(device.alloc::<f16>(count)?, device.clone()),
            DType::U8 => CudaStorage::wrap_cuda_slice(device.alloc::<u8>(count)?, device.clone()),
            DType::I32 => CudaStorage::wrap_cuda_slice(device.alloc::<i32>(count)?, device.clone()),
            dtype => bail!("no CUDA kernel for {dtype:?}"),
        }
    };
    Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
}

/// `x` as f32 and contiguous, as kernels read parameters.
fn parameter(x: &Tensor) -> Result<Tensor> {
    dense(&x.to_dtype(DType::F32)?)
}

/// `x`, contiguous and where kernels can read 16 bytes at a time.
fn dense(x: &Tensor) -> Result<Tensor> {
    let offset = x.layout().start_offset() * x.dtype().size_in_bytes();
    if x.is_contiguous() && offset.is_multiple_of(16) { Ok(x.clone()) } else { x.force_contiguous() }
}

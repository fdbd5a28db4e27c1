//! The twin of the module `cuda` in builds without CUDA: operators decline every operand, and no type can be made.
//!
//! Entry functions call one or the other by the same names, so that they need no conditional compilation.
#![allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "the signatures are those of `cuda`")]

use crate::{BlockMask, Epilogue, FrameConvOptions, Prologue, Repeat};
use candle_core::{CudaDevice, DType, Device, Error, Result, Tensor, bail};
use kinora_formats::Matrix;
use std::any::Any;
use std::convert::Infallible;

/// The operators that decline: each takes its operands and returns none.
macro_rules! declines {
    ($($name:ident($($operand:ty),*);)*) => {
        $(pub fn $name($(_: $operand),*) -> Result<Option<Tensor>> {
            Ok(None)
        })*
    };
}

declines! {
    activate(&Tensor, i32);
    attention(&Tensor, &Tensor, &Tensor, f64, Option<&Tensor>);
    attention_blocks(&Tensor, &Tensor, &Tensor, f64, &BlockMask);
    attention_fp8(&Tensor, &Tensor, &Tensor, f64, Option<&Tensor>);
    channel_rms_norm(&Tensor, &Tensor, bool);
    gate_heads(&Tensor, &Tensor);
    gate_residual(&Tensor, &Tensor, &Tensor);
    layer_norm(&Tensor, Option<&Tensor>, Option<&Tensor>, f64);
    layer_norm_modulate(&Tensor, &Tensor, &Tensor, f64);
    linear(&Tensor, &Tensor, Option<&Tensor>, Epilogue);
    modulate(&Tensor, &Tensor, &Tensor);
    repeat_channels(&Tensor, Repeat, usize);
    rms_norm(&Tensor, &Tensor, f64);
    rms_norm_modulate(&Tensor, Option<(&Tensor, &Tensor)>, f64);
    rms_norm_rope(&Tensor, &Tensor, f64, &Tensor, &Tensor);
    rms_norm_rope_split(&Tensor, &Tensor, f64, &Tensor, &Tensor);
    rope(&Tensor, &Tensor, &Tensor);
}

/// How operands are quantised to 8 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantisation {
    /// Floating point.
    E4m3,
    /// Whole numbers.
    Int8,
}

/// Quantised weights on a GPU.
pub struct QuantisedWeight(Infallible);

/// A quantised input on a GPU.
pub struct QuantisedRows(Infallible);

impl QuantisedWeight {
    pub fn new(_: &Tensor, _: Quantisation) -> Result<Option<Self>> {
        Ok(None)
    }

    pub fn stored(_: &Matrix, _: &Device) -> Result<Option<Self>> {
        Ok(None)
    }

    pub fn tensors(&self) -> Vec<Tensor> {
        match self.0 {}
    }

    pub fn quantisation(&self) -> Quantisation {
        match self.0 {}
    }

    pub fn quantises_after(_: &Tensor, _: Prologue) -> bool {
        false
    }

    pub fn quantise(&self, _: &Tensor, _: Prologue) -> Result<QuantisedRows> {
        match self.0 {}
    }
}

pub fn linear_quantised(
    _: &Tensor,
    rows: &QuantisedRows,
    _: &QuantisedWeight,
    _: Option<&Tensor>,
    _: Epilogue,
) -> Result<Tensor> {
    match rows.0 {}
}

/// A matrix on a GPU as its file stores it.
pub struct StoredWeight(Infallible);

impl StoredWeight {
    pub fn new(_: &Matrix, _: &Device) -> Result<Option<Self>> {
        Ok(None)
    }

    pub fn tensors(&self) -> Vec<Tensor> {
        match self.0 {}
    }

    pub fn form(&self) -> String {
        match self.0 {}
    }

    pub fn values(&self, _: DType) -> Result<Tensor> {
        match self.0 {}
    }
}

pub fn linear_stored(_: &Tensor, weight: &StoredWeight, _: Option<&Tensor>, _: Epilogue) -> Result<Option<Tensor>> {
    match weight.0 {}
}

/// A convolution on a GPU.
pub struct GpuConv(Infallible);

impl GpuConv {
    pub fn new(_: &Tensor, _: &Tensor, _: FrameConvOptions) -> Result<Option<Self>> {
        Ok(None)
    }

    pub fn forward(&self, _: &[Option<&Tensor>], _: Option<&Tensor>, _: [usize; 2]) -> Result<Tensor> {
        match self.0 {}
    }
}

/// A computation recorded as a CUDA graph.
pub struct Recorded(Infallible);

impl Recorded {
    pub fn new<E: From<Error>>(
        _: &[Tensor],
        _: &Tensor,
        _: Box<dyn Any + Send>,
        _: impl Fn(&[Tensor]) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Option<Self>, E> {
        Ok(None)
    }

    pub fn fits(&self, _: &[Tensor]) -> bool {
        match self.0 {}
    }

    pub fn replay(&self, _: &[Tensor]) -> Result<Tensor> {
        match self.0 {}
    }
}

/// Copies of tensors in host memory that a CUDA device reads by itself.
pub struct HostTensors(Infallible);

impl HostTensors {
    /// Copies `tensors` of a CUDA device into host memory.
    ///
    /// # Errors
    /// Always: there is no such device.
    pub fn new(device: &Device, _: &[Tensor]) -> Result<Self> {
        bail!("weights are streamed to CUDA devices only, not to {:?}", device.location())
    }
}

/// Sets of tensors of a CUDA device that take turns: while one is computed with, another is overwritten.
pub struct Uploader(Infallible);

impl Uploader {
    /// Takes sets of tensors on `device`.
    ///
    /// # Errors
    /// Always: there is no such device.
    pub fn new(device: &Device, _: Vec<Vec<Tensor>>) -> Result<Self> {
        bail!("weights are streamed to CUDA devices only, not to {:?}", device.location())
    }

    /// Queues a copy over set `slot`.
    pub fn begin(&self, _: usize, _: &HostTensors) -> Result<()> {
        match self.0 {}
    }

    /// Makes what is queued from now on wait for the copy over set `slot`.
    pub fn wait(&self, _: usize) -> Result<()> {
        match self.0 {}
    }

    /// Marks that everything that reads set `slot` is queued.
    pub fn release(&self, _: usize) -> Result<()> {
        match self.0 {}
    }
}

pub fn free_bytes(_: &CudaDevice) -> Result<u64> {
    Err(Error::NotCompiledWithCudaSupport)
}

pub fn peak_bytes(_: &CudaDevice) -> Result<u64> {
    Err(Error::NotCompiledWithCudaSupport)
}

pub fn reset_peak_bytes(_: &CudaDevice) -> Result<()> {
    Err(Error::NotCompiledWithCudaSupport)
}

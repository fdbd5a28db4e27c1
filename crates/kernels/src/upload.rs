//! What stands for [`HostTensors`] and [`Uploader`] in builds without CUDA: nothing of it can be made.
#![allow(clippy::unused_self, reason = "none of them is ever called")]

use candle_core::{Device, Result, Tensor, bail};
use std::convert::Infallible;

/// Copies of tensors in host memory that a CUDA device reads by itself.
pub struct HostTensors(Infallible);

/// Sets of tensors of a CUDA device that take turns: while one is computed with, another is overwritten.
pub struct Uploader(Infallible);

impl HostTensors {
    /// Of `tensors` on a CUDA device.
    ///
    /// # Errors
    /// Always: there is none.
    pub fn new(device: &Device, _: &[Tensor]) -> Result<Self> {
        bail!("weights wait in host memory for CUDA devices only, not {:?}", device.location())
    }
}

impl Uploader {
    /// Of sets of tensors on `device`.
    ///
    /// # Errors
    /// Always: there is no such device.
    pub fn new(device: &Device, _: Vec<Vec<Tensor>>) -> Result<Self> {
        bail!("weights wait in host memory for CUDA devices only, not {:?}", device.location())
    }

    /// Queues a copy over set `slot`.
    pub fn begin(&self, _: usize, _: &HostTensors) -> Result<()> {
        match self.0 {}
    }

    /// Makes what is queued from now on wait for the copy over set `slot`.
    pub fn wait(&self, _: usize) -> Result<()> {
        match self.0 {}
    }

    /// Says that all that reads set `slot` is queued.
    pub fn release(&self, _: usize) -> Result<()> {
        match self.0 {}
    }
}

//! Weights that are streamed: kept in host memory, and copied over tensors of a device while it computes.

use super::Operand;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, PinnedHostSlice, result};
use candle_core::{CudaDevice, Device, Result, Tensor, bail};
use std::ops::Range;
use std::sync::Arc;

/// Copies of tensors in host memory that the device reads by itself.
pub struct HostTensors {
    memory: PinnedHostSlice<u8>,
    parts: Vec<Range<usize>>,
}

impl HostTensors {
    /// Copies `tensors`, contiguous and on the CUDA device `device`, into host memory.
    ///
    /// # Errors
    /// Another device, or too little memory that can be kept from being paged out.
    pub fn new(device: &Device, tensors: &[Tensor]) -> Result<Self> {
        let stream = cuda(device)?.cuda_stream();
        let mut parts = Vec::with_capacity(tensors.len());
        let mut len = 0;
        for tensor in tensors {
            let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
            parts.push(len..len + bytes);
            len = (len + bytes).next_multiple_of(256);
        }
        // SAFETY: every part that is read later is written below.
        let mut memory = unsafe { stream.context().alloc_pinned::<u8>(len.max(1)) }.w()?;
        let bytes = memory.as_mut_slice().w()?;
        let copied = tensors.iter().zip(&parts).try_for_each(|(tensor, part)| {
            let tensor = Operand::new(tensor)?;
            // SAFETY: the tensor has as many bytes, and both outlive the copy, for which all wait below.
            unsafe { result::memcpy_dtoh_async(&mut bytes[part.clone()], tensor.pointer, stream.cu_stream()) }.w()
        });
        stream.synchronize().w()?;
        copied.map(|()| Self { memory, parts })
    }
}

/// Sets of tensors of a device, all of the same shapes, that take turns: while one is computed with, another is
/// overwritten.
pub struct Uploader {
    device: CudaDevice,
    copies: Arc<CudaStream>,
    slots: Vec<Slot>,
}

struct Slot {
    targets: Vec<Tensor>,
    /// Recorded when its last copy was queued, and when its last use was.
    copied: CudaEvent,
    used: CudaEvent,
}

impl Uploader {
    /// Takes sets of contiguous tensors on `device` that nobody else writes.
    ///
    /// # Errors
    /// Another device than a CUDA one.
    pub fn new(device: &Device, slots: Vec<Vec<Tensor>>) -> Result<Self> {
        let device = cuda(device)?.clone();
        let stream = device.cuda_stream();
        let copies = stream.context().new_stream().w()?;
        let event = || stream.context().new_event(None).w();
        let slot = |targets| Ok::<_, candle_core::Error>(Slot { targets, copied: event()?, used: event()? });
        let slots = slots.into_iter().map(slot).collect::<Result<_>>()?;
        Ok(Self { device, copies, slots })
    }

    /// Queues a copy of `from` over set `slot`, after what was queued with it before [`Uploader::release`].
    pub fn begin(&self, slot: usize, from: &HostTensors) -> Result<()> {
        let Slot { targets, copied, used } = &self.slots[slot];
        if targets.len() != from.parts.len() {
            bail!("{} tensors do not fit a set of {}", from.parts.len(), targets.len());
        }
        self.copies.wait(used).w()?;
        let bytes = from.memory.as_slice().w()?;
        for (target, part) in targets.iter().zip(&from.parts) {
            if target.elem_count() * target.dtype().size_in_bytes() != part.len() {
                bail!("{} bytes do not fit a tensor {:?}", part.len(), target.dims());
            }
            let target = Operand::new(target)?;
            // SAFETY: the target has as many bytes, is not read before `wait`, and the host's memory is not written
            // while `from`, whose drop waits for the device, exists.
            unsafe { result::memcpy_htod_async(target.pointer, &bytes[part.clone()], self.copies.cu_stream()) }.w()?;
        }
        copied.record(&self.copies).w()
    }

    /// Makes what is queued from now on wait for the copy over set `slot`.
    pub fn wait(&self, slot: usize) -> Result<()> {
        self.device.cuda_stream().wait(&self.slots[slot].copied).w()
    }

    /// Marks that everything that reads set `slot` is queued.
    pub fn release(&self, slot: usize) -> Result<()> {
        self.slots[slot].used.record(&self.device.cuda_stream()).w()
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        // Copies may be under way from memory, and to tensors, that go away next.
        let _ = self.copies.synchronize();
    }
}

fn cuda(device: &Device) -> Result<&CudaDevice> {
    match device {
        Device::Cuda(device) => Ok(device),
        device => bail!("weights are streamed to CUDA devices only, not to {:?}", device.location()),
    }
}

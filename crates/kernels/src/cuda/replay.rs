//! A computation recorded as a CUDA graph
//! (<https://docs.nvidia.com/cuda/cuda-programming-guide/04-special-topics/cuda-graphs.html>): its kernels are queued by one
//! call, whose cost does not depend on how many they are.

use super::{Operand, device_of, uninitialised};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUgraphInstantiate_flags, CUgraphNode, CUgraphNodeType, CUmemorytype, CUstreamCaptureMode, cuDeviceGraphMemTrim,
    cuGraphGetNodes, cuGraphMemcpyNodeGetParams, cuGraphNodeGetType,
};
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, DriverError, result};
use candle_core::{DType, Device, Result, Tensor};
use std::any::Any;
use std::mem::MaybeUninit;

/// A recorded computation, and all that its kernels read and write by address.
pub struct Recorded {
    /// Present until this is dropped.
    graph: Option<CudaGraph>,
    inputs: Vec<Tensor>,
    output: Tensor,
    _kept: Box<dyn Any + Send>,
}

// SAFETY: graphs may be used from any thread, by one at a time, and `Recorded` is not `Sync`.
unsafe impl Send for Recorded {}

impl Recorded {
    /// Records `compute` over `inputs`, contiguous tensors of one CUDA device. Just before, it returned `expected` without a
    /// recording, so that all it needs is loaded. Returns none if it is more than a sequence of kernels, or if the
    /// recording returns other bits.
    pub fn new<E: From<candle_core::Error>>(
        inputs: &[Tensor],
        expected: &Tensor,
        kept: Box<dyn Any + Send>,
        compute: impl Fn(&[Tensor]) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Option<Self>, E> {
        let own = |x: &Tensor| uninitialised(device_of(x)?, x.shape(), x.dtype());
        let owned: Vec<Tensor> = inputs.iter().map(own).collect::<Result<_>>()?;
        let output = own(expected)?;
        // A computation that cannot be recorded, or not for lack of memory, is no error: its result is there.
        let Ok(Some(graph)) = record(&owned, &output, compute) else { return Ok(None) };
        let recorded = Self { graph: Some(graph), inputs: owned, output, _kept: kept };
        let Ok(found) = recorded.replay(inputs) else { return Ok(None) };
        Ok(if bits(&found)? == bits(expected)? { Some(recorded) } else { None })
    }

    /// Whether `inputs` are of the shapes and dtypes that were recorded.
    pub fn fits(&self, inputs: &[Tensor]) -> bool {
        let same = |(x, own): (&Tensor, &Tensor)| x.shape() == own.shape() && x.dtype() == own.dtype();
        inputs.len() == self.inputs.len() && inputs.iter().zip(&self.inputs).all(same)
    }

    /// Returns the result for `inputs`, which [`Self::fits`].
    pub fn replay(&self, inputs: &[Tensor]) -> Result<Tensor> {
        inputs.iter().zip(&self.inputs).try_for_each(|(x, own)| copy(x, own))?;
        if let Some(graph) = &self.graph {
            graph.launch().w()?;
        }
        let out = uninitialised(device_of(&self.output)?, self.output.shape(), self.output.dtype())?;
        copy(&self.output, &out)?;
        Ok(out)
    }
}

impl Drop for Recorded {
    /// Frees the recording's memory, which the device would keep for the next launch.
    fn drop(&mut self) {
        let Ok(device) = device_of(&self.output) else { return };
        let stream = device.cuda_stream();
        let _ = stream.synchronize(); // a failure only delays the release
        drop(self.graph.take());
        // SAFETY: the device is open; what is in use stays.
        let _ = unsafe { cuDeviceGraphMemTrim(stream.context().cu_device()) };
    }
}

/// Records `compute(inputs)`, and that the result is copied to `output`.
fn record<E: From<candle_core::Error>>(
    inputs: &[Tensor],
    output: &Tensor,
    compute: impl Fn(&[Tensor]) -> std::result::Result<Tensor, E>,
) -> std::result::Result<Option<CudaGraph>, E> {
    let stream = device_of(output)?.cuda_stream();
    // Other threads may use streams of their own meanwhile.
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).w()?;
    let computed = compute(inputs).and_then(|result| copy(&result, output).map_err(E::from));
    // Memory that a failed recording allocated cannot be freed. That error is taken here, because `end_capture` would
    // return it and leave the stream in capture.
    let freed = stream.context().check_err();
    let graph = stream.end_capture(CUgraphInstantiate_flags(0));
    computed?;
    freed.w()?;
    Ok(match graph.w()? {
        Some(graph) if repeatable(&graph).w()? => Some(graph),
        _ => None,
    })
}

/// Whether launching `graph` repeats all of it: copies from host memory do not, which is gone by then.
fn repeatable(graph: &CudaGraph) -> std::result::Result<bool, DriverError> {
    use CUgraphNodeType::{
        CU_GRAPH_NODE_TYPE_EMPTY as EMPTY, CU_GRAPH_NODE_TYPE_KERNEL as KERNEL, CU_GRAPH_NODE_TYPE_MEM_ALLOC as ALLOC,
        CU_GRAPH_NODE_TYPE_MEM_FREE as FREE, CU_GRAPH_NODE_TYPE_MEMCPY as MEMCPY, CU_GRAPH_NODE_TYPE_MEMSET as MEMSET,
    };
    for node in nodes(graph)? {
        let mut kind = MaybeUninit::uninit();
        // SAFETY: a node of a graph that exists, and a place for its type.
        let kind = unsafe {
            cuGraphNodeGetType(node, kind.as_mut_ptr()).result()?;
            kind.assume_init()
        };
        let repeats = match kind {
            KERNEL | MEMSET | ALLOC | FREE | EMPTY => true,
            MEMCPY => {
                let mut copy = MaybeUninit::zeroed();
                // SAFETY: as above, for the parameters of a copy.
                let copy = unsafe {
                    cuGraphMemcpyNodeGetParams(node, copy.as_mut_ptr()).result()?;
                    copy.assume_init()
                };
                let device = CUmemorytype::CU_MEMORYTYPE_DEVICE;
                copy.srcMemoryType == device && copy.dstMemoryType == device
            }
            _ => false,
        };
        if !repeats {
            return Ok(false);
        }
    }
    Ok(true)
}

fn nodes(graph: &CudaGraph) -> std::result::Result<Vec<CUgraphNode>, DriverError> {
    let mut count = 0;
    // SAFETY: a graph that exists; without a place for nodes, they are counted.
    unsafe { cuGraphGetNodes(graph.cu_graph(), std::ptr::null_mut(), &raw mut count) }.result()?;
    let mut nodes = vec![std::ptr::null_mut(); count];
    // SAFETY: there is a place for as many nodes as there are.
    unsafe { cuGraphGetNodes(graph.cu_graph(), nodes.as_mut_ptr(), &raw mut count) }.result()?;
    Ok(nodes)
}

/// Queues a copy over a tensor of the same size that nobody else reads.
fn copy(from: &Tensor, to: &Tensor) -> Result<()> {
    let stream = device_of(to)?.cuda_stream();
    let bytes = to.elem_count() * to.dtype().size_in_bytes();
    let (from, to) = (Operand::new(from)?, Operand::new(to)?);
    // SAFETY: both have as many bytes, and are freed in the order of the stream.
    unsafe { result::memcpy_dtod_async(to.pointer, from.pointer, bytes, stream.cu_stream()) }.w()
}

fn bits(x: &Tensor) -> Result<Vec<u32>> {
    let values = x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().map(f32::to_bits).collect())
}

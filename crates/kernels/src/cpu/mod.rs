//! CPU versions: tiled over fixed block sizes and spread over rayon's current pool.
//!
//! The partition of the work depends on shapes alone, so results have the same bits for every number of threads.
//! Arithmetic is f32 whatever the dtype of the tensors. [`pulp`] compiles the inner loops for the vector instructions
//! found at run time; they use no fused multiply-add, so the elementwise operators and norms have the same bits on
//! every machine (those made of matrix products do not).
// Functions that are not inlined into pulp's dispatch would be compiled for the oldest machine instead of this one.
#![allow(clippy::inline_always)]

mod attention;
mod conv;
mod element;
mod elementwise;
mod fetch;
mod linear;
mod math;
mod norm;
mod pairs;
mod rope;
mod rows;
mod shared;
mod snake;
mod tasks;
mod tile;

pub use attention::{
    PART, PARTS, attention, attention_blocks, attention_int8, attention_int8_blocks, block_shares, part_len,
};
pub use conv::PackedConv;
pub use elementwise::{gate_heads, gate_residual, gelu_tanh, leaky_relu, modulate, parameter_free_attention, silu};
pub use linear::{Beside, Packed, int8_products, linear};
pub use norm::{channel_rms_norm, layer_norm, layer_norm_modulate, rms_norm, rms_norm_modulate, rms_norm_silu};
pub use rope::{rms_norm_rope, rms_norm_rope_split, rope};
pub use snake::snake;

use crate::Level;
use crate::level::vectorised;
use candle_core::{DType, Device, Result, Storage, StorageRef, Tensor, WithDType, bail};
use element::Element;
use rayon::prelude::*;
use std::ops::Range;

/// Elements that one task of an elementwise operator takes.
const CHUNK: usize = 1 << 14;

/// Whether the functions of this module take `x`.
pub fn supports(x: &Tensor) -> bool {
    x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::BF16 | DType::F16)
}

/// Whether products of such a dtype are of bf16, because this machine does them faster than those of f32.
pub fn multiplies_bf16(dtype: DType) -> bool {
    dtype == DType::BF16 && pairs::fast()
}

/// What multiplies f32, in words.
pub fn f32_products() -> &'static str {
    match Level::current() {
        Level::Portable => "what the compiler makes for every machine",
        Level::Avx2 | Level::AvxVnni => "FMA in 256 bits",
        Level::Avx512 => "FMA in 512 bits",
        Level::Neon | Level::Dotprod | Level::I8mm => "FMA of NEON",
    }
}

/// What multiplies bf16, in words.
pub fn bf16_products() -> &'static str {
    if multiplies_bf16(DType::BF16) { "dot products of pairs" } else { "widened to f32" }
}

/// Calls `$f::<T>($args)` with `T` the element type of `$dtype`.
macro_rules! by_dtype {
    ($dtype:expr, $f:ident($($arg:expr),*)) => {
        match $dtype {
            candle_core::DType::F32 => $f::<f32>($($arg),*),
            candle_core::DType::BF16 => $f::<half::bf16>($($arg),*),
            candle_core::DType::F16 => $f::<half::f16>($($arg),*),
            dtype => candle_core::bail!("no CPU kernel for {dtype:?}"),
        }
    };
}
use by_dtype;

/// The elements of a contiguous tensor, borrowed from its storage.
struct Operand<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> Operand<'a> {
    fn new(x: &'a Tensor) -> Result<Self> {
        let (storage, layout) = x.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("expected a contiguous tensor") };
        Ok(Self { storage, range: start..end })
    }

    /// Borrows from the first element of a tensor of any strides to its last.
    fn strided(x: &'a Tensor) -> Self {
        let (storage, layout) = x.storage_and_layout();
        let reach = |(&len, &stride): (&usize, &usize)| len.saturating_sub(1) * stride;
        let last: usize = layout.dims().iter().zip(layout.stride()).map(reach).sum();
        let len = if x.elem_count() == 0 { 0 } else { last + 1 };
        Self { storage, range: layout.start_offset()..layout.start_offset() + len }
    }

    fn slice<T: WithDType>(&self) -> Result<&[T]> {
        match &*self.storage {
            Storage::Cpu(storage) => Ok(&storage.as_slice::<T>()?[self.range.clone()]),
            _ => bail!("expected a tensor on the CPU"),
        }
    }
}

/// Returns the elements of `x` as f32, in order; copies only if `x` is not f32 and contiguous already.
fn to_f32(x: &Tensor) -> Result<Tensor> {
    fn typed<T: Element>(x: &Tensor) -> Result<Tensor> {
        let x = x.contiguous()?;
        let operand = Operand::new(&x)?;
        let mut out = vec![0f32; x.elem_count()];
        widen(operand.slice::<T>()?, &mut out);
        Tensor::from_vec(out, x.dims(), &Device::Cpu)
    }
    match x.dtype() {
        DType::F32 => x.contiguous(),
        dtype => by_dtype!(dtype, typed(x)),
    }
}

/// `x`, which is f32 and contiguous, in another dtype.
fn from_f32(x: &Tensor, dtype: DType) -> Result<Tensor> {
    fn typed<T: Element>(x: &Tensor) -> Result<Tensor> {
        let operand = Operand::new(x)?;
        let x_data = operand.slice::<f32>()?;
        let mut out = vec![T::zero(); x_data.len()];
        let chunks = out.par_chunks_mut(CHUNK).zip(x_data.par_chunks(CHUNK));
        chunks.for_each(|(out, x)| vectorised(|| T::round_from(x, out)));
        Tensor::from_vec(out, x.dims(), &Device::Cpu)
    }
    match dtype {
        DType::F32 => Ok(x.clone()),
        dtype => by_dtype!(dtype, typed(x)),
    }
}

/// Copies `x` to `out`, of the same length, as f32.
fn widen<T: Element>(x: &[T], out: &mut [f32]) {
    let chunks = out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK));
    chunks.for_each(|(out, x)| vectorised(|| T::widen(x, out)));
}

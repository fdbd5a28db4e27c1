//! [`map_rows`]: the loop of all operators that work row by row.
#![allow(unsafe_code)]

use super::element::Element;
use super::shared::zeroed;
use super::{CHUNK, Operand};
use crate::level::vectorised;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// Applies `f(row, x, out)` to every row of `width` elements of `x` (the last may be shorter); `out` starts as
/// zeros or arbitrary values.
///
/// `f` must be `#[inline(always)]`, or it is not compiled for the vector instructions found at run time.
pub(super) fn map_rows<T: Element>(
    x: &Tensor,
    width: usize,
    f: impl Fn(usize, &[f32], &mut [f32]) + Sync,
) -> Result<Tensor> {
    let x = x.contiguous()?;
    let operand = Operand::new(&x)?;
    let len = x.elem_count();
    let mut out = Vec::with_capacity(len);
    let width = width.max(1);
    let rows = (CHUNK / width).max(1);
    let blocks = out.spare_capacity_mut()[..len].par_chunks_mut(rows * width);
    let blocks = blocks.zip(operand.slice::<T>()?.par_chunks(rows * width));
    blocks.enumerate().for_each_init(
        || (Vec::new(), Vec::new()),
        |(x_scratch, out_scratch), (block, (out, x))| {
            vectorised(
                #[inline(always)]
                || {
                    for (i, (out, x)) in out.chunks_mut(width).zip(x.chunks(width)).enumerate() {
                        let x = T::as_f32(x, x_scratch);
                        T::write_f32(
                            zeroed(out),
                            out_scratch,
                            #[inline(always)]
                            |out| f(block * rows + i, x, out),
                        );
                    }
                },
            );
        },
    );
    // SAFETY: the blocks cover every element.
    unsafe { out.set_len(len) };
    Tensor::from_vec(out, x.dims(), &Device::Cpu)
}

/// An operand `[1|B, 1|L, C]` over the rows of `x [B, L, C]`.
pub(super) struct Broadcast<'a> {
    data: &'a [f32],
    width: usize,
    /// The number of successive rows of `x` that share one row of the operand.
    repeat: usize,
}

impl<'a> Broadcast<'a> {
    /// `data` holds the elements of `operand`.
    pub fn new(data: &'a [f32], operand: &Tensor, x: &Tensor) -> Result<Self> {
        let (_, tokens, width) = x.dims3()?;
        let repeat = if operand.dim(1)? == tokens { 1 } else { tokens };
        Ok(Self { data, width, repeat })
    }

    #[inline(always)]
    pub fn row(&self, row: usize) -> &'a [f32] {
        let start = row / self.repeat * self.width % self.data.len();
        &self.data[start..start + self.width]
    }
}

//! The mean of every block of tokens, from which blocks are chosen.

use super::inputs::{Strided, whole_heads};
use crate::BLOCK;
use crate::cpu::element::Element;
use crate::cpu::{Operand, by_dtype};
use crate::level::vectorised;
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// `x [B, L, N, D]` → the mean of each block of tokens, `[B, N, ⌈L / BLOCK⌉, D]`.
pub fn block_means(x: &Tensor) -> Result<Vec<f32>> {
    by_dtype!(x.dtype(), typed(x))
}

fn typed<T: Element>(x: &Tensor) -> Result<Vec<f32>> {
    let (batch, tokens, heads, dim) = x.dims4()?;
    let x = whole_heads(x)?;
    let data = Operand::strided(&x);
    let x = Strided::<T>::new(&x, &data)?;
    let blocks = tokens.div_ceil(BLOCK);
    let mut means = vec![0f32; batch * heads * blocks * dim];
    let tasks = means.par_chunks_mut(dim.max(1)).enumerate();
    tasks.for_each_init(Vec::new, |row, (task, mean)| {
        let (head, first) = (task / blocks, task % blocks * BLOCK);
        let last = tokens.min(first + BLOCK);
        vectorised(
            #[inline(always)]
            || {
                for token in first..last {
                    let row = T::as_f32(x.row(head, token), row);
                    mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                }
                for mean in mean.iter_mut() {
                    *mean /= (last - first) as f32;
                }
            },
        );
    });
    Ok(means)
}

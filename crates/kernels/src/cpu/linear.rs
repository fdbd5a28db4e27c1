//! [`linear`]: one parallel matrix product; weights that are not f32 are widened some outputs at a time.
#![allow(unsafe_code)]

use super::element::Element;
use super::gemm::{Matrix, MatrixMut, Parallelism, multiply_add};
use super::shared::SharedMut;
use super::{Operand, by_dtype, from_f32, to_f32, widen};
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// Weights that are widened to f32 at a time: 16 MiB of them.
const WIDENED: usize = 1 << 22;

/// See [`crate::linear`]; shapes are checked there.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    by_dtype!(x.dtype(), typed(x, weight, bias))
}

fn typed<T: Element>(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let (rows, dtype) = (x.elem_count() / inputs, x.dtype());
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let (x, weight) = (to_f32(x)?, weight.contiguous()?);
    let (x, weight) = (Operand::new(&x)?, Operand::new(&weight)?);
    let (x, weight) = (x.slice::<f32>()?, weight.slice::<T>()?);
    let mut out = vec![0f32; rows * outputs];
    if let Some(bias) = bias {
        let bias = to_f32(bias)?;
        let bias = Operand::new(&bias)?;
        let bias = bias.slice::<f32>()?;
        out.par_chunks_mut(outputs.max(1)).for_each(|out| out.copy_from_slice(bias));
    }
    let mut add = |weight: &[f32], columns: Range<usize>| {
        let x = Matrix { data: x, row: inputs, column: 1 };
        let weight = Matrix { data: weight, row: 1, column: inputs };
        let out = SharedMut::new(&mut out);
        let out = MatrixMut { data: &out, offset: columns.start, row: outputs, column: 1 };
        // SAFETY: `out` is borrowed here alone.
        unsafe { multiply_add([rows, columns.len(), inputs], out, x, weight, Parallelism::Rayon(0)) };
    };
    if let Some(weight) = T::borrow_f32(weight) {
        add(weight, 0..outputs);
    } else {
        let mut widened = Vec::new();
        let step = (WIDENED / inputs).max(1);
        for (block, weight) in weight.chunks(step * inputs).enumerate() {
            widened.resize(weight.len(), 0.0);
            widen(weight, &mut widened);
            add(&widened, block * step..block * step + weight.len() / inputs);
        }
    }
    from_f32(&Tensor::from_vec(out, shape, &Device::Cpu)?, dtype)
}

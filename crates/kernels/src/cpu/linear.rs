//! [`linear`]: tiles of rows × outputs.
#![allow(unsafe_code)]

use super::element::Element;
use super::gemm::{Matrix, MatrixMut, multiply_add};
use super::shared::SharedMut;
use super::{Operand, by_dtype, to_f32};
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// Rows of `x` and outputs that one task takes: enough that packing the weights costs little.
const ROWS: usize = 512;
const OUTPUTS: usize = 256;
/// Inputs that are widened to f32 at a time.
const INPUTS: usize = 512;

/// See [`crate::linear`]; shapes are checked there.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    by_dtype!(x.dtype(), typed(x, weight, bias))
}

fn typed<T: Element>(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let rows = x.elem_count() / inputs;
    let (x, weight) = (to_f32(x)?, weight.contiguous()?);
    let bias = bias.map(to_f32).transpose()?;
    let (x, weight) = (Operand::new(&x)?, Operand::new(&weight)?);
    let bias = bias.as_ref().map(Operand::new).transpose()?;
    let bias = bias.as_ref().map(Operand::slice::<f32>).transpose()?;
    let product = Product { x: x.slice()?, weight: weight.slice::<T>()?, bias, rows, inputs, outputs };
    Tensor::from_vec(product.compute(), shape, &Device::Cpu)
}

struct Product<'a, T> {
    x: &'a [f32],
    weight: &'a [T],
    bias: Option<&'a [f32]>,
    rows: usize,
    inputs: usize,
    outputs: usize,
}

/// What a task needs besides: its tile of the result and of the weights.
#[derive(Default)]
struct Scratch {
    sums: Vec<f32>,
    weight: Vec<f32>,
}

impl<T: Element> Product<'_, T> {
    fn compute(&self) -> Vec<T> {
        let mut out = vec![T::zero(); self.rows * self.outputs];
        let shared = SharedMut::new(&mut out);
        let (row_tiles, output_tiles) = (self.rows.div_ceil(ROWS), self.outputs.div_ceil(OUTPUTS));
        // Neighbouring tasks share their block of weights.
        (0..row_tiles * output_tiles).into_par_iter().for_each_init(Scratch::default, |scratch, tile| {
            let (row, output) = (tile % row_tiles * ROWS, tile / row_tiles * OUTPUTS);
            let rows = row..self.rows.min(row + ROWS);
            let outputs = output..self.outputs.min(output + OUTPUTS);
            self.sums(rows.clone(), outputs.clone(), scratch);
            for (row, sums) in rows.zip(scratch.sums.chunks(outputs.len())) {
                let start = row * self.outputs;
                // SAFETY: the tiles do not overlap.
                let out = unsafe { shared.part(start + outputs.start..start + outputs.end) };
                T::narrow(sums, out);
            }
        });
        out
    }

    /// Computes one tile of the result, `[rows, outputs]`, into `scratch.sums`.
    fn sums(&self, rows: Range<usize>, outputs: Range<usize>, scratch: &mut Scratch) {
        let width = outputs.len();
        scratch.sums.clear();
        match self.bias {
            Some(bias) => rows.clone().for_each(|_| scratch.sums.extend_from_slice(&bias[outputs.clone()])),
            None => scratch.sums.resize(rows.len() * width, 0.0),
        }
        for input in (0..self.inputs).step_by(INPUTS) {
            let depth = INPUTS.min(self.inputs - input);
            let x = Matrix { data: &self.x[rows.start * self.inputs + input..], row: self.inputs, column: 1 };
            let weight = self.weights(outputs.clone(), input..input + depth, &mut scratch.weight);
            let sums = SharedMut::new(&mut scratch.sums);
            let out = MatrixMut { data: &sums, offset: 0, row: width, column: 1 };
            // SAFETY: `sums` is this task's own.
            unsafe { multiply_add(rows.len(), width, depth, out, x, weight) };
        }
    }

    /// A block of the transposed weights, `[inputs, outputs]`: a view where they are f32, else widened into `scratch`.
    fn weights<'a>(&'a self, outputs: Range<usize>, inputs: Range<usize>, scratch: &'a mut Vec<f32>) -> Matrix<'a> {
        let depth = inputs.len();
        if let Some(weight) = T::borrow_f32(self.weight) {
            return Matrix { data: &weight[outputs.start * self.inputs + inputs.start..], row: 1, column: self.inputs };
        }
        scratch.resize(outputs.len() * depth, 0.0);
        for (output, scratch) in outputs.zip(scratch.chunks_mut(depth)) {
            let start = output * self.inputs;
            T::widen(&self.weight[start + inputs.start..start + inputs.end], scratch);
        }
        Matrix { data: scratch, row: 1, column: depth }
    }
}

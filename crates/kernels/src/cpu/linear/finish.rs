//! [`Finish`]: what happens to a product before it is written: bias, epilogue, rounding to the result's dtype.
#![allow(unsafe_code)]

use super::super::element::Element;
use super::super::math;
use super::super::rows::Broadcast;
use super::super::shared::SharedMut;
use super::super::tile::COLUMNS;
use super::grid::Block;
use std::mem::MaybeUninit;

/// What is done to the rows `[N]` of a product.
pub(super) struct Finish<'a, T> {
    pub outputs: usize,
    pub bias: Option<&'a [f32]>,
    pub then: Then<'a, T>,
}

/// An [`Epilogue`](crate::Epilogue) over the elements of its tensors.
pub(super) enum Then<'a, T> {
    Nothing,
    GeluTanh,
    Silu,
    Product(&'a [T]),
    Residual(&'a [T]),
    GatedResidual(&'a [T], Broadcast<'a>),
}

impl<T: Element> Finish<'_, T> {
    /// Writes one block of the result; `sums(row, panel)` are the products of a row of the block and a panel of it.
    ///
    /// # Safety
    /// Nobody else writes this block.
    #[inline(always)]
    pub unsafe fn write(
        &self,
        block: &Block,
        sums: impl Fn(usize, usize) -> [f32; COLUMNS],
        out: &SharedMut<MaybeUninit<T>>,
    ) {
        for (i, row) in block.rows.clone().enumerate() {
            for (j, panel) in block.panels.clone().enumerate() {
                let columns = panel * COLUMNS..self.outputs.min((panel + 1) * COLUMNS);
                let y = self.finish(row, columns.start, columns.len(), sums(i, j));
                let mut narrow = [T::zero(); COLUMNS];
                T::narrow(&y, &mut narrow);
                let start = row * self.outputs;
                // SAFETY: within the block, which is the caller's own.
                let out = unsafe { out.part(start + columns.start..start + columns.end) };
                out.write_copy_of_slice(&narrow[..columns.len()]);
            }
        }
    }

    #[inline(always)]
    fn finish(&self, row: usize, first: usize, len: usize, mut y: [f32; COLUMNS]) -> [f32; COLUMNS] {
        if let Some(bias) = self.bias {
            each(&mut y, &padded(&bias[first..first + len]), |y, bias| y + bias);
        }
        let start = row * self.outputs + first;
        match &self.then {
            Then::Nothing => {}
            Then::GeluTanh => y = y.map(math::gelu_tanh),
            Then::Silu => y = y.map(math::silu),
            Then::Product(other) => each(&mut y, &padded(&other[start..start + len]), |y, other| y * other),
            Then::Residual(x) => each(&mut y, &padded(&x[start..start + len]), |y, x| x + y),
            Then::GatedResidual(x, gate) => {
                each(&mut y, &padded(&gate.row(row)[first..first + len]), |y, gate| y * gate);
                each(&mut y, &padded(&x[start..start + len]), |y, x| x + y);
            }
        }
        y
    }
}

#[inline(always)]
fn each(y: &mut [f32; COLUMNS], operand: &[f32; COLUMNS], f: impl Fn(f32, f32) -> f32) {
    for (y, &operand) in y.iter_mut().zip(operand) {
        *y = f(*y, operand);
    }
}

/// Up to 32 elements, with zeros after them.
#[inline(always)]
fn padded<T: Element>(x: &[T]) -> [f32; COLUMNS] {
    let mut wide = [0f32; COLUMNS];
    match x.first_chunk::<COLUMNS>() {
        Some(all) => T::widen(all, &mut wide),
        None => T::widen(x, &mut wide[..x.len()]),
    }
    wide
}

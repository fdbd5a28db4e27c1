//! [`Finish`]: what is added to a product, its bias and epilogue, and its rounding to the result's dtype.
#![allow(unsafe_code)]

use super::super::element::Element;
use super::super::math;
use super::super::rows::Broadcast;
use super::super::shared::SharedMut;
use super::super::tile::{self, COLUMNS};
use super::grid::Block;
use super::line::Line;
use crate::Level;
use crate::level::vectorised;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;

/// What is added to the rows `[N]` of a product, and their epilogue.
pub(super) struct Finish<'a, T> {
    pub outputs: usize,
    pub sides: Vec<Box<dyn Side + 'a>>,
    pub bias: Option<&'a [f32]>,
    pub then: Then<'a, T>,
}

/// A product beside another one of the same rows and outputs, which is added to it.
pub(super) trait Side: Send + Sync {
    /// Writes the products of some rows and one panel to `sums`, a line for each row, or adds them.
    fn multiply(&self, level: Level, rows: Range<usize>, panel: usize, sums: &mut [Line<f32>], accumulate: bool);
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
    /// The result of `rows` rows, all of whose blocks `write_all` writes.
    pub fn collect(&self, rows: usize, write_all: impl FnOnce(&SharedMut<MaybeUninit<T>>)) -> Vec<T> {
        let mut out = Vec::with_capacity(rows * self.outputs);
        write_all(&SharedMut::new(&mut out.spare_capacity_mut()[..rows * self.outputs]));
        // SAFETY: the blocks of a grid cover every element.
        unsafe { out.set_len(rows * self.outputs) };
        out
    }

    /// Writes one block of the result.
    ///
    /// # Safety
    /// Nobody else writes this block.
    pub unsafe fn write(&self, block: &Block, products: &impl Products, out: &SharedMut<MaybeUninit<T>>) {
        thread_local! {
            static SUMS: RefCell<Vec<Line<f32>>> = RefCell::default();
        }
        if self.sides.is_empty() {
            // SAFETY: the caller's block.
            return unsafe { self.write_rows(block, block.rows.clone(), products, out) };
        }
        // As many rows at a time as a tile has: what the sides make of them stays in the L1 cache.
        let (level, height) = (Level::current(), tile::rows(Level::current()));
        SUMS.with_borrow_mut(|sums| {
            sums.resize(block.panels.len() * height, Line([0.0; COLUMNS]));
            for first in block.rows.clone().step_by(height) {
                let rows = first..block.rows.end.min(first + height);
                for (panel, sums) in block.panels.clone().zip(sums.chunks_exact_mut(height)) {
                    for (i, side) in self.sides.iter().enumerate() {
                        side.multiply(level, rows.clone(), panel, sums, i > 0);
                    }
                }
                let sides = Sums { sums, height };
                let products = WithSides { products, sides, first: first - block.rows.start };
                // SAFETY: rows of the caller's block.
                unsafe { self.write_rows(block, rows, &products, out) };
            }
        });
    }

    /// Writes some rows of a block.
    ///
    /// # Safety
    /// Nobody else writes them.
    unsafe fn write_rows(
        &self,
        block: &Block,
        rows: Range<usize>,
        products: &impl Products,
        out: &SharedMut<MaybeUninit<T>>,
    ) {
        vectorised(
            #[inline(always)]
            || {
                for row in rows.clone() {
                    for (j, panel) in block.panels.clone().enumerate() {
                        let columns = panel * COLUMNS..self.outputs.min((panel + 1) * COLUMNS);
                        let start = row * self.outputs;
                        // SAFETY: within the block, which is the caller's own.
                        let out = unsafe { out.part(start + columns.start..start + columns.end) };
                        let products = products.get(row - block.rows.start, j);
                        round(&self.finish(row, columns.start, columns.len(), products), out);
                    }
                }
            },
        );
    }

    #[inline(always)]
    fn finish(&self, row: usize, first: usize, len: usize, mut y: [f32; COLUMNS]) -> [f32; COLUMNS] {
        if let Some(bias) = self.bias {
            each(&mut y, &padded(&bias[first..first + len]), |y, bias| y + bias);
        }
        let start = row * self.outputs + first;
        match &self.then {
            Then::Nothing => {}
            Then::GeluTanh => y.iter_mut().for_each(|y| *y = math::gelu_tanh(*y)),
            Then::Silu => y.iter_mut().for_each(|y| *y = math::silu(*y)),
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

/// The products of a block.
pub(super) trait Products {
    /// Returns the products of a row and a panel of the block, both counted from 0.
    fn get(&self, row: usize, panel: usize) -> [f32; COLUMNS];
}

/// Sums `[panels, rows]` of a block.
pub(super) struct Sums<'a> {
    pub sums: &'a [Line<f32>],
    pub height: usize,
}

impl Products for Sums<'_> {
    #[inline(always)]
    fn get(&self, row: usize, panel: usize) -> [f32; COLUMNS] {
        self.sums[panel * self.height + row].0
    }
}

/// Products of some rows of a block, and sums `[panels, height]` that are added to them.
struct WithSides<'a, P> {
    products: &'a P,
    sides: Sums<'a>,
    /// The first of the rows, counted from the block's first.
    first: usize,
}

impl<P: Products> Products for WithSides<'_, P> {
    #[inline(always)]
    fn get(&self, row: usize, panel: usize) -> [f32; COLUMNS] {
        let mut y = self.products.get(row, panel);
        each(&mut y, &self.sides.get(row - self.first, panel), |y, side| y + side);
        y
    }
}

/// Rounds up to 32 elements, as many as `out` takes, to its dtype.
#[inline(always)]
fn round<T: Element>(y: &[f32; COLUMNS], out: &mut [MaybeUninit<T>]) {
    let mut rounded = [T::zero(); COLUMNS];
    T::round_from(y, &mut rounded);
    match out.first_chunk_mut::<COLUMNS>() {
        Some(all) => drop(all.write_copy_of_slice(&rounded)),
        None => drop(out.write_copy_of_slice(&rounded[..out.len()])),
    }
}

#[inline(always)]
fn each(y: &mut [f32; COLUMNS], operand: &[f32; COLUMNS], f: impl Fn(f32, f32) -> f32) {
    for (y, &operand) in y.iter_mut().zip(operand) {
        *y = f(*y, operand);
    }
}

/// Returns up to 32 elements, with zeros after them.
#[inline(always)]
fn padded<T: Element>(x: &[T]) -> [f32; COLUMNS] {
    let mut wide = [0f32; COLUMNS];
    match x.first_chunk::<COLUMNS>() {
        Some(all) => T::widen(all, &mut wide),
        None => T::widen(x, &mut wide[..x.len()]),
    }
    wide
}

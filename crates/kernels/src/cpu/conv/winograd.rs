//! Winograd's F(4×4, 3×3) (<https://arxiv.org/abs/1509.09308>): a 3×3 kernel with a quarter of the
//! multiplications, as 36 matrix products per temporal tap, which are summed over the taps before the inverse transform.
//!
//! Weights are transformed when they are used, for many tiles at a time. That costs a few percent of the time; transformed
//! in advance, they would take four times the memory.

use super::super::shared::SharedMut;
use super::super::tile::{COLUMNS, Out, Panel, Rows, multiply_tile};
use super::Problem;
use super::transform::{Input, Output, PATCH, POINTS, TILE, Weights};
use crate::Level;
use crate::level::arch;
use rayon::prelude::*;
use std::array::from_fn;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Tiles that one task takes.
const TILES: usize = 64;
/// Input channels that are multiplied at a time, so that their transformed weights stay in the L2 cache.
const DEPTH: usize = 96;
/// Padding between the matrices of two points, without which their elements would share a few sets of the CPU's cache.
const GAP: usize = 16;
/// Tasks below which the outputs are divided too.
const FEW_TASKS: usize = 8;

thread_local! {
    /// Kept, because memory fresh from the system is slow.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    /// Pixels outside the frame.
    zeros: Vec<f32>,
    /// `[block of DEPTH channels, POINTS, tiles · DEPTH + GAP]`
    inputs: Vec<f32>,
    /// `[POINTS, DEPTH · 32 + GAP]`
    weights: Vec<f32>,
    /// `[panel, POINTS, tiles · 32 + GAP]`
    products: Vec<f32>,
}

impl Problem<'_> {
    pub(super) fn winograd(&self, out: &mut [MaybeUninit<f32>]) {
        let [h, w] = self.out_size.map(|size| size.div_ceil(TILE));
        let (blocks, panels) = ((h * w).div_ceil(TILES), self.conv.panels());
        let groups = FEW_TASKS.div_ceil(self.batch * blocks).min(panels);
        let group = panels.div_ceil(groups);
        let shared = SharedMut::new(out);
        (0..self.batch * blocks * groups).into_par_iter().for_each(|task| {
            let (item, first) = (task / groups / blocks, task / groups % blocks * TILES);
            let panel = task % groups * group;
            let tiles = first..(h * w).min(first + TILES);
            let block = Block { problem: self, item, tiles, panels: panel..panels.min(panel + group) };
            SCRATCH.with_borrow_mut(|scratch| block.compute(&shared, scratch));
        });
    }
}

/// Some tiles of one item and some panels of outputs.
struct Block<'a> {
    problem: &'a Problem<'a>,
    item: usize,
    tiles: Range<usize>,
    panels: Range<usize>,
}

impl Block<'_> {
    fn compute(&self, out: &SharedMut<MaybeUninit<f32>>, scratch: &mut Scratch) {
        let (conv, tiles) = (self.problem.conv, self.tiles.len());
        let grow = |buffer: &mut Vec<f32>, len: usize| buffer.resize(len.max(buffer.len()), 0.0);
        grow(&mut scratch.zeros, conv.inputs);
        grow(&mut scratch.inputs, conv.inputs.div_ceil(DEPTH) * POINTS * (tiles * DEPTH + GAP));
        grow(&mut scratch.weights, POINTS * (DEPTH * COLUMNS + GAP));
        grow(&mut scratch.products, self.panels.len() * POINTS * (tiles * COLUMNS + GAP));
        let mut accumulate = false;
        for tap in 0..conv.kernel[0] {
            if let Some(frame) = self.problem.frame(tap, self.item) {
                self.transform_inputs(frame, scratch);
                self.multiply(tap, accumulate, scratch);
                accumulate = true;
            }
        }
        self.write(out, &scratch.products);
    }

    fn transform_inputs(&self, frame: &[f32], scratch: &mut Scratch) {
        let (conv, [h, w]) = (self.problem.conv, self.problem.size);
        let (shift, zeros) = (usize::from(conv.options.upsample), scratch.zeros.as_ptr());
        let inside = |first: usize, i: usize, size: usize| {
            if conv.options.reflect {
                return reflected(first + i, size);
            }
            (first + i).checked_sub(conv.options.padding.0).map(|at| at >> shift).filter(|at| *at < size)
        };
        for (tile, position) in self.tiles.clone().enumerate() {
            let [y, x] = self.corner(position);
            let pixel = |row: usize, column: usize| match (inside(y, row, h), inside(x, column, w)) {
                (Some(row), Some(column)) => frame[(row * w + column) * conv.inputs..][..conv.inputs].as_ptr(),
                _ => zeros,
            };
            arch().dispatch(Input {
                pixels: from_fn(|row| from_fn(|column| pixel(row, column))),
                channels: conv.inputs,
                depth: DEPTH,
                out: &mut scratch.inputs,
                block: POINTS * (self.tiles.len() * DEPTH + GAP),
                gap: GAP,
                tiles: self.tiles.len(),
                tile,
            });
        }
    }

    /// Multiplies the transformed inputs under one temporal tap with its weights.
    fn multiply(&self, tap: usize, accumulate: bool, scratch: &mut Scratch) {
        let (conv, tiles) = (self.problem.conv, self.tiles.len());
        let pitch = tiles * COLUMNS + GAP;
        let products = scratch.products.chunks_exact_mut(POINTS * pitch);
        for (panel, products) in self.panels.clone().zip(products) {
            let columns = COLUMNS.min(conv.outputs - panel * COLUMNS);
            let blocks = scratch.inputs.chunks_exact(POINTS * (tiles * DEPTH + GAP));
            for (first, inputs) in (0..conv.inputs).step_by(DEPTH).zip(blocks) {
                let depth = DEPTH.min(conv.inputs - first);
                let (weight, weights) = (conv.panel(panel, tap), &mut scratch.weights[..]);
                let pitch_of_weights = DEPTH * COLUMNS + GAP;
                arch().dispatch(Weights {
                    weight,
                    channels: conv.inputs,
                    first,
                    depth,
                    out: weights,
                    pitch: pitch_of_weights,
                });
                let inputs = inputs.chunks_exact(tiles * depth + GAP);
                let points = inputs.zip(weights.chunks_exact(pitch_of_weights));
                for ((inputs, weights), products) in points.zip(products.chunks_exact_mut(pitch)) {
                    let rows = Rows { data: inputs.as_ptr(), row: depth, step: 1 };
                    let right = Panel::new(weights.as_ptr(), COLUMNS);
                    let accumulate = accumulate || first > 0;
                    let out = Out { data: products.as_mut_ptr(), row: COLUMNS, accumulate };
                    // SAFETY: the chunks have just these sizes.
                    unsafe { multiply_tile(Level::current(), [tiles, columns, depth], rows, right, out) };
                }
            }
        }
    }

    /// Computes the outputs from the products: the inverse transform.
    fn write(&self, out: &SharedMut<MaybeUninit<f32>>, products: &[f32]) {
        let (conv, [h, w], tiles) = (self.problem.conv, self.problem.out_size, self.tiles.len());
        let (item, residual) = (self.item * h * w * conv.outputs, self.problem.residual(self.item));
        let pitch = tiles * COLUMNS + GAP;
        let products = products.chunks_exact(POINTS * pitch);
        for (panel, products) in self.panels.clone().zip(products) {
            let columns = COLUMNS.min(conv.outputs - panel * COLUMNS);
            for (tile, position) in self.tiles.clone().enumerate() {
                let [y, x] = self.corner(position);
                let offset = |row: usize, column: usize| {
                    let inside = y + row < h && x + column < w;
                    inside.then(|| ((y + row) * w + x + column) * conv.outputs + panel * COLUMNS)
                };
                let out = |row, column| match offset(row, column) {
                    Some(offset) => out.pointer(item + offset, item + offset + columns - 1).cast::<f32>(),
                    None => std::ptr::null_mut(),
                };
                let add = |residual: &[f32], row, column| match offset(row, column) {
                    Some(offset) => residual[offset..offset + columns].as_ptr(),
                    None => std::ptr::null(),
                };
                arch().dispatch(Output {
                    products: &products[tile * COLUMNS..],
                    pitch,
                    bias: &conv.bias[panel * COLUMNS..][..COLUMNS],
                    columns,
                    residual: residual.map(|x| from_fn(|row| from_fn(|column| add(x, row, column)))),
                    out: from_fn(|row| from_fn(|column| out(row, column))),
                });
            }
        }
    }

    /// Row and column of a tile's first output, which are also those of its first input, counted with the padding.
    fn corner(&self, position: usize) -> [usize; 2] {
        let columns = self.problem.out_size[1].div_ceil(TILE);
        [position / columns * TILE, position % columns * TILE]
    }
}

/// Returns the place in a frame of the place `padded` of the frame with its mirror image, one row or column on each side.
fn reflected(padded: usize, size: usize) -> Option<usize> {
    match padded {
        0 => Some(1),
        padded if padded <= size => Some(padded - 1),
        padded if padded == size + 1 => Some(size - 2),
        _ => None,
    }
}

const _: () = assert!(PATCH == TILE + 2, "the tiles of a 3×3 kernel");

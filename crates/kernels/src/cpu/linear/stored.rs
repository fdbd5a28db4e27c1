//! [`Weights`] of products in f32: panels, or a matrix as a file stores it, of which each task dequantises what it multiplies.
#![allow(unsafe_code)]

use super::super::tile::{COLUMNS, Stored};
use super::line::Line;
use super::panels::{BytePanels, Panels, transpose};
use crate::level::vectorised;
use kinora_formats::Matrix;

/// Weights `[N, K]` in panels of 32 outputs.
pub(super) trait Weights<W>: Sync {
    /// Number of panels.
    fn count(&self) -> usize;

    /// `K`.
    fn inputs(&self) -> usize;

    /// What the first input of a part is a multiple of.
    fn unit(&self) -> usize;

    /// The elements `[len, 32]` of a panel from the input `first` on, in memory of their own or in `scratch`.
    fn part<'a>(&'a self, panel: usize, first: usize, len: usize, scratch: &'a mut Dequantised) -> &'a [W];

    /// Where [`Weights::part`] of that panel is, if it is in memory.
    fn place(&self, panel: usize, first: usize) -> Option<*const W>;
}

/// A part of a panel.
#[derive(Default)]
pub(super) struct Dequantised {
    rows: Vec<f32>,
    lines: Vec<Line<f32>>,
}

macro_rules! panels {
    ($panels:ident) => {
        impl<W: Stored> Weights<W> for $panels<W> {
            fn count(&self) -> usize {
                self.count()
            }

            fn inputs(&self) -> usize {
                self.inputs()
            }

            fn unit(&self) -> usize {
                1
            }

            fn part<'a>(&'a self, panel: usize, first: usize, len: usize, _: &'a mut Dequantised) -> &'a [W] {
                &self.panel(panel)[first * COLUMNS..(first + len) * COLUMNS]
            }

            fn place(&self, panel: usize, first: usize) -> Option<*const W> {
                Some(self.panel(panel)[first * COLUMNS..].as_ptr())
            }
        }
    };
}

panels!(Panels);
panels!(BytePanels);

impl Weights<f32> for Matrix {
    fn count(&self) -> usize {
        self.rows().div_ceil(COLUMNS)
    }

    fn inputs(&self) -> usize {
        self.columns()
    }

    fn unit(&self) -> usize {
        self.unit()
    }

    fn part<'a>(&'a self, panel: usize, first: usize, len: usize, scratch: &'a mut Dequantised) -> &'a [f32] {
        let outputs = panel * COLUMNS..self.rows().min((panel + 1) * COLUMNS);
        let Dequantised { rows, lines } = scratch;
        rows.resize(outputs.len() * len, 0.0);
        lines.resize(len, Line([0.0; COLUMNS]));
        vectorised(
            #[inline(always)]
            || outputs.clone().zip(rows.chunks_exact_mut(len)).for_each(|(row, out)| self.dequantise(row, first, out)),
        );
        transpose(rows, lines, |line| &mut line.0);
        // SAFETY: a line is its elements, without anything between them.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), len * COLUMNS) }
    }

    fn place(&self, _: usize, _: usize) -> Option<*const f32> {
        None
    }
}

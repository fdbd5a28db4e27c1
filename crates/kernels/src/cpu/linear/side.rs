//! [`SideRows`]: a product over few inputs, which is added to another product while that one's block is in the cache.
#![allow(unsafe_code)]

use super::super::tile::{COLUMNS, Out, Panel, Rows, Stored, multiply_tile};
use super::finish::Side;
use super::line::Line;
use super::panels::{Packed, Panels};
use crate::Level;
use std::ops::Range;

/// Rows `[M, R]` and the weights `[N, R]` that they are multiplied with, which are [`Packed::is_dense`].
pub(super) struct SideRows<'a> {
    pub rows: &'a [f32],
    pub weight: &'a Packed,
}

impl Side for SideRows<'_> {
    fn multiply(&self, level: Level, rows: Range<usize>, panel: usize, sums: &mut [Line<f32>], accumulate: bool) {
        match self.weight {
            Packed::F32(panels) => self.product(level, rows, panels, panel, sums, accumulate),
            Packed::Bf16(panels) => self.product(level, rows, panels, panel, sums, accumulate),
            Packed::F16(panels) => self.product(level, rows, panels, panel, sums, accumulate),
            _ => unreachable!("checked where sides are taken"),
        }
    }
}

impl SideRows<'_> {
    fn product<W: Stored>(
        &self,
        level: Level,
        rows: Range<usize>,
        panels: &Panels<W>,
        panel: usize,
        sums: &mut [Line<f32>],
        accumulate: bool,
    ) {
        let (inputs, count) = (panels.inputs(), rows.len());
        let x = &self.rows[rows.start * inputs..rows.end * inputs];
        let panel = panels.panel(panel);
        assert!(sums.len() >= count && panel.len() == inputs * COLUMNS);
        let x = Rows { data: x.as_ptr(), row: inputs, step: 1 };
        let out = Out { data: sums.as_mut_ptr().cast(), row: COLUMNS, accumulate };
        // SAFETY: `x` has `count` rows of `inputs`, the panel so many lines, `sums` a line for each row.
        unsafe { multiply_tile(level, [count, COLUMNS, inputs], x, Panel::new(panel.as_ptr(), COLUMNS), out) };
    }
}

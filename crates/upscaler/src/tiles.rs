//! Frames through the network in tiles, each with as many pixels around it as its pixels depend on.

use crate::span::{REACH, SCALE, SHUFFLED, Span};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;
use std::ops::Range;

/// The most pixels per side of a tile, without its halo.
const SIDE: usize = 512;
/// Windows begin where the tiles of a Winograd convolution do: a pixel then comes from the same sums as in the whole frame, but
/// for the last bits.
const GRAIN: usize = 4;

/// A tile along one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The pixels that it makes.
    pub inner: Range<usize>,
    /// The pixels that it needs.
    pub window: Range<usize>,
}

/// Splits `0..size` into as few parts of at most `side` as possible, of nearly the same size.
pub(crate) fn parts(size: usize, side: usize) -> Vec<Part> {
    let count = size.div_ceil(side.max(GRAIN));
    let edge = |part: usize| if part == count { size } else { part * size / count / GRAIN * GRAIN };
    let part = |part: usize| {
        let inner = edge(part)..edge(part + 1);
        let start = inner.start.saturating_sub(REACH) / GRAIN * GRAIN;
        Part { window: start..(inner.end + REACH).min(size), inner }
    };
    (0..count).map(part).collect()
}

/// Returns the parts of frames of `width`×`height`, as rows and columns.
pub(crate) fn grid(width: usize, height: usize) -> [Vec<Part>; 2] {
    [parts(height, SIDE), parts(width, SIDE)]
}

impl Span {
    /// Enlarges a frame of `width`×`height`, planar `[3, H, W]` in 0..1, and returns planar `[3, 4·H, 4·W]` in 0..1.
    ///
    /// # Errors
    /// Values that are not as many as the frame has; whatever candle fails on.
    pub fn enlarge(&self, frame: &[f32], width: usize, height: usize) -> Result<Vec<f32>> {
        let [rows, columns] = grid(width, height);
        self.enlarge_in(frame, [height, width], &rows, &columns)
    }

    /// [`Span::enlarge`] for a frame of `[H, W]` in these parts.
    fn enlarge_in(&self, frame: &[f32], [h, w]: [usize; 2], rows: &[Part], columns: &[Part]) -> Result<Vec<f32>> {
        if frame.len() != 3 * h * w {
            bail!("a frame of {w}×{h} has {} values, not {}", 3 * h * w, frame.len());
        }
        let mut out = vec![0f32; frame.len() * SCALE * SCALE];
        for row in rows {
            for column in columns {
                let pixels = self.tile(frame, [h, w], &row.window, &column.window)?;
                put(&mut out, &pixels, [h, w], row, column);
            }
        }
        Ok(out)
    }

    /// The window of these rows and columns through the network: `[H', W', 48]`.
    fn tile(&self, frame: &[f32], [h, w]: [usize; 2], rows: &Range<usize>, columns: &Range<usize>) -> Result<Vec<f32>> {
        let mut pixels = Vec::with_capacity(3 * rows.len() * columns.len()); // [H', W', 3]
        for row in rows.clone() {
            let plane = |colour: usize| &frame[(colour * h + row) * w..][columns.clone()];
            let colours = plane(0).iter().zip(plane(1)).zip(plane(2));
            pixels.extend(colours.flat_map(|((red, green), blue)| [*red, *green, *blue]));
        }
        let x = Tensor::from_vec(pixels, (1, rows.len(), columns.len(), 3), self.device())?;
        self.forward(&x)?.flatten_all()?.to_vec1()
    }
}

/// Copies the inner pixels of a tile, `pixels [H', W', 48]`, to their places in `out [3, 4·H, 4·W]` of a frame of `[H, W]`.
fn put(out: &mut [f32], pixels: &[f32], [h, w]: [usize; 2], row: &Part, column: &Part) {
    let (first, pitch) = (column.inner.start - column.window.start, column.window.len());
    out.par_chunks_exact_mut(SCALE * w).enumerate().for_each(|(line, out)| {
        let (colour, y) = (line / (SCALE * h), line % (SCALE * h));
        if !row.inner.contains(&(y / SCALE)) {
            return;
        }
        let pixels = &pixels[((y / SCALE - row.window.start) * pitch + first) * SHUFFLED..];
        let out = &mut out[SCALE * column.inner.start..SCALE * column.inner.end];
        let from = (colour * SCALE + y % SCALE) * SCALE;
        for (out, pixel) in out.chunks_exact_mut(SCALE).zip(pixels.chunks_exact(SHUFFLED)) {
            for (out, value) in out.iter_mut().zip(&pixel[from..]) {
                *out = value.clamp(0.0, 1.0);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use kinora_test_support::{random, values};

    #[test]
    fn parts_cover_the_axis_once_and_see_what_they_need() {
        for (size, side) in [(1, 1), (3, 8), (8, 8), (9, 8), (480, 512), (513, 512), (1088, 512), (101, 30)] {
            let parts = parts(size, side);
            let ends: Vec<usize> = parts.iter().map(|part| part.inner.end).collect();
            let starts: Vec<usize> = parts.iter().map(|part| part.inner.start).collect();
            assert_eq!((starts[0], ends[ends.len() - 1]), (0, size));
            assert_eq!(starts[1..], ends[..ends.len() - 1]);
            for Part { inner, window } in parts {
                assert!(inner.len() < side.max(GRAIN) + GRAIN && !inner.is_empty(), "{size} by {side}: {inner:?}");
                assert!(window.start == 0 || window.start + REACH <= inner.start, "{window:?}");
                assert!(window.end == size || window.end == inner.end + REACH, "{window:?}");
                assert_eq!(window.start % GRAIN, 0);
            }
        }
    }

    #[test]
    fn tiles_are_what_the_whole_frame_has_there() {
        let span = Span::embedded(&Device::Cpu, DType::F32).unwrap();
        let (w, h) = (83, 70);
        let frame: Vec<f32> = values(&random((3, h, w), 1)).iter().map(|x| (0.5 + 0.2 * x).clamp(0.0, 1.0)).collect();
        let whole = span.enlarge(&frame, w, h).unwrap();
        let psnr = |rows: &[Part], columns: &[Part]| {
            let tiled = span.enlarge_in(&frame, [h, w], rows, columns).unwrap();
            let square = tiled.iter().zip(&whole).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
            -10.0 * (square / whole.len() as f64).log10()
        };
        for side in [24, 40, 64] {
            let found = psnr(&parts(h, side), &parts(w, side));
            assert!(found >= 110.0, "{found:.1} dB in tiles of {side}");
        }
        // With a small halo they are not.
        let narrow = |size| {
            let mut parts = parts(size, 40);
            for part in &mut parts {
                part.window.end = (part.inner.end + 4).min(size);
            }
            parts
        };
        let found = psnr(&narrow(h), &narrow(w));
        assert!(found < 100.0, "{found:.1} dB with a halo of 4");
    }

    #[test]
    fn frames_of_any_size_are_taken_and_wrong_ones_refused() {
        let span = Span::embedded(&Device::Cpu, DType::F32).unwrap();
        for (w, h) in [(1, 1), (1, 9), (5, 2)] {
            let grey = span.enlarge(&vec![0.5; 3 * w * h], w, h).unwrap();
            assert_eq!(grey.len(), 3 * w * h * SCALE * SCALE);
            assert!(grey.iter().all(|x| (x - 0.5).abs() < 0.1), "{w}×{h}: {grey:?}");
        }
        assert!(span.enlarge(&[0.5; 5], 2, 1).is_err());
    }
}

//! Resizing as Pillow does it (<https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters>): a separable,
//! antialiased convolution, columns before rows, whose kernel widens with the scale where a picture gets smaller.
//!
//! Pictures of 8 bits have fixed-point weights and are rounded to 8 bits between the two passes; the result equals Pillow's
//! bit for bit. A pass that does not change the size is left out. Planes of floats use the same weights unrounded.
//! Since version 13, Pillow scales rows first if the height shrinks much and the width little
//! (<https://github.com/python-pillow/Pillow/pull/9549>); earlier versions always scale columns first, with other roundings.

use rayon::prelude::*;
use std::f64::consts::PI;
use std::ops::Range;

/// The number of fractional bits of the weights: 32 less 8 for the pixel and 2 for the kernel's overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// The kernel of a resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Filter {
    /// A sinc windowed by a wider sinc, 3 pixels to each side; sharp.
    #[default]
    Lanczos,
    /// The cubic convolution with a = -1/2, 2 pixels to each side.
    Bicubic,
}

impl Filter {
    /// Returns the reach of the kernel to each side, in pixels.
    fn support(self) -> f64 {
        match self {
            Self::Lanczos => 3.0,
            Self::Bicubic => 2.0,
        }
    }

    /// Returns the kernel's value at `x` pixels from its centre.
    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        match (self, x.abs()) {
            (Self::Lanczos, _) if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            (Self::Bicubic, x) if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            (Self::Bicubic, x) if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// A part of a scaled picture; only this part is computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// The width and height of the whole scaled picture.
    pub(crate) scaled: (usize, usize),
    /// The left column and top row of the part.
    pub(crate) origin: (usize, usize),
    /// The width and height of the part.
    pub(crate) size: (usize, usize),
}

impl Window {
    pub(crate) fn whole(width: usize, height: usize) -> Self {
        Self { scaled: (width, height), origin: (0, 0), size: (width, height) }
    }
}

/// The weights of one pass, for each output.
struct Taps<W> {
    /// The first input and the number of inputs of every output.
    spans: Vec<(usize, usize)>,
    /// `[outputs, stride]`; weights beyond a span are zero.
    weights: Vec<W>,
    stride: usize,
}

impl Taps<f64> {
    /// Returns the weights for the outputs `window` of `output` outputs, from `input` inputs.
    fn new(input: usize, output: usize, window: Range<usize>, filter: Filter) -> Self {
        let scale = input as f64 / output as f64;
        let widening = scale.max(1.0);
        let support = filter.support() * widening;
        let stride = support.ceil() as usize * 2 + 1;
        let mut taps =
            Self { spans: Vec::with_capacity(window.len()), weights: vec![0.0; window.len() * stride], stride };
        for (index, weights) in window.zip(taps.weights.chunks_exact_mut(stride)) {
            let centre = (index as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(input);
            let weights = &mut weights[..end - first];
            for (at, weight) in weights.iter_mut().enumerate() {
                // Dividing by the factor would round differently from Pillow, which multiplies by its inverse.
                *weight = filter.weight(((at + first) as f64 - centre + 0.5) * (1.0 / widening));
            }
            let sum: f64 = weights.iter().sum();
            if sum != 0.0 {
                for weight in weights.iter_mut() {
                    *weight /= sum;
                }
            }
            taps.spans.push((first, end - first));
        }
        taps
    }

    fn map<W>(self, convert: impl Fn(f64) -> W) -> Taps<W> {
        let Self { spans, weights, stride } = self;
        Taps { spans, weights: weights.into_iter().map(convert).collect(), stride }
    }
}

impl<W> Taps<W> {
    /// Iterates over the first input and the weights of every output.
    fn iter(&self) -> impl Iterator<Item = (usize, &[W])> {
        self.spans.iter().zip(self.weights.chunks_exact(self.stride)).map(|(&(first, len), w)| (first, &w[..len]))
    }

    fn get(&self, output: usize) -> (usize, &[W]) {
        let (first, len) = self.spans[output];
        (first, &self.weights[output * self.stride..][..len])
    }

    /// Returns the range of the inputs that the outputs need.
    fn inputs(&self) -> Range<usize> {
        let start = self.spans.iter().map(|span| span.0).min().unwrap_or(0);
        let end = self.spans.iter().map(|span| span.0 + span.1).max().unwrap_or(0);
        start..end
    }
}

/// Scales interleaved RGB `[H, W, 3]` of size `input` (width and height) and returns the part `window` of the scaled picture,
/// `[h, w, 3]`. All sizes are at least 1, and the window lies within the scaled picture.
pub(crate) fn resize_rgb8(source: &[u8], input: (usize, usize), window: &Window, filter: Filter) -> Vec<u8> {
    let ((in_w, in_h), Window { scaled, origin: (x, y), size: (width, height) }) = (input, *window);
    if rows_first(input, scaled) {
        let rows = Taps::new(in_h, scaled.1, y..y + height, filter).map(to_fixed);
        let low = mix_rows(source, 0, in_w * 3, &rows, height); // [h, W, 3]
        let window = Window { scaled: (scaled.0, height), origin: (x, 0), size: window.size };
        return resize_rgb8(&low, (in_w, height), &window, filter);
    }
    let rows = (in_h != scaled.1).then(|| Taps::new(in_h, scaled.1, y..y + height, filter).map(to_fixed));
    let needed = rows.as_ref().map_or(y..y + height, Taps::inputs);
    let source = &source[needed.start * in_w * 3..needed.end * in_w * 3];
    let mut narrow = vec![0; needed.len() * width * 3]; // [h', w, 3]
    let columns = (in_w != scaled.0).then(|| Taps::new(in_w, scaled.0, x..x + width, filter).map(to_fixed));
    let pairs = narrow.par_chunks_exact_mut(width * 3).zip(source.par_chunks_exact(in_w * 3));
    pairs.for_each(|(out, row)| match &columns {
        Some(columns) => mix_columns(out, row, columns),
        None => out.copy_from_slice(&row[x * 3..(x + width) * 3]),
    });
    let Some(rows) = rows else { return narrow };
    mix_rows(&narrow, needed.start, width * 3, &rows, height)
}

/// Returns whether Pillow scales the height before the width.
fn rows_first(from: (usize, usize), to: (usize, usize)) -> bool {
    to.1 < from.1 && to.0 != from.0 && from.1 - to.1 > 2 * from.0.saturating_sub(to.0)
}

/// Returns `height` rows of `stride` bytes from the rows of `source`, the first of which is number `start`.
fn mix_rows(source: &[u8], start: usize, stride: usize, rows: &Taps<i32>, height: usize) -> Vec<u8> {
    let mut out = vec![0; height * stride];
    out.par_chunks_exact_mut(stride).enumerate().for_each_init(Vec::new, |sums, (index, out)| {
        let (first, weights) = rows.get(index);
        sums.clear();
        sums.resize(out.len(), 1 << (PRECISION_BITS - 1));
        let used = source[(first - start) * stride..].chunks_exact(stride);
        for (&weight, row) in weights.iter().zip(used) {
            sums.iter_mut().zip(row).for_each(|(sum, &pixel)| *sum += i32::from(pixel) * weight);
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = from_fixed(*sum));
    });
    out
}

fn mix_columns(out: &mut [u8], row: &[u8], columns: &Taps<i32>) {
    for (out, (first, weights)) in out.as_chunks_mut::<3>().0.iter_mut().zip(columns.iter()) {
        let mut sums = [1 << (PRECISION_BITS - 1); 3];
        for (&weight, pixel) in weights.iter().zip(row[first * 3..].as_chunks::<3>().0) {
            sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += i32::from(value) * weight);
        }
        *out = sums.map(from_fixed);
    }
}

/// Rounds to the nearest, halves away from zero.
fn to_fixed(weight: f64) -> i32 {
    (weight * f64::from(1 << PRECISION_BITS)).round() as i32
}

fn from_fixed(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Scales a plane `[H, W]` of size `input` (width and height) to the size `output` and returns `[h, w]`. All sizes are at
/// least 1. Nothing is clipped: the kernel overshoots at edges.
pub(crate) fn resize_plane(source: &[f32], input: (usize, usize), output: (usize, usize), filter: Filter) -> Vec<f32> {
    let ((in_w, in_h), (width, height)) = (input, output);
    let narrow = if in_w == width {
        source.to_vec()
    } else {
        let columns = Taps::new(in_w, width, 0..width, filter).map(|weight| weight as f32);
        let mut narrow = vec![0.0; in_h * width]; // [H, w]
        let pairs = narrow.par_chunks_exact_mut(width).zip(source.par_chunks_exact(in_w));
        pairs.for_each(|(out, row)| {
            for (out, (first, weights)) in out.iter_mut().zip(columns.iter()) {
                *out = weights.iter().zip(&row[first..]).map(|(weight, value)| weight * value).sum();
            }
        });
        narrow
    };
    if in_h == height {
        return narrow;
    }
    let rows = Taps::new(in_h, height, 0..height, filter).map(|weight| weight as f32);
    let mut out = vec![0.0; height * width];
    out.par_chunks_exact_mut(width).enumerate().for_each(|(index, out)| {
        let (first, weights) = rows.get(index);
        for (&weight, row) in weights.iter().zip(narrow[first * width..].chunks_exact(width)) {
            out.iter_mut().zip(row).for_each(|(out, value)| *out += weight * value);
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::{SafeTensors, tensor::TensorView};

    /// Covers enlarging, shrinking, and one direction only; the golden values are f32 too.
    #[test]
    fn planes_are_pillows() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/media/resize.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let values = |tensor: &TensorView<'_>| -> Vec<f32> {
            tensor.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
        };
        let source = file.tensor("plane").unwrap();
        let input = (source.shape()[1], source.shape()[0]);
        let mut cases = 0;
        for (name, expected) in file.iter().filter(|(name, _)| name.starts_with("plane.")) {
            let filter = if name.contains("lanczos") { Filter::Lanczos } else { Filter::Bicubic };
            let output = (expected.shape()[1], expected.shape()[0]);
            let got = resize_plane(&values(&source), input, output, filter);
            let differences = got.iter().zip(values(&expected)).map(|(got, expected)| (got - expected).abs());
            let largest = differences.fold(0.0, f32::max);
            assert!(largest <= 1e-6 && got.len() == output.0 * output.1, "{name}: {largest}");
            cases += 1;
        }
        assert_eq!(cases, 8);
    }
}

//! The transforms of Winograd's F(4×4, 3×3) (<https://arxiv.org/abs/1509.09308>) on vectors of channels.
//!
//! Its six points are 0, ±2/3, ±3/2 and ∞. Compared with the usual 0, ±1, ±2, ∞ they halve the rounding errors
//! (<https://arxiv.org/abs/1803.10986> says why), and as 2/3 · 3/2 = 1, two factors vanish.

use super::super::tile::COLUMNS;
use pulp::{Simd, WithSimd};

/// Outputs per side of a tile.
pub const TILE: usize = 4;
/// Inputs per side of a tile, and points per axis.
pub const PATCH: usize = 6;
/// Points of the transform.
pub const POINTS: usize = PATCH * PATCH;

const A: f32 = 2.0 / 3.0;
const B: f32 = 3.0 / 2.0;

/// One tile's pixels to one row of each point's matrix.
pub struct Input<'a> {
    /// The pixels, zeros where there are none; each has `channels` elements.
    pub pixels: [[*const f32; PATCH]; PATCH],
    pub channels: usize,
    /// Channels that are kept together.
    pub depth: usize,
    /// Blocks of this size, each `[POINTS, tiles · depth + gap]`; the last may have fewer channels.
    pub out: &'a mut [f32],
    pub block: usize,
    pub gap: usize,
    pub tiles: usize,
    pub tile: usize,
}

impl WithSimd for Input<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (block, out) in (0..self.channels).step_by(self.depth).zip(self.out.chunks_exact_mut(self.block)) {
            let depth = self.depth.min(self.channels - block);
            let pitch = self.tiles * depth + self.gap;
            for lane in (0..depth).step_by(S::F32_LANES) {
                let len = S::F32_LANES.min(depth - lane);
                let mut columns = [[simd.splat_f32s(0.0); PATCH]; PATCH];
                for (column, points) in columns.iter_mut().enumerate() {
                    let mut pixels = [simd.splat_f32s(0.0); PATCH];
                    for (pixel, row) in pixels.iter_mut().zip(&self.pixels) {
                        // SAFETY: every pixel has `channels` elements, of which these are some.
                        *pixel = unsafe { load(simd, row[column].wrapping_add(block + lane), len) };
                    }
                    *points = input_points(simd, pixels);
                }
                for row in 0..PATCH {
                    let points = input_points(simd, across(simd, &columns, row));
                    for (column, values) in points.into_iter().enumerate() {
                        let at = (row * PATCH + column) * pitch + self.tile * depth + lane;
                        store(simd, &mut out[at..at + len], values);
                    }
                }
            }
        }
    }
}

/// The 3×3 weights of some input channels and a panel of outputs, to their points.
pub struct Weights<'a> {
    /// `[3·3, channels, 32]`.
    pub weight: &'a [f32],
    pub channels: usize,
    /// The first input channel.
    pub first: usize,
    pub depth: usize,
    /// The points, this far apart, `[depth, 32]` each.
    pub out: &'a mut [f32],
    pub pitch: usize,
}

impl WithSimd for Weights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for channel in 0..self.depth {
            for lane in (0..COLUMNS).step_by(S::F32_LANES) {
                let mut columns = [[simd.splat_f32s(0.0); PATCH]; 3];
                for (column, points) in columns.iter_mut().enumerate() {
                    let mut weights = [simd.splat_f32s(0.0); 3];
                    for (row, weight) in weights.iter_mut().enumerate() {
                        let at = ((row * 3 + column) * self.channels + self.first + channel) * COLUMNS + lane;
                        *weight = load_whole(simd, &self.weight[at..]);
                    }
                    *points = weight_points(simd, weights);
                }
                for row in 0..PATCH {
                    let points = weight_points(simd, across(simd, &columns, row));
                    for (column, values) in points.into_iter().enumerate() {
                        let at = (row * PATCH + column) * self.pitch + channel * COLUMNS + lane;
                        store(simd, &mut self.out[at..at + S::F32_LANES], values);
                    }
                }
            }
        }
    }
}

/// The products of one tile and one panel, to its outputs.
pub struct Output<'a> {
    /// The points, this far apart, 32 columns each.
    pub products: &'a [f32],
    pub pitch: usize,
    /// 32 of them.
    pub bias: &'a [f32],
    /// Columns of the panel that are outputs.
    pub columns: usize,
    /// The residual and the result: the address of each position's outputs, null outside the frame.
    pub residual: Option<[[*const f32; TILE]; TILE]>,
    pub out: [[*mut f32; TILE]; TILE],
}

impl WithSimd for Output<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for lane in (0..self.columns).step_by(S::F32_LANES) {
            let len = S::F32_LANES.min(self.columns - lane);
            let mut columns = [[simd.splat_f32s(0.0); TILE]; PATCH];
            for (column, out) in columns.iter_mut().enumerate() {
                let mut products = [simd.splat_f32s(0.0); PATCH];
                for (row, product) in products.iter_mut().enumerate() {
                    let at = (row * PATCH + column) * self.pitch + lane;
                    *product = load_whole(simd, &self.products[at..]);
                }
                *out = outputs(simd, products);
            }
            let bias = load_whole(simd, &self.bias[lane..]);
            for row in 0..TILE {
                let values = outputs(simd, across(simd, &columns, row));
                for (column, values) in values.into_iter().enumerate() {
                    let out = self.out[row][column];
                    if out.is_null() {
                        continue;
                    }
                    let mut values = simd.add_f32s(values, bias);
                    if let Some(residual) = &self.residual {
                        // SAFETY: `columns` elements can be read there.
                        let residual = unsafe { load(simd, residual[row][column].wrapping_add(lane), len) };
                        values = simd.add_f32s(values, residual);
                    }
                    // SAFETY: `columns` elements there are the caller's own.
                    unsafe { store_at(simd, out.wrapping_add(lane), len, values) };
                }
            }
        }
    }
}

/// `Bᵀ d`
#[inline(always)]
fn input_points<S: Simd>(simd: S, d: [S::f32s; PATCH]) -> [S::f32s; PATCH] {
    let (even_a, odd_a) = (add(simd, -B * B, d[2], d[4]), add(simd, -B * B, d[1], d[3]));
    let (even_b, odd_b) = (add(simd, -A * A, d[2], d[4]), add(simd, -A * A, d[1], d[3]));
    [
        add(simd, -(A * A + B * B), d[2], simd.add_f32s(d[0], d[4])),
        add(simd, A, odd_a, even_a),
        add(simd, -A, odd_a, even_a),
        add(simd, B, odd_b, even_b),
        add(simd, -B, odd_b, even_b),
        add(simd, -(A * A + B * B), d[3], simd.add_f32s(d[1], d[5])),
    ]
}

/// `G g`
#[inline(always)]
fn weight_points<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; PATCH] {
    /// `1 / 2A²(A² - B²)`
    const SCALE_A: f32 = 1.0 / (2.0 * A * A * (A * A - B * B));
    /// `1 / 2B²(B² - A²)`
    const SCALE_B: f32 = 1.0 / (2.0 * B * B * (B * B - A * A));
    let even_a = add(simd, A * A * SCALE_A, g[2], times(simd, SCALE_A, g[0]));
    let even_b = add(simd, B * B * SCALE_B, g[2], times(simd, SCALE_B, g[0]));
    [
        g[0],
        add(simd, A * SCALE_A, g[1], even_a),
        add(simd, -A * SCALE_A, g[1], even_a),
        add(simd, B * SCALE_B, g[1], even_b),
        add(simd, -B * SCALE_B, g[1], even_b),
        g[2],
    ]
}

/// `Aᵀ m`
#[inline(always)]
fn outputs<S: Simd>(simd: S, m: [S::f32s; PATCH]) -> [S::f32s; TILE] {
    let (even_a, odd_a) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (even_b, odd_b) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(m[0], simd.add_f32s(even_a, even_b)),
        add(simd, A, odd_a, times(simd, B, odd_b)),
        add(simd, A * A, even_a, times(simd, B * B, even_b)),
        add(simd, A * A * A, odd_a, add(simd, B * B * B, odd_b, m[5])),
    ]
}

/// `factor · x + sum`
#[inline(always)]
fn add<S: Simd>(simd: S, factor: f32, x: S::f32s, sum: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(factor), x, sum)
}

#[inline(always)]
fn times<S: Simd>(simd: S, factor: f32, x: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(factor), x)
}

/// A row of a matrix that is held by columns.
#[inline(always)]
fn across<S: Simd, const R: usize, const C: usize>(simd: S, columns: &[[S::f32s; R]; C], row: usize) -> [S::f32s; C] {
    let mut out = [simd.splat_f32s(0.0); C];
    for (out, column) in out.iter_mut().zip(columns) {
        *out = column[row];
    }
    out
}

/// The first elements of `x`, which has enough of them.
#[inline(always)]
fn load_whole<S: Simd>(simd: S, x: &[f32]) -> S::f32s {
    let x = &x[..S::F32_LANES];
    // SAFETY: a whole vector, by the check above.
    unsafe { load(simd, x.as_ptr(), x.len()) }
}

/// The `len` elements at `at`, at most a vector.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn load<S: Simd>(simd: S, at: *const f32, len: usize) -> S::f32s {
    // SAFETY: as the caller vouches.
    unsafe {
        if len == S::F32_LANES {
            at.cast::<S::f32s>().read_unaligned()
        } else {
            simd.partial_load_f32s(std::slice::from_raw_parts(at, len))
        }
    }
}

/// Writes the first elements of `values`, at most a vector.
#[inline(always)]
fn store<S: Simd>(simd: S, out: &mut [f32], values: S::f32s) {
    // SAFETY: the slice can be written.
    unsafe { store_at(simd, out.as_mut_ptr(), out.len(), values) }
}

/// Writes the first `len` elements of `values` to `at`.
///
/// # Safety
/// They must be the caller's own.
#[inline(always)]
unsafe fn store_at<S: Simd>(simd: S, at: *mut f32, len: usize, values: S::f32s) {
    // SAFETY: as the caller vouches.
    unsafe {
        if len == S::F32_LANES {
            at.cast::<S::f32s>().write_unaligned(values);
        } else {
            simd.partial_store_f32s(std::slice::from_raw_parts_mut(at, len), values);
        }
    }
}

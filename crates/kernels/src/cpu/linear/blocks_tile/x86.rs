//! [`add_products`](super::add_products) in the registers of AVX2 and AVX-512: sums of a group are whole numbers in registers,
//! and so are, with AVX-512, sums over groups.

use super::super::super::pairs::by_rows;
use super::{BESIDE, Inputs, Kernel, PIECE, Part};
use crate::cpu::linear::line::{Line, Quad};
use crate::cpu::tile::COLUMNS;
#[allow(clippy::wildcard_imports)]
use std::arch::x86_64::*;

/// One row of a tile after the other, in the form that the kernel multiplies.
#[derive(Clone, Copy)]
struct Tile<'a, T> {
    rows: *const T,
    /// From row to row.
    stride: usize,
    /// Of the first row.
    scales: &'a [f32],
    sums: &'a [f32],
    distances: [usize; 2],
}

/// Computes it, if this kernel is one of these.
pub fn add_products(kernel: Kernel, inputs: &Inputs, part: &Part, out: &mut [Line<f32>]) -> bool {
    let step = match kernel {
        Kernel::Avx512Vnni => 7,
        Kernel::AvxVnni | Kernel::Avx2 => 6,
        _ => return false,
    };
    let len = part.lines.len() * size_of::<Quad>();
    let (wide, wide_stride) = inputs.widened.rows();
    let (there, stride) = match kernel {
        Kernel::Avx2 => (wide.len(), wide_stride),
        _ => (inputs.rows.bytes.len(), inputs.rows.stride),
    };
    let last = out.len().saturating_sub(1);
    assert!(out.is_empty() || last * stride + len <= there, "rows are too short");
    assert!(out.is_empty() || last * inputs.scales.1 < inputs.scales.0.len(), "scales of rows");
    assert!(
        part.offsets.is_empty() || last * inputs.sums.1 + part.offsets.len() <= inputs.sums.0.len(),
        "sums of rows"
    );
    for (i, out) in out.chunks_mut(step).enumerate() {
        let first = i * step;
        let (scales, sums) = (&inputs.scales.0[first * inputs.scales.1..], &inputs.sums.0[first * inputs.sums.1..]);
        let distances = [inputs.scales.1, inputs.sums.1];
        let bytes = Tile { rows: inputs.rows.bytes.as_ptr(), stride, scales, sums, distances };
        let bytes = Tile { rows: bytes.rows.wrapping_add(first * stride), ..bytes };
        let words = Tile { rows: wide.as_ptr().wrapping_add(first * stride), stride, scales, sums, distances };
        // SAFETY: all rows are as long as checked above, and the machine has what `Kernel::current` looked for.
        unsafe {
            match kernel {
                Kernel::Avx512Vnni => by_rows!(avx512_rows, out.len(), (bytes, part, out), 1 2 3 4 5 6 7),
                Kernel::AvxVnni => {
                    for half in 0..2 {
                        by_rows!(avx_vnni_rows, out.len(), (bytes, part, out, half), 1 2 3 4 5 6);
                    }
                }
                _ => {
                    for half in 0..2 {
                        by_rows!(avx2_rows, out.len(), (words, part, out, half), 1 2 3 4 5 6);
                    }
                }
            }
        }
    }
    true
}

/// Up to 7 rows: 14 sums of a group and 14 over groups, two registers of the panel, one of four inputs.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")]
unsafe fn avx512_rows<const R: usize>(tile: Tile<u8>, part: &Part, out: &mut [Line<f32>]) {
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    let mut rows = tile.rows;
    for (group, lines) in part.lines.chunks_exact(part.depth).enumerate() {
        // SAFETY: a line is two registers; rows as the caller vouches.
        unsafe {
            let start = part.starts[group].0.as_ptr();
            let start = [_mm512_load_si512(start.cast()), _mm512_load_si512(start.add(16).cast())];
            let mut products = [start; R];
            for line in lines {
                let at = line.0.as_ptr();
                let (low, high) = (_mm512_load_si512(at.cast()), _mm512_load_si512(at.add(16).cast()));
                for (row, products) in products.iter_mut().enumerate() {
                    let inputs = _mm512_set1_epi32(rows.add(row * tile.stride).cast::<i32>().read_unaligned());
                    products[0] = _mm512_dpbusd_epi32(products[0], inputs, low);
                    products[1] = _mm512_dpbusd_epi32(products[1], inputs, high);
                }
                rows = rows.wrapping_add(4);
            }
            let scale = part.scales[group].0.as_ptr();
            let scale = [_mm512_load_ps(scale), _mm512_load_ps(scale.add(16))];
            for (sums, products) in sums.iter_mut().zip(products) {
                for half in 0..2 {
                    sums[half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[half]), scale[half], sums[half]);
                }
            }
            if let Some(offset) = part.offsets.get(group) {
                let offset = offset.0.as_ptr();
                let offset = [_mm512_load_ps(offset), _mm512_load_ps(offset.add(16))];
                for (row, sums) in sums.iter_mut().enumerate() {
                    let of_inputs = _mm512_set1_ps(*tile.sums.get_unchecked(row * tile.distances[1] + group));
                    for half in 0..2 {
                        sums[half] = _mm512_fmadd_ps(of_inputs, offset[half], sums[half]);
                    }
                }
            }
        }
    }
    for (row, (sums, out)) in sums.into_iter().zip(out).enumerate() {
        let scale = _mm512_set1_ps(tile.scales[row * tile.distances[0]]);
        for (half, sum) in sums.into_iter().enumerate() {
            // SAFETY: a line is two registers.
            unsafe {
                let at = out.0.as_mut_ptr().add(16 * half);
                _mm512_store_ps(at, _mm512_fmadd_ps(sum, scale, _mm512_load_ps(at)));
            }
        }
    }
}

/// Defines the tile of up to 6 rows of half a panel: 12 sums of a group, two registers of the panel, one of inputs; sums over
/// groups are in memory. `$multiply` adds the products of a line of one group to its sums.
macro_rules! halves {
    ($name:ident, $features:literal, $input:ty, $multiply:ident) => {
        #[target_feature(enable = $features)]
        unsafe fn $name<const R: usize>(tile: Tile<$input>, part: &Part, out: &mut [Line<f32>], half: usize) {
            let first = 16 * half;
            let mut sums = [[_mm256_setzero_ps(); 2]; R];
            let mut rows = tile.rows;
            for (group, lines) in part.lines.chunks_exact(part.depth).enumerate() {
                // SAFETY: half a line is two registers; rows as the caller vouches.
                unsafe {
                    let start = part.starts[group].0.as_ptr().add(first);
                    let start = [_mm256_load_si256(start.cast()), _mm256_load_si256(start.add(8).cast())];
                    let mut products = [start; R];
                    for line in lines {
                        $multiply::<R>(rows, tile.stride, line, first, &mut products);
                        rows = rows.wrapping_add(4);
                    }
                    let scale = part.scales[group].0.as_ptr().add(first);
                    let scale = [_mm256_load_ps(scale), _mm256_load_ps(scale.add(8))];
                    for (sums, products) in sums.iter_mut().zip(products) {
                        for i in 0..2 {
                            sums[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products[i]), scale[i], sums[i]);
                        }
                    }
                    if let Some(offset) = part.offsets.get(group) {
                        let offset = offset.0.as_ptr().add(first);
                        let offset = [_mm256_load_ps(offset), _mm256_load_ps(offset.add(8))];
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let of_inputs = _mm256_set1_ps(*tile.sums.get_unchecked(row * tile.distances[1] + group));
                            for i in 0..2 {
                                sums[i] = _mm256_fmadd_ps(of_inputs, offset[i], sums[i]);
                            }
                        }
                    }
                }
            }
            for (row, (sums, out)) in sums.into_iter().zip(out).enumerate() {
                let scale = _mm256_set1_ps(tile.scales[row * tile.distances[0]]);
                for (i, sum) in sums.into_iter().enumerate() {
                    // SAFETY: half a line is two registers.
                    unsafe {
                        let at = out.0.as_mut_ptr().add(first + 8 * i);
                        _mm256_store_ps(at, _mm256_fmadd_ps(sum, scale, _mm256_load_ps(at)));
                    }
                }
            }
        }
    };
}

halves!(avx_vnni_rows, "avx2,fma,avxvnni", u8, dot_products);
halves!(avx2_rows, "avx2,fma", u16, pair_products);

/// # Safety
/// `R` rows of four bytes.
#[inline]
#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn dot_products<const R: usize>(
    rows: *const u8,
    stride: usize,
    line: &Line<Quad>,
    first: usize,
    products: &mut [[__m256i; 2]; R],
) {
    // SAFETY: half a line is two registers; rows as the caller vouches.
    unsafe {
        let at = line.0.as_ptr().add(first);
        let (low, high) = (_mm256_load_si256(at.cast()), _mm256_load_si256(at.add(8).cast()));
        for (row, products) in products.iter_mut().enumerate() {
            let inputs = _mm256_set1_epi32(rows.add(row * stride).cast::<i32>().read_unaligned());
            products[0] = _mm256_dpbusd_avx_epi32(products[0], inputs, low);
            products[1] = _mm256_dpbusd_avx_epi32(products[1], inputs, high);
        }
    }
}

/// # Safety
/// `R` rows of four words.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn pair_products<const R: usize>(
    rows: *const u16,
    stride: usize,
    line: &Line<Quad>,
    first: usize,
    products: &mut [[__m256i; 2]; R],
) {
    for pair in 0..2 {
        // SAFETY: half a line has the first pair of inputs for all columns, the other half the second; rows as the caller
        // vouches.
        unsafe {
            let at = line.0.as_ptr().cast::<i8>().add(2 * (pair * COLUMNS + first));
            let low = _mm256_cvtepi8_epi16(_mm_load_si128(at.cast()));
            let high = _mm256_cvtepi8_epi16(_mm_load_si128(at.add(16).cast()));
            for (row, products) in products.iter_mut().enumerate() {
                let inputs = _mm256_set1_epi32(rows.add(row * stride + 2 * pair).cast::<i32>().read_unaligned());
                products[0] = _mm256_add_epi32(products[0], _mm256_madd_epi16(inputs, low));
                products[1] = _mm256_add_epi32(products[1], _mm256_madd_epi16(inputs, high));
            }
        }
    }
}

/// Puts 32 inputs of eight columns in their places, for kernels that multiply quads or pairs of inputs in whole registers.
#[allow(clippy::inline_always)]
#[inline(always)]
pub fn place(kernel: Kernel, levels: [&[i8; PIECE]; BESIDE], column: usize, lines: &mut [i8]) -> bool {
    let pairs = match kernel {
        Kernel::Avx512Vnni | Kernel::AvxVnni => false,
        Kernel::Avx2 => true,
        _ => return false,
    };
    assert!(lines.len() >= PIECE * COLUMNS && column + BESIDE <= COLUMNS, "a piece of a panel");
    // SAFETY: these kernels are there with AVX2 only, and the places are within the piece.
    unsafe { place_256(levels, lines.as_mut_ptr(), pairs, column) };
    true
}

/// Eight quads of eight columns change places; of each quad's columns, first pairs go to the first half of a line, second ones
/// to the other, if they are to be multiplied so.
///
/// # Safety
/// AVX2; eight lines at `to`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn place_256(levels: [&[i8; PIECE]; BESIDE], to: *mut i8, pairs: bool, column: usize) {
    // SAFETY: 32 bytes of each column, and whole lines, as the caller vouches.
    unsafe {
        let rows = levels.map(|levels| _mm256_loadu_si256(levels.as_ptr().cast()));
        let two =
            |a: usize, b: usize| [_mm256_unpacklo_epi32(rows[a], rows[b]), _mm256_unpackhi_epi32(rows[a], rows[b])];
        let ([a, b], [c, d], [e, f], [g, h]) = (two(0, 1), two(2, 3), two(4, 5), two(6, 7));
        let four = |low, high| [_mm256_unpacklo_epi64(low, high), _mm256_unpackhi_epi64(low, high)];
        let ([a, b], [c, d]) = (four(a, c), four(b, d));
        let ([e, f], [g, h]) = (four(e, g), four(f, h));
        let first = [(a, e), (b, f), (c, g), (d, h)];
        for (quad, (low, high)) in first.into_iter().enumerate() {
            let quads = [_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high)];
            for (half, eight) in quads.into_iter().enumerate() {
                let line = to.add((quad + 4 * half) * 4 * COLUMNS);
                if !pairs {
                    _mm256_storeu_si256(line.add(4 * column).cast(), eight);
                    continue;
                }
                let order = _mm256_setr_epi8(
                    0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11,
                    14, 15,
                );
                let split = _mm256_permute4x64_epi64::<0xd8>(_mm256_shuffle_epi8(eight, order));
                let line = line.add(2 * column);
                _mm_storeu_si128(line.cast(), _mm256_castsi256_si128(split));
                _mm_storeu_si128(line.add(2 * COLUMNS).cast(), _mm256_extracti128_si256::<1>(split));
            }
        }
    }
}

//! Products of strided f32 matrices, on the `gemm` crate.
//!
//! It adds along `k` in an order that depends on the shapes alone, so threads do not change the bits.
#![allow(unsafe_code)]

use super::shared::SharedMut;
pub(super) use gemm::Parallelism;

/// A matrix to read: element `(i, j)` is `data[i * row + j * column]`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub column: usize,
}

/// A matrix to write: element `(i, j)` is `data[offset + i * row + j * column]`.
#[derive(Clone, Copy)]
pub(super) struct MatrixMut<'a> {
    pub data: &'a SharedMut<'a, f32>,
    pub offset: usize,
    pub row: usize,
    pub column: usize,
}

/// `out += lhs [m, k] · rhs [k, n]`, with the threads of `parallelism`: none within a task of its own.
///
/// # Safety
/// No two elements of `out` coincide, and nobody else uses them meanwhile.
pub(super) unsafe fn multiply_add(
    [m, n, k]: [usize; 3],
    out: MatrixMut,
    lhs: Matrix,
    rhs: Matrix,
    parallelism: Parallelism,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!((m - 1) * lhs.row + (k - 1) * lhs.column < lhs.data.len(), "left matrix is too short");
    assert!((k - 1) * rhs.row + (n - 1) * rhs.column < rhs.data.len(), "right matrix is too short");
    let last = out.offset + (m - 1) * out.row + (n - 1) * out.column;
    // SAFETY: all three matrices lie within their slices by the checks above; the output is the caller's own.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.data.pointer(out.offset, last),
            out.column as isize,
            out.row as isize,
            true,
            lhs.data.as_ptr(),
            lhs.column as isize,
            lhs.row as isize,
            rhs.data.as_ptr(),
            rhs.column as isize,
            rhs.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

//! Rotary position embedding.

use crate::profile::{Work, timed};
use crate::{cpu, cuda, on_cuda, reference};
use candle_core::{Result, Tensor, bail};

/// [`rms_norm`](crate::rms_norm) of `x [B, L, N, D]` over all heads together, times `weight [N·D]`, followed by [`rope`],
/// in one pass and all in f32.
pub fn rms_norm_rope(x: &Tensor, weight: &Tensor, eps: f64, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    check("rms_norm_rope", x, cos, sin)?;
    let (_, _, n, d) = x.dims4()?;
    if weight.dims() != [n * d] {
        bail!("rms_norm_rope: weight {:?} does not fit x {:?}", weight.dims(), x.dims());
    }
    timed("rms_norm_rope", Work::Moves, || {
        if cpu::supports(x) {
            return cpu::rms_norm_rope(x, weight, eps, cos, sin);
        }
        on_cuda!(x, cuda::rms_norm_rope(x, weight, eps, cos, sin));
        reference::rms_norm_rope(x, weight, eps, cos, sin)
    })
}

/// [`rms_norm`](crate::rms_norm) of `x [B, L, N, D]` over all heads together, times `weight [N·D]`, followed by the rotation of
/// each channel of a head's first half with that of its second half, in one pass and all in f32. Every head has angles of its
/// own, whose `cos`, `sin` are f32 `[L, N·D/2]`.
pub fn rms_norm_rope_split(x: &Tensor, weight: &Tensor, eps: f64, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (_, l, n, d) = x.dims4()?;
    if d == 0 || d % 2 != 0 || cos.dims() != [l, n * d / 2] || sin.dims() != cos.dims() || weight.dims() != [n * d] {
        let (x, weight, cos, sin) = (x.dims(), weight.dims(), cos.dims(), sin.dims());
        bail!("rms_norm_rope_split: x {x:?}, weight {weight:?}, cos {cos:?}, sin {sin:?} do not fit");
    }
    timed("rms_norm_rope_split", Work::Moves, || {
        if cpu::supports(x) {
            return cpu::rms_norm_rope_split(x, weight, eps, cos, sin);
        }
        on_cuda!(x, cuda::rms_norm_rope_split(x, weight, eps, cos, sin));
        reference::rms_norm_rope_split(x, weight, eps, cos, sin)
    })
}

/// Rotates interleaved pairs of `x [B, L, N, D]` by angles whose `cos`, `sin` are f32 `[L, D/2]`; `x`'s dtype.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    check("rope", x, cos, sin)?;
    timed("rope", Work::Moves, || {
        if cpu::supports(x) {
            return cpu::rope(x, cos, sin);
        }
        on_cuda!(x, cuda::rope(x, cos, sin));
        reference::rope(x, cos, sin)
    })
}

fn check(operator: &str, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<()> {
    let (_, l, _, d) = x.dims4()?;
    if d == 0 || d % 2 != 0 || cos.dims() != [l, d / 2] || sin.dims() != cos.dims() {
        bail!("{operator}: x {:?}, cos {:?}, sin {:?} do not fit", x.dims(), cos.dims(), sin.dims());
    }
    Ok(())
}

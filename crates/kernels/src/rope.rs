//! Rotary position embedding.

use crate::profile::{Work, timed};
use crate::{cpu, reference};
use candle_core::{Result, Tensor, bail};

/// Rotates interleaved pairs of `x [B, L, N, D]` by angles whose `cos`, `sin` are f32 `[L, D/2]`; `x`'s dtype.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (_, l, _, d) = x.dims4()?;
    if d == 0 || d % 2 != 0 || cos.dims() != [l, d / 2] || sin.dims() != cos.dims() {
        bail!("rope: x {:?}, cos {:?}, sin {:?} do not fit", x.dims(), cos.dims(), sin.dims());
    }
    timed("rope", Work::Moves, || if cpu::supports(x) { cpu::rope(x, cos, sin) } else { reference::rope(x, cos, sin) })
}

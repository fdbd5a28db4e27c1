//! Scaled dot-product attention.

use crate::profile::{Work, timed};
use crate::{cpu, cuda, on_cuda, reference};
use candle_core::{Result, Tensor, bail};

/// The most scores that are held at a time where no kernel does without holding them.
const SCORES: usize = 1 << 28;

/// `softmax(scale · q kᵀ + bias) v` over `q [B, L, N, D]`, `k v [B, S, N, D]`, `bias [1|B, 1|N, 1|L, S]` → `[B, L, N, D]`.
///
/// Scores and sums are f32; the result has `q`'s dtype. Where products of bf16 are faster (GPUs, some CPUs), the
/// exponentials of bf16 inputs are rounded to bf16 before values are multiplied by them.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    check(q, k, v, bias)?;
    timed("attention", work(q, k), || {
        if cpu::supports(q) {
            return cpu::attention(q, k, v, scale, None, bias);
        }
        on_cuda!(q, cuda::attention(q, k, v, scale, bias));
        in_parts(q, k, v, scale, bias)
    })
}

/// [`attention`] with a second bias that depends on the distance from query to key alone: `relative [N, L + S - 1]`, of
/// which element `key - query + L - 1` is added to a score.
pub fn attention_relative(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f64,
    relative: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    check(q, k, v, bias)?;
    let (_, l, n, _) = q.dims4()?;
    if relative.dims() != [n, (l + k.dim(1)?).saturating_sub(1)] {
        bail!("attention: relative bias {:?} does not fit q {:?}, k {:?}", relative.dims(), q.dims(), k.dims());
    }
    timed("attention", work(q, k), || {
        if cpu::supports(q) {
            cpu::attention(q, k, v, scale, Some(relative), bias)
        } else {
            reference::attention_relative(q, k, v, scale, relative, bias)
        }
    })
}

/// [`attention`] with queries and keys quantised to 8 bits, and values rounded to bf16, on machines where that is faster;
/// plain [`attention`] elsewhere.
pub fn attention_int8(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    check(q, k, v, bias)?;
    timed("attention_int8", Work::Int8(operations(q, k)), || {
        if cpu::supports(q) {
            return cpu::attention_int8(q, k, v, scale, bias);
        }
        on_cuda!(q, cuda::attention(q, k, v, scale, bias));
        in_parts(q, k, v, scale, bias)
    })
}

/// [`attention`] with queries, keys and values quantised to 8-bit floating point, on GPUs where that is faster; plain
/// [`attention`] elsewhere.
pub fn attention_fp8(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    check(q, k, v, bias)?;
    timed("attention_fp8", Work::F32(operations(q, k)), || {
        if cpu::supports(q) {
            return cpu::attention(q, k, v, scale, None, bias);
        }
        on_cuda!(q, cuda::attention_fp8(q, k, v, scale, bias));
        in_parts(q, k, v, scale, bias)
    })
}

/// Computes the reference over so few queries at a time that the scores stay small.
fn in_parts(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, bias: Option<&Tensor>) -> Result<Tensor> {
    let (b, l, n, _) = q.dims4()?;
    let part = (SCORES / (b * n * k.dim(1)?).max(1)).max(1);
    if l <= part {
        return reference::attention(q, k, v, scale, bias);
    }
    let parts = (0..l).step_by(part).map(|first| {
        let len = part.min(l - first);
        let bias = bias.map(|bias| if bias.dim(2)? == 1 { Ok(bias.clone()) } else { bias.narrow(2, first, len) });
        reference::attention(&q.narrow(1, first, len)?, k, v, scale, bias.transpose()?.as_ref())
    });
    Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 1)
}

/// Returns the operations of [`attention`], by their arithmetic.
fn work(q: &Tensor, k: &Tensor) -> Work {
    let bf16 = q.device().is_cpu() && cpu::multiplies_bf16(q.dtype());
    if bf16 { Work::Bf16(operations(q, k)) } else { Work::F32(operations(q, k)) }
}

pub(crate) fn operations(q: &Tensor, k: &Tensor) -> f64 {
    4.0 * q.elem_count() as f64 * k.dims()[1] as f64
}

pub(crate) fn check(q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    let (b, l, n, d) = q.dims4()?;
    let (_, s, _, _) = k.dims4()?;
    if k.dims() != [b, s, n, d] || v.dims() != k.dims() || s == 0 {
        bail!("attention: q {:?}, k {:?}, v {:?} do not fit", q.dims(), k.dims(), v.dims());
    }
    if k.dtype() != q.dtype() || v.dtype() != q.dtype() {
        bail!("attention: q is {:?}, k {:?}, v {:?}", q.dtype(), k.dtype(), v.dtype());
    }
    let fits = |size: usize, of: usize| size == 1 || size == of;
    if let Some(bias) = bias
        && !matches!(*bias.dims(), [bb, bn, bl, bs] if fits(bb, b) && fits(bn, n) && fits(bl, l) && bs == s)
    {
        bail!("attention: bias {:?} does not fit q {:?}, k {:?}", bias.dims(), q.dims(), k.dims());
    }
    Ok(())
}

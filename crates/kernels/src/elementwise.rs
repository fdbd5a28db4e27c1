//! Elementwise operators, fused where that saves a pass over memory; all in f32, and the result has `x`'s dtype.

use crate::profile::{Work, timed};
use crate::{cpu, cuda, on_cuda, reference};
use candle_core::{Result, Tensor, bail};

/// `x · (1 + scale) + shift`; `scale`, `shift` are `[1|B, 1|L, C]` over `x [B, L, C]`.
pub fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    check_modulation("modulate", x, &[shift, scale])?;
    timed("modulate", Work::Moves, || {
        if cpu::supports(x) {
            return cpu::modulate(x, shift, scale);
        }
        on_cuda!(x, cuda::modulate(x, shift, scale));
        reference::modulate(x, shift, scale)
    })
}

/// `x + y · gate`; `gate` is `[1|B, 1|L, C]` over `x y [B, L, C]`.
pub fn gate_residual(x: &Tensor, y: &Tensor, gate: &Tensor) -> Result<Tensor> {
    check_modulation("gate_residual", x, &[gate])?;
    if y.dims() != x.dims() {
        bail!("gate_residual: y {:?} does not fit x {:?}", y.dims(), x.dims());
    }
    timed("gate_residual", Work::Moves, || {
        if cpu::supports(x) {
            return cpu::gate_residual(x, y, gate);
        }
        on_cuda!(x, cuda::gate_residual(x, y, gate));
        reference::gate_residual(x, y, gate)
    })
}

/// `y · 2 · sigmoid(gates)`: one gate `[B, L, N]` for each head of `y [B, L, N, D]`, open at a gate of 0.
pub fn gate_heads(y: &Tensor, gates: &Tensor) -> Result<Tensor> {
    let (b, l, n, _) = y.dims4()?;
    if gates.dims() != [b, l, n] {
        bail!("gate_heads: gates {:?} do not fit y {:?}", gates.dims(), y.dims());
    }
    timed("gate_heads", Work::Moves, || {
        if cpu::supports(y) {
            return cpu::gate_heads(y, gates);
        }
        on_cuda!(y, cuda::gate_heads(y, gates));
        reference::gate_heads(y, gates)
    })
}

/// GELU, tanh approximation.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    timed("gelu_tanh", Work::Moves, || {
        if cpu::supports(x) {
            return cpu::gelu_tanh(x);
        }
        on_cuda!(x, cuda::activate(x, 1));
        reference::gelu_tanh(x)
    })
}

/// GELU, exact.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    timed("gelu_erf", Work::Moves, || {
        on_cuda!(x, cuda::activate(x, 2));
        reference::gelu_erf(x)
    })
}

/// `x · sigmoid(x)`.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    timed("silu", Work::Moves, || {
        if cpu::supports(x) {
            return cpu::silu(x);
        }
        on_cuda!(x, cuda::activate(x, 0));
        reference::silu(x)
    })
}

/// `x`, or `slope · x` where `x` is negative; `slope` is below 1.
pub fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    timed("leaky_relu", Work::Moves, || {
        if cpu::supports(x) {
            return cpu::leaky_relu(x, slope);
        }
        reference::leaky_relu(x, slope)
    })
}

/// `(x + y) · (sigmoid(y) - 1/2)`, the parameter-free attention of SPAN (<https://arxiv.org/abs/2311.12770>) over the
/// result `y` of a block and its input `x`, which have one shape.
pub fn parameter_free_attention(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if y.dims() != x.dims() {
        bail!("parameter_free_attention: y {:?} does not fit x {:?}", y.dims(), x.dims());
    }
    timed("parameter_free_attention", Work::Moves, || {
        if cpu::supports(x) {
            return cpu::parameter_free_attention(x, y);
        }
        reference::parameter_free_attention(x, y)
    })
}

/// Checks that each of `parameters` is `[1|B, 1|L, C]` over `x [B, L, C]`.
pub(crate) fn check_modulation(operator: &str, x: &Tensor, parameters: &[&Tensor]) -> Result<()> {
    let (b, l, c) = x.dims3()?;
    for parameter in parameters {
        let (pb, pl, pc) = parameter.dims3()?;
        if (pb != 1 && pb != b) || (pl != 1 && pl != l) || pc != c {
            bail!("{operator}: parameter {:?} does not fit x {:?}", parameter.dims(), x.dims());
        }
    }
    Ok(())
}

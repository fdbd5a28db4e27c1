//! Dense linear layers.

use crate::{cpu, reference};
use candle_core::{Result, Tensor, bail};

/// `x [.., K] · weightᵀ [N, K] + bias [N]` → `[.., N]`, in the dtype that `x` and `weight` share; sums are f32.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    if x.dims().last() != Some(&inputs) || inputs == 0 {
        bail!("linear: x {:?} does not fit weight {:?}", x.dims(), weight.dims());
    }
    if x.dtype() != weight.dtype() {
        bail!("linear: x is {:?}, weight {:?}", x.dtype(), weight.dtype());
    }
    if let Some(bias) = bias
        && bias.dims() != [outputs]
    {
        bail!("linear: bias {:?} does not fit weight {:?}", bias.dims(), weight.dims());
    }
    if cpu::supports(x) { cpu::linear(x, weight, bias) } else { reference::linear(x, weight, bias) }
}

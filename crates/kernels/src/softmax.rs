//! The softmax of tensors that are small, or that no kernel of ours takes.

use candle_core::{D, Result, Tensor};

/// `x [.., S]` → the exponentials of its last dimension, divided by their sum. They are taken of differences to the largest, so that none
/// overflows.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let exponentials = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    exponentials.broadcast_div(&exponentials.sum_keepdim(D::Minus1)?)
}

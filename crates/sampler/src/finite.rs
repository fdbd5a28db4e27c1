//! Detection of NaN and infinity.

use candle_core::{DType, Tensor};

use crate::Error;

/// Returns whether every element of a float tensor of any shape is finite. Takes one pass on the tensor's device.
pub fn all_finite(x: &Tensor) -> candle_core::Result<bool> {
    if x.elem_count() == 0 {
        return Ok(true);
    }
    // 0·NaN and 0·∞ are NaN, and no sum with a NaN in it is 0.
    let sum = (x * 0.0)?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?;
    Ok(sum == 0.0)
}

/// Checks that every element of `x` is finite.
///
/// # Errors
/// [`Error::NotFinite`] with the description `what`.
pub fn check_finite(x: &Tensor, what: impl FnOnce() -> String) -> Result<(), Error> {
    if all_finite(x)? { Ok(()) } else { Err(Error::NotFinite { what: what() }) }
}

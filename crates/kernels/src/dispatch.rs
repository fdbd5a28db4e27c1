//! [`on_cuda`]: how entry functions try the CUDA version of an operator.

/// Returns the result of `$call`, a function of `cuda` that returns `Result<Option<_>>`, if `$x` is on a CUDA device and
/// the kernel takes the operands; does nothing otherwise.
macro_rules! on_cuda {
    ($x:expr, $call:expr) => {
        if $x.device().is_cuda()
            && let Some(out) = $call?
        {
            return Ok(out);
        }
    };
}
pub(crate) use on_cuda;

//! [`on_cuda`]: how entry functions try the CUDA version of an operator.

/// Returns the result of `$call`, a function of `cuda` that gives `Result<Option<_>>`, where `$x` lies on a CUDA device
/// and the kernel takes the operands; goes on otherwise, and always in builds without CUDA.
macro_rules! on_cuda {
    ($x:expr, $call:expr) => {
        #[cfg(feature = "cuda")]
        if $x.device().is_cuda()
            && let Some(out) = $call?
        {
            return Ok(out);
        }
    };
}
pub(crate) use on_cuda;

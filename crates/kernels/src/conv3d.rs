//! 3-D convolution (and 2-D, as a kernel of one temporal tap).

use crate::profile::{Work, timed};
use crate::{cpu, reference};
use candle_core::{Result, Tensor, bail};

/// Strides and zero padding of [`conv3d`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv3dOptions {
    /// Strides over frames, rows, columns.
    pub stride: [usize; 3],
    /// Zeros before and after, over frames, rows, columns.
    pub padding: [(usize, usize); 3],
}

impl Default for Conv3dOptions {
    fn default() -> Self {
        Self { stride: [1; 3], padding: [(0, 0); 3] }
    }
}

/// 3-D convolution of `x [B, C, F, H, W]` with `weight [O, C, kf, kh, kw]` and `bias [O]` → `[B, O, F', H', W']`.
pub fn conv3d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, options: Conv3dOptions) -> Result<Tensor> {
    let out_size = check(x, weight, bias, options)?;
    let positions = x.dim(0)? * out_size.iter().product::<usize>();
    // As a direct convolution, whatever way is taken to the result.
    let work = Work::F32(2.0 * positions as f64 * weight.elem_count() as f64);
    timed("conv3d", work, || {
        if cpu::supports(x) {
            cpu::conv3d(x, weight, bias, options, out_size)
        } else {
            reference::conv3d(x, weight, bias, options)
        }
    })
}

/// Frames, rows and columns of the result.
fn check(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, options: Conv3dOptions) -> Result<[usize; 3]> {
    let (_, channels, f, h, w) = x.dims5()?;
    let (outputs, inputs, kf, kh, kw) = weight.dims5()?;
    if inputs != channels || x.dtype() != weight.dtype() {
        let (x, weight) = ((x.dtype(), x.dims()), (weight.dtype(), weight.dims()));
        bail!("conv3d: x {x:?} does not fit weight {weight:?}");
    }
    if let Some(bias) = bias
        && bias.dims() != [outputs]
    {
        bail!("conv3d: bias {:?} does not fit weight {:?}", bias.dims(), weight.dims());
    }
    let mut out_size = [0; 3];
    for (axis, (size, kernel)) in [(f, kf), (h, kh), (w, kw)].into_iter().enumerate() {
        let (stride, (before, after)) = (options.stride[axis], options.padding[axis]);
        let padded = size + before + after;
        if stride == 0 || kernel == 0 || padded < kernel {
            bail!("conv3d: {options:?} does not fit x {:?}, weight {:?}", x.dims(), weight.dims());
        }
        out_size[axis] = (padded - kernel) / stride + 1;
    }
    Ok(out_size)
}

//! [`Element`]: the dtypes that the CPU kernels read and write, all computed in f32.

use candle_core::WithDType;
use half::{bf16, f16, slice::HalfFloatSliceExt};

/// A dtype of tensors. Slices have equal lengths.
pub(super) trait Element: WithDType {
    /// Converts `x` exactly.
    fn widen(x: &[Self], out: &mut [f32]);

    /// Rounds `x` to this dtype.
    fn round_from(x: &[f32], out: &mut [Self]);

    /// Rounds `x` to bf16.
    fn to_bf16(x: &[Self], out: &mut [bf16]);

    /// Returns `x` itself if it is f32, otherwise a copy in `scratch`.
    #[inline(always)]
    fn as_f32<'a>(x: &'a [Self], scratch: &'a mut Vec<f32>) -> &'a [f32] {
        scratch.resize(x.len(), 0.0);
        Self::widen(x, scratch);
        scratch
    }

    /// Returns `x` if it is f32.
    #[inline(always)]
    fn if_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }

    /// Lets `write` fill `out`, directly where it is f32, otherwise through `scratch`; `write` sees arbitrary values.
    #[inline(always)]
    fn write_f32(out: &mut [Self], scratch: &mut Vec<f32>, mut write: impl FnMut(&mut [f32])) {
        scratch.resize(out.len(), 0.0);
        write(scratch);
        Self::round_from(scratch, out);
    }
}

impl Element for f32 {
    #[inline(always)]
    fn widen(x: &[Self], out: &mut [f32]) {
        out.copy_from_slice(x);
    }

    #[inline(always)]
    fn round_from(x: &[f32], out: &mut [Self]) {
        out.copy_from_slice(x);
    }

    #[inline(always)]
    fn to_bf16(x: &[Self], out: &mut [bf16]) {
        bf16::round_from(x, out);
    }

    #[inline(always)]
    fn as_f32<'a>(x: &'a [Self], _: &'a mut Vec<f32>) -> &'a [f32] {
        x
    }

    #[inline(always)]
    fn if_f32(x: &[Self]) -> Option<&[f32]> {
        Some(x)
    }

    #[inline(always)]
    fn write_f32(out: &mut [Self], _: &mut Vec<f32>, mut write: impl FnMut(&mut [f32])) {
        write(out);
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn widen(x: &[Self], out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = f32::from_bits(u32::from(x.to_bits()) << 16);
        }
    }

    /// Rounds to nearest, ties to even, with a select where a branch would keep the loop from being vectorised.
    #[inline(always)]
    fn round_from(x: &[f32], out: &mut [Self]) {
        for (out, x) in out.iter_mut().zip(x) {
            let bits = x.to_bits();
            let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1))) >> 16;
            let quiet_nan = (bits >> 16) | 0x40;
            *out = bf16::from_bits(if x.is_nan() { quiet_nan } else { rounded } as u16);
        }
    }

    #[inline(always)]
    fn to_bf16(x: &[Self], out: &mut [bf16]) {
        out.copy_from_slice(x);
    }
}

impl Element for f16 {
    #[inline(always)]
    fn widen(x: &[Self], out: &mut [f32]) {
        x.convert_to_f32_slice(out);
    }

    #[inline(always)]
    fn round_from(x: &[f32], out: &mut [Self]) {
        out.convert_from_f32_slice(x);
    }

    #[inline(always)]
    fn to_bf16(x: &[Self], out: &mut [bf16]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = bf16::from_f32(x.to_f32());
        }
    }
}

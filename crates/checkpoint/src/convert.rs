//! Conversion of stored bytes to tensors: one pass from the file to the requested dtype, which checks every value.

use crate::data::Data;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor, WithDType};
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use kinora_formats::{Format, f32_from_e4m3, f32_from_e5m2};
use rayon::prelude::*;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// The number of elements read and converted at a time: few enough for the caches, enough for a disk.
const CHUNK: usize = 1 << 18;

/// Stored elements, row-major and little endian.
pub(crate) enum Elements<'a> {
    Bytes(Vec<u8>),
    /// The bytes at this place of a file.
    File(&'a Data, Range<usize>),
}

impl Elements<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(_, range) => range.len(),
        }
    }

    /// Reads `out` from the position `start`.
    fn read(&self, start: usize, out: &mut [u8]) -> std::io::Result<()> {
        match self {
            Self::Bytes(bytes) => out.copy_from_slice(&bytes[start..start + out.len()]),
            Self::File(data, range) => data.read(range.start + start, out)?,
        }
        Ok(())
    }
}

/// Returns the weights in `elements` as a tensor of `dtype` and `shape` on `device`.
///
/// # Errors
/// NaN, infinite values, values that `dtype` cannot hold, and matrices of zeros; the error names the tensor. An
/// [`Error::Io`] without a path is that of the file.
pub(crate) fn weights_from(
    name: &str,
    elements: &Elements,
    stored: Format,
    shape: &[usize],
    wanted: &Wanted,
) -> Result<Tensor> {
    let to = Target { name, shape, wanted };
    match stored {
        Format::F32 => to.read::<f32>(elements),
        Format::Bf16 => to.read::<bf16>(elements),
        Format::F16 => to.read::<f16>(elements),
        Format::F64 => to.read::<f64>(elements),
        Format::F8E4m3 => to.read::<F8E4M3>(elements),
        Format::F8E5m2 => to.read::<F8E5M2>(elements),
        other => Err(Error::Dtype { name: name.to_string(), dtype: other.to_string() }),
    }
}

/// Returns the dtype that a weight has without a conversion. 8-bit floats become bf16, which holds all of them exactly.
pub(crate) fn weight_dtype(name: &str, stored: Format) -> Result<DType> {
    match stored {
        Format::F8E4m3 | Format::F8E5m2 => Ok(DType::BF16),
        Format::F32 | Format::Bf16 | Format::F16 | Format::F64 => candle_dtype(name, stored),
        other => Err(Error::Dtype { name: name.to_string(), dtype: other.to_string() }),
    }
}

/// Returns candle's dtype for a stored dtype.
pub(crate) fn candle_dtype(name: &str, format: Format) -> Result<DType> {
    match format {
        Format::F32 => Ok(DType::F32),
        Format::Bf16 => Ok(DType::BF16),
        Format::F16 => Ok(DType::F16),
        Format::F64 => Ok(DType::F64),
        Format::F8E4m3 => Ok(DType::F8E4M3),
        Format::U8 => Ok(DType::U8),
        Format::U32 => Ok(DType::U32),
        Format::I16 => Ok(DType::I16),
        Format::I32 => Ok(DType::I32),
        Format::I64 => Ok(DType::I64),
        other => Err(Error::Dtype { name: name.to_string(), dtype: other.to_string() }),
    }
}

/// Returns a CPU tensor from row-major bytes of any alignment.
pub(crate) fn tensor_from_bytes(bytes: &[u8], dtype: DType, shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_raw_buffer(bytes, dtype, shape, &Device::Cpu)?)
}

/// How a tensor is wanted.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) dtype: DType,
    pub(crate) device: &'a Device,
    /// Whether a matrix may be zero as a whole, because it is made so and may never have been trained.
    pub(crate) zeros: bool,
}

struct Target<'a> {
    name: &'a str,
    shape: &'a [usize],
    wanted: &'a Wanted<'a>,
}

impl Target<'_> {
    fn read<S: Stored>(&self, elements: &Elements) -> Result<Tensor> {
        match self.wanted.dtype {
            DType::F32 => self.convert::<S, f32>(elements),
            DType::BF16 => self.convert::<S, bf16>(elements),
            DType::F16 => self.convert::<S, f16>(elements),
            DType::F64 => self.convert::<S, f64>(elements),
            other => Err(Error::Dtype { name: self.name.to_string(), dtype: other.as_str().to_string() }),
        }
    }

    fn convert<S: Stored, T: Element>(&self, elements: &Elements) -> Result<Tensor> {
        let mut values = T::zeros(elements.len() / S::SIZE);
        let has_value = AtomicBool::new(false);
        let piece = |buffer: &mut Vec<u8>, (index, to): (usize, &mut [T])| {
            buffer.resize(to.len() * S::SIZE, 0);
            if let Err(error) = elements.read(index * CHUNK * S::SIZE, buffer) {
                return Some(Problem::Io(error));
            }
            let (mut finite, mut zero) = (true, true);
            for (value, bytes) in to.iter_mut().zip(buffer.chunks_exact(S::SIZE)) {
                *value = S::read(bytes);
                finite &= value.finite();
                zero &= *value == T::zero();
            }
            if !zero {
                has_value.store(true, Ordering::Relaxed);
            }
            if finite { None } else { first_bad::<S, T>(buffer).map(Problem::Value) }
        };
        let pieces = values.par_chunks_mut(CHUNK).enumerate();
        let problem = pieces.map_init(Vec::new, piece).find_map_any(|problem| problem);
        let name = || self.name.to_string();
        match problem {
            None if !self.wanted.zeros && self.is_matrix() && !has_value.into_inner() => {
                Err(Error::Zeros { name: name() })
            }
            None => Ok(Tensor::from_vec(values, self.shape, self.wanted.device)?),
            Some(Problem::Io(source)) => Err(Error::Io { path: PathBuf::new(), source }),
            Some(Problem::Value(value)) if value.is_finite() => {
                Err(Error::OutOfRange { name: name(), value, dtype: self.wanted.dtype.as_str() })
            }
            Some(Problem::Value(_)) => Err(Error::NotFinite { name: name() }),
        }
    }

    /// Whether the shape is that of a matrix, a kernel or a table, of which a vector is not one.
    fn is_matrix(&self) -> bool {
        self.shape.iter().filter(|size| **size > 1).count() > 1
    }
}

/// A fault of a piece of a tensor.
enum Problem {
    Io(std::io::Error),
    /// A value that is not a weight's.
    Value(f64),
}

fn first_bad<S: Stored, T: Element>(bytes: &[u8]) -> Option<f64> {
    bytes.chunks_exact(S::SIZE).find(|bytes| !S::read::<T>(bytes).finite()).map(S::read::<f64>)
}

/// An element as it is stored in a file.
trait Stored {
    const SIZE: usize;
    fn read<T: Element>(bytes: &[u8]) -> T;
}

/// An element of a loaded tensor.
pub(crate) trait Element: WithDType {
    /// Returns zeros straight from the allocator, so that the pages are first touched by the threads that fill them.
    fn zeros(len: usize) -> Vec<Self>;
    fn narrow_f32(value: f32) -> Self;
    fn narrow_f64(value: f64) -> Self;
    fn finite(self) -> bool;
}

struct F8E4M3;

impl Stored for F8E4M3 {
    const SIZE: usize = 1;
    fn read<T: Element>(bytes: &[u8]) -> T {
        T::narrow_f32(f32_from_e4m3(bytes[0]))
    }
}

struct F8E5M2;

impl Stored for F8E5M2 {
    const SIZE: usize = 1;
    fn read<T: Element>(bytes: &[u8]) -> T {
        T::narrow_f32(f32_from_e5m2(bytes[0]))
    }
}

macro_rules! stored {
    ($type:ty, $size:literal, $narrow:ident, $wide:expr) => {
        impl Stored for $type {
            const SIZE: usize = $size;
            fn read<T: Element>(bytes: &[u8]) -> T {
                let mut buffer = [0; $size];
                buffer.copy_from_slice(bytes);
                T::$narrow($wide(<$type>::from_le_bytes(buffer)))
            }
        }
    };
}

stored!(f32, 4, narrow_f32, f32::from);
stored!(bf16, 2, narrow_f32, f32::from);
stored!(f16, 2, narrow_f32, f32::from);
stored!(f64, 8, narrow_f64, f64::from);

macro_rules! element {
    ($type:ty, $zeros:expr, $f32:expr, $f64:expr) => {
        impl Element for $type {
            fn zeros(len: usize) -> Vec<Self> {
                $zeros(len)
            }
            fn narrow_f32(value: f32) -> Self {
                $f32(value)
            }
            fn narrow_f64(value: f64) -> Self {
                $f64(value)
            }
            fn finite(self) -> bool {
                self.is_finite()
            }
        }
    };
}

element!(f32, |len| vec![0.0; len], f32::from, |value| value as f32);
element!(f64, |len| vec![0.0; len], f64::from, f64::from);
element!(bf16, |len| vec![0u16; len].reinterpret_into(), bf16::from_f32, bf16::from_f64);
element!(f16, |len| vec![0u16; len].reinterpret_into(), f16::from_f32, f16::from_f64);

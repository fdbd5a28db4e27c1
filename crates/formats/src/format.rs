//! [`Format`]: what the bytes of a stored tensor mean.

use crate::Blocks;
use std::fmt::{Display, Formatter};

/// How the values of a tensor are written in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Format {
    F64,
    F32,
    F16,
    Bf16,
    /// e4m3fn.
    F8E4m3,
    F8E5m2,
    /// Powers of two.
    F8E8m0,
    F6E2m3,
    F6E3m2,
    /// Two values in a byte.
    F4,
    /// Two f32.
    C64,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    /// ggml's blocks.
    Blocks(Blocks),
}

impl Format {
    /// How many values share how many bytes, which cannot be divided.
    pub const fn unit(self) -> (usize, usize) {
        match self {
            Self::F64 | Self::I64 | Self::U64 | Self::C64 => (1, 8),
            Self::F32 | Self::I32 | Self::U32 => (1, 4),
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => (1, 2),
            Self::F8E4m3 | Self::F8E5m2 | Self::F8E8m0 | Self::I8 | Self::U8 | Self::Bool => (1, 1),
            Self::F6E2m3 | Self::F6E3m2 => (4, 3),
            Self::F4 => (2, 1),
            Self::Blocks(blocks) => (blocks.values(), blocks.bytes()),
        }
    }

    /// The bytes of so many values; `None` if they are no whole number of units, or too many.
    pub fn bytes(self, values: usize) -> Option<usize> {
        let (unit, bytes) = self.unit();
        values.is_multiple_of(unit).then(|| (values / unit).checked_mul(bytes))?
    }

    /// ggml's blocks, if it is of them.
    pub const fn blocks(self) -> Option<Blocks> {
        match self {
            Self::Blocks(blocks) => Some(blocks),
            _ => None,
        }
    }
}

impl Display for Format {
    /// Writes the name that files of the format use: `F8_E4M3`, `Q4_K`.
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::F8E4m3 => "F8_E4M3",
            Self::F8E5m2 => "F8_E5M2",
            Self::F8E8m0 => "F8_E8M0",
            Self::F6E2m3 => "F6_E2M3",
            Self::F6E3m2 => "F6_E3M2",
            Self::F4 => "F4",
            Self::C64 => "C64",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U64 => "U64",
            Self::U32 => "U32",
            Self::U16 => "U16",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
            Self::Blocks(blocks) => blocks.name(),
        })
    }
}

//! [`Level`]: which vector instructions the CPU kernels use, chosen at run time.
//!
//! The environment variable `KINORA_CPU` (`portable`, `avx2`, `avx-vnni`, `avx512`; on `AArch64` `portable`, `neon`,
//! `dotprod`, `i8mm`) lowers it, for tests of every path, and for machines with instructions that are slow. Instructions
//! that the machine lacks are never used.

use pulp::{Arch, NullaryFnOnce};
use std::str::FromStr;
use std::sync::OnceLock;

/// The variable that lowers the level.
pub const LEVEL_VARIABLE: &str = "KINORA_CPU";

/// Vector instructions, from those of every machine to the widest of each architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the compiler makes for every machine of the architecture (SSE2 on x86-64, NEON on `AArch64`).
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX2 with dot products of bytes in 256 bits.
    AvxVnni,
    /// AVX-512 F, BW, CD, DQ and VL.
    Avx512,
    /// NEON.
    Neon,
    /// NEON with dot products of bytes.
    Dotprod,
    /// NEON with products of small matrices of bytes and, where the machine has them, of bf16.
    I8mm,
}

impl Level {
    /// Every level, lowest first.
    pub const ALL: [Self; 7] =
        [Self::Portable, Self::Avx2, Self::AvxVnni, Self::Avx512, Self::Neon, Self::Dotprod, Self::I8mm];

    /// The level that kernels of this process use.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Level> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let asked = Self::asked().ok().flatten().unwrap_or(Self::I8mm);
            Self::of_machine().filter(|level| *level <= asked).last().unwrap_or(Self::Portable)
        })
    }

    /// Returns the level that [`LEVEL_VARIABLE`] names, if it is set. The kernels ignore an unknown name.
    pub fn asked() -> Result<Option<Self>, UnknownLevel> {
        std::env::var_os(LEVEL_VARIABLE).map(|name| name.to_string_lossy().parse()).transpose()
    }

    /// The levels that this machine has, lowest first.
    pub fn of_machine() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|level| level.is_on_machine())
    }

    /// The levels that this machine has below that of this process, lowest first.
    pub fn lower() -> impl Iterator<Item = Self> {
        Self::of_machine().filter(|level| *level < Self::current())
    }

    fn is_on_machine(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => pulp::x86::V3::try_new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.is_on_machine() && std::arch::is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => pulp::x86::V4::try_new().is_some(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod => std::arch::is_aarch64_feature_detected!("dotprod"),
            #[cfg(target_arch = "aarch64")]
            Self::I8mm => Self::Dotprod.is_on_machine() && std::arch::is_aarch64_feature_detected!("i8mm"),
            _ => false,
        }
    }

    /// Whether machines of this architecture may have it.
    fn is_of_architecture(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Avx2 | Self::AvxVnni | Self::Avx512 => cfg!(target_arch = "x86_64"),
            Self::Neon | Self::Dotprod | Self::I8mm => cfg!(target_arch = "aarch64"),
        }
    }

    /// As in [`LEVEL_VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
            Self::Dotprod => "dotprod",
            Self::I8mm => "i8mm",
        }
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(name: &str) -> Result<Self, UnknownLevel> {
        let mut levels = Self::ALL.into_iter().filter(|level| level.is_of_architecture());
        levels.find(|level| level.name() == name).ok_or_else(|| UnknownLevel { name: name.to_string() })
    }
}

/// A name that no [`Level`] has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownLevel {
    /// The unknown name.
    pub name: String,
}

impl std::fmt::Display for UnknownLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let levels = Level::ALL.into_iter().filter(|level| level.is_of_architecture());
        let names: Vec<&str> = levels.map(Level::name).collect();
        write!(f, "`{}` is no level of CPU instructions; there are {}", self.name, names.join(", "))
    }
}

impl std::error::Error for UnknownLevel {}

/// The instructions that [`pulp`] compiles loops for at the current level.
pub(crate) fn arch() -> Arch {
    #[cfg(target_arch = "x86_64")]
    {
        let v3 = || pulp::x86::V3::try_new().map(Arch::V3);
        let v4 = || pulp::x86::V4::try_new().map(Arch::V4);
        let arch = match Level::current() {
            Level::Avx2 | Level::AvxVnni => v3(),
            Level::Avx512 => v4(),
            _ => None,
        };
        arch.unwrap_or(Arch::Scalar)
    }
    #[cfg(not(target_arch = "x86_64"))]
    match Level::current() {
        Level::Portable => Arch::Scalar,
        _ => Arch::new(),
    }
}

/// Runs `f`, compiled for the vector instructions of the current level: it and all that it calls must be
/// `#[inline(always)]`.
pub(crate) fn vectorised<R>(f: impl FnMut() -> R) -> R {
    /// A closure given to pulp itself is called through `FnOnce::call_once`, which is not inlined.
    struct Inlined<F>(F);

    impl<R, F: FnMut() -> R> NullaryFnOnce for Inlined<F> {
        type Output = R;

        #[allow(clippy::inline_always)]
        #[inline(always)]
        fn call(mut self) -> R {
            (self.0)()
        }
    }

    arch().dispatch(Inlined(f))
}

//! [`Blocks`]: ggml's quantised blocks.
//! <https://github.com/ggml-org/ggml/blob/v0.9.4/src/ggml-quants.c>, <https://github.com/ggml-org/ggml/blob/v0.9.4/src/ggml-common.h>
//!
//! A block is 32 or 256 values beside each other in a row. Whatever its layout, each of its values is a whole number of
//! eight bits, its level, times the scale of its group, plus the offset of its group. Products of level and scale are exact
//! in f32, so a value is rounded once, when the offset is added.
// The kernels call these functions within loops that are compiled for the machine's instructions.
#![allow(clippy::inline_always)]

use half::f16;

/// One of ggml's block formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "they are ggml's names")]
pub enum Blocks {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    Iq4Xs,
}

impl std::str::FromStr for Blocks {
    type Err = ();

    /// Parses ggml's name, letters of any case.
    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|blocks| blocks.name().eq_ignore_ascii_case(name)).ok_or(())
    }
}

/// The most values of a block.
const MOST: usize = 256;
/// The most groups of a block.
const MOST_GROUPS: usize = 16;
/// The levels of the IQ4 formats.
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// A block, taken apart.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// One per value.
    pub levels: [i8; MOST],
    /// One per group.
    pub scales: [f32; MOST_GROUPS],
    /// One per group.
    pub offsets: [f32; MOST_GROUPS],
}

impl Default for Unpacked {
    fn default() -> Self {
        Self { levels: [0; MOST], scales: [0.0; MOST_GROUPS], offsets: [0.0; MOST_GROUPS] }
    }
}

impl Blocks {
    /// All formats.
    pub const ALL: [Self; 12] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
    ];

    /// ggml's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Iq4Nl => "IQ4_NL",
            Self::Iq4Xs => "IQ4_XS",
        }
    }

    /// The values of a block.
    pub const fn values(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Iq4Nl => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K | Self::Iq4Xs => 256,
        }
    }

    /// The bytes of a block.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Q4_0 | Self::Iq4Nl => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
            Self::Iq4Xs => 136,
        }
    }

    /// The values that share a scale and an offset.
    pub const fn group(self) -> usize {
        match self {
            Self::Q2K | Self::Q3K | Self::Q6K => 16,
            _ => 32,
        }
    }

    /// Whether offsets may be other than 0.
    pub const fn has_offsets(self) -> bool {
        matches!(self, Self::Q4_1 | Self::Q5_1 | Self::Q2K | Self::Q4K | Self::Q5K)
    }

    /// Where a block has its f16 scales.
    const fn halves(self) -> &'static [usize] {
        match self {
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 | Self::Iq4Nl | Self::Iq4Xs => &[0],
            Self::Q4_1 | Self::Q5_1 | Self::Q4K | Self::Q5K => &[0, 2],
            Self::Q2K => &[80, 82],
            Self::Q3K => &[108],
            Self::Q6K => &[208],
        }
    }

    /// Whether the scales of a block are finite; then its values are.
    ///
    /// # Panics
    /// If `block` is shorter than [`Blocks::bytes`].
    pub fn is_finite(self, block: &[u8]) -> bool {
        self.halves().iter().all(|&at| block[at + 1] & 0x7c != 0x7c)
    }

    /// Whether all scales of a block are zeros; then its values are.
    ///
    /// # Panics
    /// If `block` is shorter than [`Blocks::bytes`].
    #[allow(clippy::verbose_bit_mask, reason = "the mask is all but the sign")]
    pub fn is_zero(self, block: &[u8]) -> bool {
        self.halves().iter().all(|&at| block[at] == 0 && block[at + 1] & 0x7f == 0)
    }

    /// Sets all scales of a block to `scale`, rounded to f16.
    ///
    /// # Panics
    /// If `block` is shorter than [`Blocks::bytes`].
    pub fn set_scales(self, block: &mut [u8], scale: f32) {
        for &at in self.halves() {
            block[at..at + 2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        }
    }

    /// Takes apart one block of [`Blocks::bytes`] bytes.
    ///
    /// # Panics
    /// If `block` is shorter.
    #[inline(always)]
    pub fn unpack(self, block: &[u8], to: &mut Unpacked) {
        match self {
            Self::Q4_0 => q4_0(block, to),
            Self::Q4_1 => q4_1(block, to),
            Self::Q5_0 => q5_0(block, to),
            Self::Q5_1 => q5_1(block, to),
            Self::Q8_0 => q8_0(block, to),
            Self::Q2K => q2k(block, to),
            Self::Q3K => q3k(block, to),
            Self::Q4K => q4k(block, to),
            Self::Q5K => q5k(block, to),
            Self::Q6K => q6k(block, to),
            Self::Iq4Nl => iq4_nl(block, to),
            Self::Iq4Xs => iq4_xs(block, to),
        }
    }

    /// Writes the values of whole blocks.
    ///
    /// # Panics
    /// If `blocks` and `out` do not hold the same number of whole blocks.
    #[inline(always)]
    pub fn dequantise(self, blocks: &[u8], out: &mut [f32]) {
        let (values, group) = (self.values(), self.group());
        assert!(out.len().is_multiple_of(values) && blocks.len() == out.len() / values * self.bytes(), "whole blocks");
        let mut unpacked = Unpacked::default();
        for (block, out) in blocks.chunks_exact(self.bytes()).zip(out.chunks_exact_mut(values)) {
            self.unpack(block, &mut unpacked);
            let groups = out.chunks_exact_mut(group).zip(unpacked.levels.chunks_exact(group));
            for ((out, levels), (scale, offset)) in groups.zip(unpacked.scales.iter().zip(&unpacked.offsets)) {
                for (out, level) in out.iter_mut().zip(levels) {
                    *out = scale * f32::from(*level) + offset;
                }
            }
        }
    }
}

#[inline(always)]
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Writes the low halves of bytes, then the high ones: as ggml does in blocks of 32 values.
#[inline(always)]
fn nibbles(bytes: &[u8], levels: &mut [i8]) {
    let half = bytes.len();
    for (i, byte) in bytes.iter().enumerate() {
        levels[i] = (byte & 15) as i8;
        levels[i + half] = (byte >> 4) as i8;
    }
}

/// Adds the fifth bits of 32 values.
#[inline(always)]
fn fifth_bits(bits: &[u8], levels: &mut [i8]) {
    let bits = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
    for (i, level) in levels[..32].iter_mut().enumerate() {
        *level |= ((bits >> i & 1) << 4) as i8;
    }
}

#[inline(always)]
fn subtract(levels: &mut [i8], by: i8) {
    for level in levels {
        *level -= by;
    }
}

#[inline(always)]
fn q4_0(block: &[u8], to: &mut Unpacked) {
    nibbles(&block[2..18], &mut to.levels);
    subtract(&mut to.levels[..32], 8);
    (to.scales[0], to.offsets[0]) = (half_at(block, 0), 0.0);
}

#[inline(always)]
fn q4_1(block: &[u8], to: &mut Unpacked) {
    nibbles(&block[4..20], &mut to.levels);
    (to.scales[0], to.offsets[0]) = (half_at(block, 0), half_at(block, 2));
}

#[inline(always)]
fn q5_0(block: &[u8], to: &mut Unpacked) {
    nibbles(&block[6..22], &mut to.levels);
    fifth_bits(&block[2..6], &mut to.levels);
    subtract(&mut to.levels[..32], 16);
    (to.scales[0], to.offsets[0]) = (half_at(block, 0), 0.0);
}

#[inline(always)]
fn q5_1(block: &[u8], to: &mut Unpacked) {
    nibbles(&block[8..24], &mut to.levels);
    fifth_bits(&block[4..8], &mut to.levels);
    (to.scales[0], to.offsets[0]) = (half_at(block, 0), half_at(block, 2));
}

#[inline(always)]
fn q8_0(block: &[u8], to: &mut Unpacked) {
    for (level, byte) in to.levels.iter_mut().zip(&block[2..34]) {
        *level = *byte as i8;
    }
    (to.scales[0], to.offsets[0]) = (half_at(block, 0), 0.0);
}

/// Writes two bits per value: in each half of a block, 32 bytes hold four groups of 32 values.
#[inline(always)]
fn two_bits(bytes: &[u8], levels: &mut [i8; MOST]) {
    for (half, levels) in bytes.chunks_exact(32).zip(levels.chunks_exact_mut(128)) {
        for (j, levels) in levels.chunks_exact_mut(32).enumerate() {
            for (level, byte) in levels.iter_mut().zip(half) {
                *level = (byte >> (2 * j) & 3) as i8;
            }
        }
    }
}

#[inline(always)]
fn q2k(block: &[u8], to: &mut Unpacked) {
    two_bits(&block[16..80], &mut to.levels);
    let (d, least) = (half_at(block, 80), half_at(block, 82));
    for (i, byte) in block[..16].iter().enumerate() {
        to.scales[i] = d * f32::from(byte & 15);
        to.offsets[i] = -(least * f32::from(byte >> 4));
    }
}

#[inline(always)]
fn q3k(block: &[u8], to: &mut Unpacked) {
    two_bits(&block[32..96], &mut to.levels);
    for (j, levels) in to.levels.chunks_exact_mut(32).enumerate() {
        for (level, mask) in levels.iter_mut().zip(&block[..32]) {
            // The third bit is stored as whether 4 is not taken away.
            *level -= ((!mask >> j & 1) << 2) as i8;
        }
    }
    let (s, d) = (&block[96..108], half_at(block, 108));
    for i in 0..16 {
        let low = if i < 8 { s[i] & 15 } else { s[i - 8] >> 4 };
        let high = s[8 + i % 4] >> (2 * (i / 4)) & 3;
        to.scales[i] = d * (f32::from(low | high << 4) - 32.0);
        to.offsets[i] = 0.0;
    }
}

/// The scales and offsets of eight groups: six bits each, in twelve bytes.
#[inline(always)]
fn k_scales(block: &[u8], to: &mut Unpacked) {
    let (d, least, s) = (half_at(block, 0), half_at(block, 2), &block[4..16]);
    for j in 0..8 {
        let (scale, offset) = if j < 4 {
            (s[j] & 63, s[j + 4] & 63)
        } else {
            (s[j + 4] & 15 | s[j - 4] >> 6 << 4, s[j + 4] >> 4 | s[j] >> 6 << 4)
        };
        to.scales[j] = d * f32::from(scale);
        to.offsets[j] = -(least * f32::from(offset));
    }
}

/// Writes four bits per value: 32 bytes hold two groups of 32 values.
#[inline(always)]
fn k_nibbles(bytes: &[u8], levels: &mut [i8; MOST]) {
    for (bytes, levels) in bytes.chunks_exact(32).zip(levels.chunks_exact_mut(64)) {
        nibbles(bytes, levels);
    }
}

#[inline(always)]
fn q4k(block: &[u8], to: &mut Unpacked) {
    k_scales(block, to);
    k_nibbles(&block[16..144], &mut to.levels);
}

#[inline(always)]
fn q5k(block: &[u8], to: &mut Unpacked) {
    k_scales(block, to);
    k_nibbles(&block[48..176], &mut to.levels);
    for (j, levels) in to.levels.chunks_exact_mut(32).enumerate() {
        for (level, bits) in levels.iter_mut().zip(&block[16..48]) {
            *level |= ((bits >> j & 1) << 4) as i8;
        }
    }
}

#[inline(always)]
fn q6k(block: &[u8], to: &mut Unpacked) {
    let halves = block[..128].chunks_exact(64).zip(block[128..192].chunks_exact(32));
    for ((low, high), levels) in halves.zip(to.levels.chunks_exact_mut(128)) {
        for l in 0..32 {
            levels[l] = (low[l] & 15 | (high[l] & 3) << 4) as i8 - 32;
            levels[l + 32] = (low[l + 32] & 15 | (high[l] >> 2 & 3) << 4) as i8 - 32;
            levels[l + 64] = (low[l] >> 4 | (high[l] >> 4 & 3) << 4) as i8 - 32;
            levels[l + 96] = (low[l + 32] >> 4 | (high[l] >> 6) << 4) as i8 - 32;
        }
    }
    let d = half_at(block, 208);
    for (i, scale) in block[192..208].iter().enumerate() {
        to.scales[i] = d * f32::from(*scale as i8);
        to.offsets[i] = 0.0;
    }
}

#[inline(always)]
fn from_table(levels: &mut [i8]) {
    for level in levels {
        *level = IQ4[*level as usize & 15];
    }
}

#[inline(always)]
fn iq4_nl(block: &[u8], to: &mut Unpacked) {
    nibbles(&block[2..18], &mut to.levels);
    from_table(&mut to.levels[..32]);
    (to.scales[0], to.offsets[0]) = (half_at(block, 0), 0.0);
}

#[inline(always)]
fn iq4_xs(block: &[u8], to: &mut Unpacked) {
    let (d, high) = (half_at(block, 0), u16::from_le_bytes([block[2], block[3]]));
    for j in 0..8 {
        let low = block[4 + j / 2] >> (4 * (j % 2)) & 15;
        let scale = i16::from(low) | ((high >> (2 * j) & 3) << 4) as i16;
        to.scales[j] = d * f32::from(scale - 32);
        to.offsets[j] = 0.0;
        nibbles(&block[8 + 16 * j..24 + 16 * j], &mut to.levels[32 * j..32 * j + 32]);
    }
    from_table(&mut to.levels);
}

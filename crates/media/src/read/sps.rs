//! The sequence parameter set of H.264, up to the colour description, and the type of a slice (ITU-T H.264, 7.3.2.1.1 and
//! E.1.1, <https://www.itu.int/rec/T-REC-H.264>).
//!
//! The crate h264-reader (0.9) parses the whole set and refuses one whose level is too low for its size, or in which any
//! field after the colour description is out of range. `OpenH264` and players show such clips, so they are read here.

/// The content of a sequence parameter set.
#[derive(Debug, PartialEq)]
pub(crate) struct Sps {
    /// The width of a picture after cropping.
    pub(crate) width: usize,
    /// The height of a picture after cropping.
    pub(crate) height: usize,
    /// The number of macroblocks (16×16) of a picture before cropping.
    pub(crate) macroblocks: usize,
    /// `chroma_format_idc`, 1 for 4:2:0.
    pub(crate) chroma_format: u32,
    /// `pic_order_cnt_type`.
    pub(crate) order_count: u32,
    /// The number of bits of luma and chroma samples.
    pub(crate) depth: [u32; 2],
    /// Whether every picture is a frame, not a pair of fields.
    pub(crate) progressive: bool,
    /// Whether samples use all of 0..=255, if the stream contains it.
    pub(crate) full_range: Option<bool>,
    /// `colour_primaries` of ITU-T H.273, if the stream contains them.
    pub(crate) primaries: Option<u8>,
    /// `transfer_characteristics` of ITU-T H.273, if the stream contains it.
    pub(crate) transfer: Option<u8>,
    /// `matrix_coefficients` of ITU-T H.273, if the stream contains it.
    pub(crate) matrix: Option<u8>,
    /// The width and height of a pixel in any unit, if the stream contains them.
    pub(crate) aspect: Option<[u32; 2]>,
}

/// The shapes of pixels by `aspect_ratio_idc`, from 1 (table E-1).
const ASPECTS: [[u32; 2]; 16] = [
    [1, 1],
    [12, 11],
    [10, 11],
    [16, 11],
    [40, 33],
    [24, 11],
    [20, 11],
    [32, 11],
    [80, 33],
    [18, 11],
    [15, 11],
    [64, 33],
    [160, 99],
    [4, 3],
    [3, 2],
    [2, 1],
];

/// The part of the video usability information that is read.
#[derive(Default)]
struct Usability {
    full_range: Option<bool>,
    primaries: Option<u8>,
    transfer: Option<u8>,
    matrix: Option<u8>,
    aspect: Option<[u32; 2]>,
}

/// The largest `pic_width_in_mbs` and `pic_height_in_map_units`; no level allows more.
const MAX_SIDE: u32 = 1 << 12;

impl Sps {
    /// Parses a NAL unit, header included; returns `None` if it is not a sequence parameter set or is cut short.
    pub(crate) fn parse(nal: &[u8]) -> Option<Self> {
        let (header, payload) = nal.split_first()?;
        if header & 31 != 7 {
            return None;
        }
        let bytes = without_emulation_prevention(payload);
        let mut bits = Bits { bytes: &bytes, position: 0 };
        let profile = bits.take(8)?;
        bits.take(16)?; // constraint flags, level
        bits.golomb()?; // seq_parameter_set_id
        let (chroma_format, depth) = if HIGH_PROFILES.contains(&profile) { high(&mut bits)? } else { (1, [8, 8]) };
        bits.golomb()?; // log2_max_frame_num_minus4
        let order_count = order_count(&mut bits)?;
        bits.golomb()?; // max_num_ref_frames
        bits.take(1)?; // gaps_in_frame_num_value_allowed_flag
        let columns = bits.golomb()?.checked_add(1).filter(|&side| side <= MAX_SIDE)?;
        let rows = bits.golomb()?.checked_add(1).filter(|&side| side <= MAX_SIDE)?;
        let progressive = bits.flag()?;
        if !progressive {
            bits.take(1)?; // mb_adaptive_frame_field_flag
        }
        bits.take(1)?; // direct_8x8_inference_flag
        let crop = if bits.flag()? { [bits.golomb()?, bits.golomb()?, bits.golomb()?, bits.golomb()?] } else { [0; 4] };
        let fields = if progressive { 1 } else { 2 };
        let unit =
            [if matches!(chroma_format, 1 | 2) { 2 } else { 1 }, if chroma_format == 1 { 2 } else { 1 } * fields];
        let cropped = |coded: u32, unit: u32, [before, after]: [u32; 2]| {
            let crop = before.checked_add(after)?.checked_mul(unit)?;
            coded.checked_sub(crop).filter(|&side| side > 0).map(|side| side as usize)
        };
        let Usability { full_range, primaries, transfer, matrix, aspect } =
            if bits.flag()? { usability(&mut bits)? } else { Usability::default() };
        Some(Self {
            width: cropped(columns * 16, unit[0], [crop[0], crop[1]])?,
            height: cropped(rows * fields * 16, unit[1], [crop[2], crop[3]])?,
            macroblocks: (columns * rows * fields) as usize,
            chroma_format,
            order_count,
            depth,
            progressive,
            full_range,
            primaries,
            transfer,
            matrix,
            aspect,
        })
    }
}

/// Returns whether a slice, NAL header included, is a B slice, whose macroblocks may be predicted from two pictures (7.3.3).
/// Returns `None` if it is cut short.
pub(crate) fn is_b_slice(nal: &[u8]) -> Option<bool> {
    let start = without_emulation_prevention(nal.get(1..nal.len().min(24))?);
    let mut bits = Bits { bytes: &start, position: 0 };
    bits.golomb()?; // first_mb_in_slice
    Some(bits.golomb()? % 5 == 1)
}

/// The profiles whose parameter sets contain chroma format and bit depth.
const HIGH_PROFILES: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/// Reads the chroma format and the bit depths.
fn high(bits: &mut Bits) -> Option<(u32, [u32; 2])> {
    let chroma_format = bits.golomb()?;
    if chroma_format == 3 {
        bits.take(1)?; // separate_colour_plane_flag
    }
    let depth = [bits.golomb()?.checked_add(8)?, bits.golomb()?.checked_add(8)?];
    bits.take(1)?; // qpprime_y_zero_transform_bypass_flag
    if bits.flag()? {
        for list in 0..if chroma_format == 3 { 12 } else { 8 } {
            if bits.flag()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some((chroma_format, depth))
}

fn skip_scaling_list(bits: &mut Bits, len: usize) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..len {
        if next != 0 {
            next = bits.signed_golomb()?.wrapping_add(last).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// Reads `pic_order_cnt_type` and the fields that belong to it.
fn order_count(bits: &mut Bits) -> Option<u32> {
    let kind = bits.golomb()?;
    if kind == 0 {
        bits.golomb()?; // log2_max_pic_order_cnt_lsb_minus4
    } else if kind == 1 {
        bits.take(1)?; // delta_pic_order_always_zero_flag
        bits.golomb()?; // offset_for_non_ref_pic
        bits.golomb()?; // offset_for_top_to_bottom_field
        for _ in 0..bits.golomb()? {
            bits.golomb()?; // offset_for_ref_frame
        }
    }
    Some(kind)
}

/// Reads the video usability information up to the colours.
fn usability(bits: &mut Bits) -> Option<Usability> {
    let mut found = Usability::default();
    if bits.flag()? {
        found.aspect = match bits.take(8)? {
            255 => Some([bits.take(16)?, bits.take(16)?]),
            kind => (kind as usize).checked_sub(1).and_then(|at| ASPECTS.get(at).copied()),
        };
    }
    if bits.flag()? {
        bits.take(1)?; // overscan_appropriate_flag
    }
    if !bits.flag()? {
        return Some(found);
    }
    bits.take(3)?; // video_format
    found.full_range = Some(bits.flag()?);
    if bits.flag()? {
        found.primaries = Some(bits.take(8)? as u8);
        found.transfer = Some(bits.take(8)? as u8);
        found.matrix = Some(bits.take(8)? as u8);
    }
    Some(found)
}

/// Removes the bytes 3 that prevent two zeros from reading as a start code.
fn without_emulation_prevention(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len());
    let mut zeros = 0;
    for &byte in payload {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Bits<'_> {
    /// Reads up to 32 bits, the first one highest.
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.position / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.position % 8) & 1);
            self.position += 1;
        }
        Some(value)
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.take(1)? == 1)
    }

    /// Reads `ue(v)` of 9.1.
    fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }

    /// Reads `se(v)` of 9.1.1.
    fn signed_golomb(&mut self) -> Option<i32> {
        let code = i64::from(self.golomb()?);
        i32::try_from(if code % 2 == 1 { (code + 1) / 2 } else { -code / 2 }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parameter set that x264 writes for 1920x1080, BT.709, limited range (high profile, level 4.0).
    const HD: [u8; 30] = [
        0x67, 0x64, 0x00, 0x28, 0xac, 0xb4, 0x03, 0xc0, 0x11, 0x3f, 0x2e, 0x02, 0xd4, 0x04, 0x04, 0x05, 0x00, 0x00,
        0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x30, 0x0f, 0x18, 0x32, 0xa0,
    ];

    #[test]
    fn a_parameter_set_says_size_range_and_matrix() {
        let expected = Sps {
            width: 1920,
            height: 1080,
            macroblocks: 8160,
            chroma_format: 1,
            order_count: 2,
            depth: [8, 8],
            progressive: true,
            full_range: Some(false),
            primaries: Some(1),
            transfer: Some(1),
            matrix: Some(1),
            aspect: Some([1, 1]),
        };
        assert_eq!(Sps::parse(&HD), Some(expected));
        assert_eq!(Sps::parse(&HD[..12]), None);
        let mut low = HD;
        low[3] = 10; // level 1.0, which allows 99 macroblocks
        assert_eq!(Sps::parse(&low), Sps::parse(&HD));
    }

    #[test]
    fn noise_is_no_parameter_set_or_one_that_fits() {
        let mut state = 0x2545_f491_u32;
        for _ in 0..200_000 {
            let mut bytes = HD;
            for byte in &mut bytes[4..] {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                *byte ^= if state.is_multiple_of(3) { (state >> 8) as u8 } else { 0 };
            }
            if let Some(sps) = Sps::parse(&bytes[..4 + state as usize % (HD.len() - 4)]) {
                assert!(sps.width > 0 && sps.height > 0 && sps.width * sps.height <= sps.macroblocks * 256);
            }
            let _ = is_b_slice(&bytes[(state >> 16) as usize % HD.len()..]);
        }
    }
}

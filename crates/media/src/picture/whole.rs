//! Detection of files that are cut short, for formats whose decoders silently fill missing parts with grey.

use image::ImageFormat;

/// Returns whether a file of this format is known to be cut short.
pub(super) fn is_cut_short(bytes: &[u8], format: ImageFormat) -> bool {
    match format {
        ImageFormat::Jpeg => !jpeg_ends(bytes),
        ImageFormat::WebP => riff_len(bytes).is_none_or(|len| len > bytes.len() as u64),
        _ => false,
    }
}

/// Returns the length of a RIFF file by the first 8 bytes of its header, or `None` if there are fewer.
pub(crate) fn riff_len(start: &[u8]) -> Option<u64> {
    let &[a, b, c, d] = start.get(4..8)? else { return None };
    Some(8 + u64::from(u32::from_le_bytes([a, b, c, d])))
}

/// Returns whether a JPEG has one scan, in which every component is coded to its end (baseline or extended, B.2.2 and B.2.3).
pub(super) fn has_single_scan(bytes: &[u8]) -> bool {
    let (mut at, mut components) = (2, None);
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            0xc0 | 0xc1 => components = bytes.get(at + 9),
            0xda => return components.is_some() && components == bytes.get(at + 4),
            _ => {}
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    false
}

/// Returns whether the end marker of a JPEG (ITU-T T.81, B.1.1.3) comes after its scans. One in an embedded preview does not
/// count.
fn jpeg_ends(bytes: &[u8]) -> bool {
    const END: u8 = 0xd9;
    let mut at = 2;
    while let Some(&[first, marker]) = bytes.get(at..at + 2) {
        match (first, marker) {
            (0xff, END) => return true,
            // Data of a scan, fill bytes, and markers without a segment.
            (0..0xff, _) | (0xff, 0xff) => at += 1,
            (0xff, 0x00 | 0x01 | 0xd0..=0xd8) => at += 2,
            (0xff, _) => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
            }
        }
    }
    false
}

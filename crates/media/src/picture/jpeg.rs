//! Whether a JPEG is whole. The decoder fills up what is missing with grey, which nobody would notice in time.

const END: u8 = 0xd9;

/// Whether the end marker (ITU-T T.81, B.1.1.3) comes after the scans. One in an embedded preview does not count.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
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

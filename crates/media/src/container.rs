//! Recognition of videos by the first bytes of a file.

/// The kinds of boxes that an MP4 file may start with (ISO/IEC 14496-12).
pub(crate) const FIRST_BOXES: [&[u8; 4]; 7] = [b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp"];

/// The most macroblocks (16×16) in a frame: level 5.2 of H.264, 4096×2304.
pub(crate) const MAX_MACROBLOCKS: usize = 36864;

/// Returns whether a file that begins with `start` is a video.
pub(crate) fn is_video(start: &[u8]) -> bool {
    FIRST_BOXES.iter().any(|kind| start.get(4..8) == Some(&kind[..])) || other_than_mp4(start).is_some()
}

/// Returns the name of a container that is no MP4, by the first bytes of a file.
pub(crate) fn other_than_mp4(start: &[u8]) -> Option<&'static str> {
    let is = |at: usize, bytes: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(bytes));
    let known: [(bool, &str); 9] = [
        (is(0, b"\x1a\x45\xdf\xa3"), "Matroska (MKV or WebM)"),
        (is(0, b"RIFF") && is(8, b"AVI"), "AVI"),
        (is(0, b"RIFF"), "RIFF"),
        (is(0, b"OggS"), "Ogg"),
        (is(0, b"FLV\x01"), "FLV"),
        (is(0, b"\x30\x26\xb2\x75"), "ASF (WMV)"),
        (is(0, b"\x47\x40"), "an MPEG transport stream"),
        (is(0, b"\0\0\x01\xba"), "an MPEG program stream"),
        (is(0, b"\0\0\x01") || is(0, b"\0\0\0\x01"), "a raw stream (Annex B)"),
    ];
    known.into_iter().find_map(|(found, name)| found.then_some(name))
}

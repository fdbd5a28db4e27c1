//! The embedded H.264 decoder: the crate rusty_h264-decoder, in Rust without `unsafe`.
//!
//! It is exact where `OpenH264` is not: that one deblocks B slices wrongly (<https://github.com/cisco/openh264/issues/3269>).
//! It does not hide damage: a picture that lacks macroblocks is not returned.

use rusty_h264_decoder::{DecodeError, Decoder as H264};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::read::refused::Refused;

/// A decoded picture, 8-bit 4:2:0.
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// The luma plane `[H, W]` and the two chroma planes `[H / 2, W / 2]`.
    pub(crate) planes: [Vec<u8>; 3],
}

pub(crate) struct Decoder(H264);

impl Decoder {
    pub(crate) fn new() -> Self {
        Self(H264::new())
    }

    /// Decodes one access unit of NAL units after start codes. Pictures come in the order of the units. After an error the
    /// decoder must not be used any more.
    pub(crate) fn decode(&mut self, unit: &[u8]) -> Result<Picture, Refused> {
        let decoder = &mut self.0;
        let decoded = catch_unwind(AssertUnwindSafe(|| decoder.decode(unit)));
        let frame = match decoded.map_err(|_| "the decoder failed")? {
            Ok(frame) => frame.ok_or("a part of it is missing")?,
            Err(DecodeError::Unsupported(what)) => return Err(Refused::Unsupported(what.into())),
            Err(error) => return Err(error.to_string().into()),
        };
        Ok(Picture { width: frame.width, height: frame.height, planes: [frame.y, frame.u, frame.v] })
    }
}

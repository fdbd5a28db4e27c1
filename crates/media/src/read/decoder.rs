//! The embedded H.264 decoder: `OpenH264` built from source.
//!
//! API: <https://github.com/cisco/openh264/wiki/ISVCDecoder>. Error concealment is off: a picture that cannot be decoded is an
//! error, never a copy of its neighbour.

#![expect(unsafe_code, reason = "OpenH264 is a C library")]

use crate::read::colour::{LEFT, Yuv};
use openh264_sys2::source::APILoader;
use openh264_sys2::{
    DECODER_OPTION_TRACE_LEVEL, ERROR_CON_DISABLE, ISVCDecoder, ISVCDecoderVtbl, SBufferInfo, SDecodingParam,
    VIDEO_BITSTREAM_AVC, WELS_LOG_QUIET, videoFormatI420,
};
use std::ffi::c_int;

/// A decoded picture, and the number of the access unit that it came from.
pub(crate) struct Decoded {
    pub(crate) number: u64,
    pub(crate) picture: Yuv,
}

pub(crate) struct Decoder {
    raw: *mut ISVCDecoder,
}

// SAFETY: the decoder is a heap object with no ties to a thread; it is only used through `&mut self`.
unsafe impl Send for Decoder {}

impl Decoder {
    pub(crate) fn new() -> Result<Self, String> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer is valid for writes for the length of the call.
        let status = unsafe { APILoader::WelsCreateDecoder(&raw mut raw) };
        if status != 0 || raw.is_null() {
            return Err(format!("cannot create a decoder (status {status})"));
        }
        let decoder = Self { raw };
        let set_option = decoder.functions().SetOption.ok_or("SetOption is missing")?;
        let initialize = decoder.functions().Initialize.ok_or("Initialize is missing")?;
        let mut params = SDecodingParam { eEcActiveIdc: ERROR_CON_DISABLE, ..Default::default() };
        params.sVideoProperty.eVideoBsType = VIDEO_BITSTREAM_AVC;
        let mut trace = WELS_LOG_QUIET;
        // SAFETY: the decoder exists, and both pointers are valid for the length of their call.
        let status = unsafe {
            set_option(raw, DECODER_OPTION_TRACE_LEVEL, (&raw mut trace).cast());
            initialize(raw, &raw const params)
        };
        if status == 0 { Ok(decoder) } else { Err(format!("cannot start a decoder (status {status})")) }
    }

    /// Decodes one access unit of NAL units after start codes, and adds the pictures that are ready to `out`. Some come after
    /// later units.
    pub(crate) fn decode(&mut self, number: u64, unit: &[u8], out: &mut Vec<Decoded>) -> Result<(), String> {
        let function = self.functions().DecodeFrame2.ok_or("DecodeFrame2 is missing")?;
        let len = c_int::try_from(unit.len()).map_err(|_| format!("{} bytes are too many", unit.len()))?;
        // The second call, without data, marks the end of the access unit.
        for (data, len) in [(unit.as_ptr(), len), (std::ptr::null(), 0)] {
            let mut info = SBufferInfo { uiInBsTimeStamp: number, ..Default::default() };
            let mut planes = [std::ptr::null_mut(); 3];
            // SAFETY: `data` is valid for `len` bytes, which the decoder copies; the rest is valid during the call.
            let status = unsafe { function(self.raw, data, len, planes.as_mut_ptr(), &raw mut info) };
            if status != 0 {
                return Err(format!("status {status}"));
            }
            out.extend(take(planes, &info)?);
        }
        Ok(())
    }

    /// Returns the next picture that the decoder still holds after the last access unit.
    pub(crate) fn flush(&mut self) -> Result<Option<Decoded>, String> {
        let function = self.functions().FlushFrame.ok_or("FlushFrame is missing")?;
        let mut info = SBufferInfo::default();
        let mut planes = [std::ptr::null_mut(); 3];
        // SAFETY: both pointers are valid for the length of the call.
        let status = unsafe { function(self.raw, planes.as_mut_ptr(), &raw mut info) };
        if status == 0 { take(planes, &info) } else { Err(format!("status {status}")) }
    }

    fn functions(&self) -> &ISVCDecoderVtbl {
        // SAFETY: WelsCreateDecoder set the pointer to an object that starts with its table of functions.
        unsafe { &**self.raw }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: the decoder was created in `new` and is not used again.
        unsafe {
            if let Some(uninitialize) = self.functions().Uninitialize {
                uninitialize(self.raw);
            }
            APILoader::WelsDestroyDecoder(self.raw);
        }
    }
}

/// Copies the picture that the last call to the decoder left, if there is one.
fn take(planes: [*mut u8; 3], info: &SBufferInfo) -> Result<Option<Decoded>, String> {
    if info.iBufferStatus != 1 {
        return Ok(None);
    }
    // SAFETY: the only member of the union.
    let buffer = unsafe { info.UsrData.sSystemBuffer };
    let [width, height, luma, chroma] = [buffer.iWidth, buffer.iHeight, buffer.iStride[0], buffer.iStride[1]]
        .map(|value| usize::try_from(value).unwrap_or(0));
    let sound = width > 0 && height > 0 && width % 2 == 0 && height % 2 == 0 && luma >= width && chroma >= width / 2;
    if !sound || buffer.iFormat != videoFormatI420 || planes.iter().any(|plane| plane.is_null()) {
        return Err(format!("a picture of {width}×{height} in format {}", buffer.iFormat));
    }
    // SAFETY: the decoder gives planes of `height` (half for chroma) rows, `width` (half) bytes each, a stride apart, that
    // are valid until its next call.
    let planes = unsafe {
        [
            copy(planes[0], luma, width, height),
            copy(planes[1], chroma, width / 2, height / 2),
            copy(planes[2], chroma, width / 2, height / 2),
        ]
    };
    let picture = Yuv { width, height, depth: 8, chroma_shift: [1, 1], centred: LEFT, planes };
    Ok(Some(Decoded { number: info.uiOutYuvTimeStamp, picture }))
}

/// # Safety
/// `plane` points to `height` rows of `width` bytes, `stride` apart.
unsafe fn copy(plane: *const u8, stride: usize, width: usize, height: usize) -> Vec<u16> {
    let mut out = Vec::with_capacity(width * height);
    for row in 0..height {
        // SAFETY: see above.
        let row = unsafe { std::slice::from_raw_parts(plane.add(row * stride), width) };
        out.extend(row.iter().map(|&sample| u16::from(sample)));
    }
    out
}

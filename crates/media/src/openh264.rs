//! The embedded H.264 encoder: OpenH264 built from source, driven at a constant quantiser.
//!
//! API: <https://github.com/cisco/openh264/wiki/ISVCEncoder>. It is called through the raw bindings, because the safe wrapper
//! has no constant quantiser and stops at 3840×2160. Rate control, frame skipping, background detection, denoising and
//! adaptive quantisation are all off: every frame is coded, each with the same quantiser.

#![expect(unsafe_code, reason = "OpenH264 is a C library")]

use crate::clip::Fps;
use crate::color::Yuv420;
use openh264_sys2::source::APILoader;
use openh264_sys2::{
    CM_BT709, CONSTANT_ID, CP_BT709, ELevelIdc, ENCODER_OPTION_TRACE_LEVEL, ISVCEncoder, ISVCEncoderVtbl, LEVEL_4_0,
    LEVEL_4_2, LEVEL_5_0, LEVEL_5_1, LEVEL_5_2, MEDIUM_COMPLEXITY, PRO_BASELINE, RC_OFF_MODE, SEncParamExt,
    SFrameBSInfo, SLayerBSInfo, SM_SINGLE_SLICE, SSourcePicture, TRC_BT709, WELS_LOG_QUIET, videoFormatI420,
    videoFrameTypeIDR,
};
use std::ffi::c_int;

/// The finest quantiser: step 2, whose error is that of rounding to 8 bits. A finer one costs bits without a gain, and noise
/// then overflows the encoder's buffer.
const FINEST_QP: u8 = 10;

const START_CODE: [u8; 4] = [0, 0, 0, 1];
const NAL_SPS: u8 = 7;
const NAL_PPS: u8 = 8;

/// A coded picture.
pub(crate) struct Picture {
    /// Whether decoding can start at this picture.
    pub(crate) keyframe: bool,
    /// The slices, each after its length in 4 big-endian bytes, without start codes and parameter sets.
    pub(crate) data: Vec<u8>,
}

pub(crate) struct Encoder {
    raw: *mut ISVCEncoder,
    fps: Fps,
    frames: u64,
    /// The sequence parameter set, known once the first picture is coded.
    pub(crate) sps: Vec<u8>,
    pub(crate) pps: Vec<u8>,
}

// SAFETY: the encoder is a heap object with no ties to a thread; it is only used through `&mut self`.
unsafe impl Send for Encoder {}

impl Encoder {
    /// Returns an encoder for pictures of even `width`×`height` with the quantiser `qp`, which is clamped to [`FINEST_QP`]..=51.
    pub(crate) fn new(width: usize, height: usize, fps: Fps, qp: u8) -> Result<Self, String> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer is valid for writes for the length of the call.
        let status = unsafe { APILoader::WelsCreateSVCEncoder(&raw mut raw) };
        if status != 0 || raw.is_null() {
            return Err(format!("cannot create an encoder (status {status})"));
        }
        let mut encoder = Self { raw, fps, frames: 0, sps: Vec::new(), pps: Vec::new() };
        encoder.initialize(width, height, qp)?;
        Ok(encoder)
    }

    /// Encodes one picture, which must have the size given to [`new`](Self::new).
    pub(crate) fn encode(&mut self, picture: &Yuv420) -> Result<Picture, String> {
        let mut info = SFrameBSInfo::default();
        let source = self.source(picture);
        let function = self.functions().EncodeFrame.ok_or("EncodeFrame is missing")?;
        // SAFETY: `source` points into `picture`, which the encoder only reads, during this call.
        let status = unsafe { function(self.raw, &raw const source, &raw mut info) };
        if status != 0 {
            return Err(format!("status {status} at frame {}", self.frames));
        }
        let mut data = Vec::with_capacity(usize::try_from(info.iFrameSizeInBytes).unwrap_or(0));
        for layer in info.sLayerInfo.iter().take(usize::try_from(info.iLayerNum).unwrap_or(0)) {
            for nal in nal_units(layer) {
                self.sort(nal, &mut data)?;
            }
        }
        if data.is_empty() {
            return Err(format!("frame {} was skipped", self.frames));
        }
        self.frames += 1;
        Ok(Picture { keyframe: info.eFrameType == videoFrameTypeIDR, data })
    }

    fn initialize(&mut self, width: usize, height: usize, qp: u8) -> Result<(), String> {
        let functions = *self.functions();
        let set_option = functions.SetOption.ok_or("SetOption is missing")?;
        let defaults = functions.GetDefaultParams.ok_or("GetDefaultParams is missing")?;
        let initialize = functions.InitializeExt.ok_or("InitializeExt is missing")?;
        let mut trace = WELS_LOG_QUIET;
        let mut params = SEncParamExt::default();
        // SAFETY: the encoder exists, and every pointer is valid for the length of its call.
        let status = unsafe {
            set_option(self.raw, ENCODER_OPTION_TRACE_LEVEL, (&raw mut trace).cast());
            defaults(self.raw, &raw mut params);
            configure(&mut params, width as c_int, height as c_int, self.fps, qp);
            initialize(self.raw, &raw const params)
        };
        if status == 0 { Ok(()) } else { Err(format!("status {status} for {width}×{height} at {} fps", self.fps)) }
    }

    fn functions(&self) -> &ISVCEncoderVtbl {
        // SAFETY: WelsCreateSVCEncoder set the pointer to an object that starts with its table of functions.
        unsafe { &**self.raw }
    }

    fn source(&self, picture: &Yuv420) -> SSourcePicture {
        let (luma, chroma) = (picture.width as c_int, picture.width as c_int / 2);
        let plane = |plane: &[u8]| plane.as_ptr().cast_mut();
        SSourcePicture {
            iColorFormat: videoFormatI420,
            iStride: [luma, chroma, chroma, 0],
            pData: [plane(&picture.y), plane(&picture.u), plane(&picture.v), std::ptr::null_mut()],
            iPicWidth: luma,
            iPicHeight: picture.height as c_int,
            uiTimeStamp: self.fps.start_of(self.frames, 1000) as i64,
            ..Default::default()
        }
    }

    /// Stores parameter sets in the encoder and appends all other units to the picture.
    fn sort(&mut self, nal: &[u8], picture: &mut Vec<u8>) -> Result<(), String> {
        let nal = nal.strip_prefix(&START_CODE).ok_or("a NAL unit has no start code")?;
        let kept = match nal.first().map(|header| header & 31) {
            Some(NAL_SPS) => &mut self.sps,
            Some(NAL_PPS) => &mut self.pps,
            _ => {
                picture.extend((nal.len() as u32).to_be_bytes());
                picture.extend(nal);
                return Ok(());
            }
        };
        if kept.is_empty() {
            *kept = nal.to_vec();
        }
        if kept == nal { Ok(()) } else { Err("the parameter sets changed within the clip".into()) }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: the encoder was created in `new` and is not used again.
        unsafe {
            if let Some(uninitialize) = self.functions().Uninitialize {
                uninitialize(self.raw);
            }
            APILoader::WelsDestroySVCEncoder(self.raw);
        }
    }
}

fn configure(params: &mut SEncParamExt, width: c_int, height: c_int, fps: Fps, qp: u8) {
    params.iPicWidth = width;
    params.iPicHeight = height;
    params.fMaxFrameRate = fps.as_f64() as f32;
    params.iRCMode = RC_OFF_MODE;
    params.bEnableFrameSkip = false;
    params.bEnableAdaptiveQuant = false;
    params.bEnableBackgroundDetection = false;
    params.bEnableSceneChangeDetect = false;
    params.bEnableDenoise = false;
    params.bEnableLongTermReference = false;
    params.iComplexityMode = MEDIUM_COMPLEXITY;
    // CABAC would save a tenth of the bits, but OpenH264 2.6 writes it without looking at the end of its buffer, and
    // noise at a fine quantiser gets there. CAVLC is checked; without load balancing the buffer is twice as long.
    params.iEntropyCodingModeFlag = 0;
    params.bUseLoadBalancing = false;
    params.eSpsPpsIdStrategy = CONSTANT_ID;
    params.uiIntraPeriod = fps.keyframe_interval();
    // One slice and one thread: the same bits on every machine.
    params.iMultipleThreadIdc = 1;
    params.iSpatialLayerNum = 1;
    params.iTemporalLayerNum = 1;
    let layer = &mut params.sSpatialLayers[0];
    layer.iVideoWidth = width;
    layer.iVideoHeight = height;
    layer.fFrameRate = fps.as_f64() as f32;
    layer.iDLayerQp = c_int::from(qp.max(FINEST_QP));
    layer.uiProfileIdc = PRO_BASELINE;
    layer.uiLevelIdc = level(width, height, fps);
    layer.sSliceArgument.uiSliceMode = SM_SINGLE_SLICE;
    layer.sSliceArgument.uiSliceNum = 1;
    layer.bVideoSignalTypePresent = true;
    layer.bFullRange = false;
    layer.bColorDescriptionPresent = true;
    layer.uiColorPrimaries = CP_BT709 as u8;
    layer.uiTransferCharacteristics = TRC_BT709 as u8;
    layer.uiColorMatrix = CM_BT709 as u8;
}

/// Returns the level of ITU-T H.264, table A-1, for the size and the macroblocks per second: at least 4.0, which every player
/// takes, and at most 5.2, the last that `OpenH264` knows. `OpenH264` itself looks at the size alone.
fn level(width: c_int, height: c_int, fps: Fps) -> ELevelIdc {
    const LEVELS: [(ELevelIdc, c_int, f64); 4] = [
        (LEVEL_4_0, 8192, 245_760.0),
        (LEVEL_4_2, 8704, 522_240.0),
        (LEVEL_5_0, 22_080, 589_824.0),
        (LEVEL_5_1, 36_864, 983_040.0),
    ];
    let area = (width + 15) / 16 * ((height + 15) / 16);
    let speed = f64::from(area) * fps.as_f64();
    LEVELS.iter().find(|&&(_, most, fastest)| area <= most && speed <= fastest).map_or(LEVEL_5_2, |level| level.0)
}

/// Returns the NAL units of a layer, each with its start code; they lie one after another in the encoder's buffer.
fn nal_units(layer: &SLayerBSInfo) -> Vec<&[u8]> {
    let count = usize::try_from(layer.iNalCount).unwrap_or(0);
    if count == 0 || layer.pNalLengthInByte.is_null() || layer.pBsBuf.is_null() {
        return Vec::new();
    }
    // SAFETY: the encoder gives `count` lengths, and a buffer as long as their sum, both valid until its next call.
    unsafe {
        let lengths = std::slice::from_raw_parts(layer.pNalLengthInByte, count);
        let mut start = layer.pBsBuf.cast_const();
        let mut units = Vec::with_capacity(count);
        for &length in lengths {
            let length = usize::try_from(length).unwrap_or(0);
            units.push(std::slice::from_raw_parts(start, length));
            start = start.add(length);
        }
        units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_size_and_speed() {
        let level = |width, height, fps| level(width, height, Fps::new(fps, 1).unwrap());
        assert_eq!(level(112, 64, 240), LEVEL_4_0);
        assert_eq!(level(1920, 1080, 30), LEVEL_4_0);
        assert_eq!(level(1920, 1080, 60), LEVEL_4_2);
        assert_eq!(level(1890, 1080, 120), LEVEL_5_1);
        assert_eq!(level(1890, 1080, 240), LEVEL_5_2);
        assert_eq!((level(2560, 1920, 30), level(4096, 2304, 24)), (LEVEL_5_0, LEVEL_5_1));
    }
}

//! Files to frames: the inverse of [`create`](crate::create).
//!
//! | file                         | read by                                                                            |
//! |------------------------------|------------------------------------------------------------------------------------|
//! | `.safetensors`               | this crate: tensor `video` `[F, 3, H, W]`, f32, frame by frame                     |
//! | MP4 with plain H.264         | the embedded decoder; with the feature `ffmpeg`, `FFmpeg`                          |
//! | any other                    | `FFmpeg`, with the feature `ffmpeg`                                                |
//!
//! Frames come in the order and the number in which a player shows them; where they last for different times, each
//! still counts as one. Pixels are taken as they are stored, whatever shape the file gives them.

#[cfg(not(feature = "ffmpeg"))]
mod boxes;
mod colour;
#[cfg(not(feature = "ffmpeg"))]
mod decoder;
#[cfg(feature = "ffmpeg")]
mod ffmpeg;
#[cfg(not(feature = "ffmpeg"))]
mod mp4;
mod raw;
#[cfg(not(feature = "ffmpeg"))]
mod sps;
#[cfg(not(feature = "ffmpeg"))]
mod track;
mod turn;

use crate::clip::{ClipSpec, Frame};
use crate::error::Result;
use std::path::Path;

/// Hands out the frames of one clip, in order; memory does not grow with the clip's length, but for a few dozen bytes
/// per frame that the index of an MP4 file takes.
pub trait ClipReader: Send {
    /// Size of every frame, and frames per second.
    fn spec(&self) -> ClipSpec;

    /// Number of frames, where the file says it.
    fn frames(&self) -> Option<usize>;

    /// The next frame, or `None` after the last. After an error the reader is of no more use and should be dropped.
    fn next_frame(&mut self) -> Result<Option<Frame>>;
}

/// Opens a clip for reading: raw frames (`.safetensors`), an MP4 with H.264 that is 8-bit 4:2:0, progressive and without
/// B-frames, such as [`create`](crate::create) writes, and with the feature `ffmpeg` whatever `FFmpeg` reads.
///
/// RGB is made from YUV by the matrix that the file names. A file that names none is taken for BT.601 if it is less than
/// 720 rows high, else for BT.709, as players do.
///
/// Errors: the file cannot be read, is damaged, holds no frames, or is of a kind that this build does not read.
pub fn open(path: &Path) -> Result<Box<dyn ClipReader>> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    if extension.as_deref() == Some("safetensors") {
        return Ok(Box::new(raw::RawReader::open(path)?));
    }
    #[cfg(feature = "ffmpeg")]
    return Ok(Box::new(ffmpeg::FfmpegReader::open(path)?));
    #[cfg(not(feature = "ffmpeg"))]
    return Ok(Box::new(mp4::Mp4Reader::open(path)?));
}

/// `matrix_coefficients` of ITU-T H.273 for a clip that names none: BT.601 up to standard definition, else BT.709. Chromium
/// and others draw the line at 720 rows.
fn usual_matrix(height: usize) -> u8 {
    if height < 720 { 6 } else { 1 }
}

//! Files to frames: the inverse of [`create`](crate::create).
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
mod gif;
#[cfg(not(feature = "ffmpeg"))]
mod mp4;
mod raw;
#[cfg(not(feature = "ffmpeg"))]
mod sps;
mod stills;
#[cfg(not(feature = "ffmpeg"))]
mod track;
mod turn;
mod webp;

use crate::clip::{ClipSpec, Fps, Frame};
use crate::error::{MediaError, Result};
use crate::picture::readable;
#[cfg(not(feature = "ffmpeg"))]
use crate::picture::refused;
use crate::png::Pattern;
use image::ImageFormat;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Frames per second of clips that say nothing of time.
const USUAL_FPS: u32 = 16;

/// Hands out the frames of one clip, in order; memory does not grow with the clip's length, but for a few dozen bytes
/// per frame that the index of an MP4 file or the names of pictures take.
pub trait ClipReader: Send {
    /// Size of every frame, and frames per second.
    fn spec(&self) -> ClipSpec;

    /// Number of frames, where the file says it.
    fn frames(&self) -> Option<usize>;

    /// The next frame, or `None` after the last. After an error the reader is of no more use and should be dropped.
    fn next_frame(&mut self) -> Result<Option<Frame>>;
}

/// Opens a clip for reading:
///
/// | what                                  | read by                                                                  |
/// |---------------------------------------|--------------------------------------------------------------------------|
/// | `clip.safetensors`                    | this crate: tensor `video` `[F, 3, H, W]`, f32, frame by frame           |
/// | animated GIF or WebP                  | this crate, over white; frames per second from the times of all frames   |
/// | PNG, JPEG, WebP, GIF, BMP, TIFF       | [`read_image`](crate::read_image): a clip of one frame                   |
/// | `frame_%04d.png`, where no such file is | the numbered pictures, from the lowest number to the highest, none missing |
/// | `frames/`, a directory                | all pictures in it by name, `frame_2` before `frame_10`                  |
/// | MP4 with H.264 that is 8-bit 4:2:0, progressive, without B-frames | the embedded decoder; with the feature `ffmpeg`, `FFmpeg` |
/// | any other                             | `FFmpeg`, with the feature `ffmpeg`                                      |
///
/// Pictures and animations are told by their first bytes, not by their names. Pictures without times have 16 frames per
/// second; all must have one size.
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
    if path.is_dir() {
        return Ok(Box::new(stills::StillsReader::in_directory(path)?));
    }
    if let Some(pattern) = Pattern::parse(path).filter(|_| !path.exists()) {
        return Ok(Box::new(stills::StillsReader::numbered(&pattern)?));
    }
    let start = first_bytes(path)?;
    match readable(&start) {
        Some(ImageFormat::Gif) => Ok(Box::new(gif::GifReader::open(path)?)),
        Some(ImageFormat::WebP) => match webp::WebpReader::open(path, &start)? {
            Some(clip) => Ok(Box::new(clip)),
            None => Ok(Box::new(stills::StillsReader::single(path)?)),
        },
        Some(_) => Ok(Box::new(stills::StillsReader::single(path)?)),
        None => open_video(path, &start),
    }
}

#[cfg(feature = "ffmpeg")]
fn open_video(path: &Path, _start: &[u8]) -> Result<Box<dyn ClipReader>> {
    Ok(Box::new(ffmpeg::FfmpegReader::open(path)?))
}

#[cfg(not(feature = "ffmpeg"))]
fn open_video(path: &Path, start: &[u8]) -> Result<Box<dyn ClipReader>> {
    if let Some(format) = refused(start) {
        return Err(MediaError::PictureFormat { path: path.to_path_buf(), format: format.into() });
    }
    Ok(Box::new(mp4::Mp4Reader::open(path)?))
}

/// What formats are told by; fewer bytes of a shorter file.
fn first_bytes(path: &Path) -> Result<Vec<u8>> {
    let failed = |source| MediaError::io("read", path, source);
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(64).read_to_end(&mut start)).map_err(failed)?;
    Ok(start)
}

/// Frames per second of `frames` frames that last `total` altogether, in `units` to the second. Times are rounded to units
/// in the file, so the usual speed that gives them is taken for what was meant; without times, [`USUAL_FPS`].
fn speed(frames: u64, total: u64, units: u64) -> Result<Fps> {
    const USUAL: [u32; 11] = [16, 24, 25, 30, 8, 10, 12, 15, 20, 50, 60];
    let usual = Fps::new(USUAL_FPS, 1)?;
    if frames == 0 || total == 0 {
        return Ok(usual);
    }
    let exact = frames as f64 * units as f64 / total as f64;
    let fits = |fps: &Fps| fps.start_of(frames, units) == total;
    let whole = Fps::from_f64(exact.round()).ok().filter(fits);
    let as_is = whole.filter(|_| (exact - exact.round()).abs() < 1e-9);
    let found = as_is.or_else(|| USUAL.iter().filter_map(|&fps| Fps::new(fps, 1).ok()).find(fits)).or(whole);
    Ok(found.or_else(|| Fps::from_f64(exact).ok()).unwrap_or(usual))
}

/// `matrix_coefficients` of ITU-T H.273 for a clip that names none: BT.601 up to standard definition, else BT.709. Chromium
/// and others draw the line at 720 rows.
fn usual_matrix(height: usize) -> u8 {
    if height < 720 { 6 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_those_that_give_the_times() {
        for fps in [16, 24, 25, 30, 12] {
            let fps = Fps::new(fps, 1).unwrap();
            for (units, frames) in [(100, 9), (100, 81), (1000, 5), (1000, 121)] {
                assert_eq!(speed(frames, fps.start_of(frames, units), units).unwrap(), fps, "{frames} in {units}");
            }
        }
        let shown = |frames, total, units| speed(frames, total, units).unwrap().to_string();
        assert_eq!(shown(3, 0, 100), "16", "no times");
        assert_eq!(shown(4, 10, 100), "40");
        assert_eq!(shown(2, 65535 * 2, 100), "16", "slower than any clip");
        assert_eq!(shown(100, 2300, 1000), "21739/500");
    }
}

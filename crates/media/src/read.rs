//! Reading frames from files: the inverse of [`create`](crate::create).
//!
//! A reader returns the frames that a player shows, in the same order. A frame counts once, however long it is shown. Pixels
//! are taken as square, whatever aspect ratio the file gives them; [`ClipReader::notes`] says so.

mod boxes;
mod colour;
mod decoder;
mod facts;
#[cfg(feature = "ffmpeg")]
mod ffmpeg;
mod fragments;
mod frames;
#[cfg(feature = "gif")]
mod gif;
#[cfg(not(feature = "ffmpeg"))]
mod heard;
#[cfg(feature = "ffmpeg")]
mod libheard;
mod mp4;
mod packets;
#[cfg(not(feature = "ffmpeg"))]
mod probe;
#[cfg(not(feature = "ffmpeg"))]
mod program;
mod raw;
mod refused;
#[cfg(not(feature = "ffmpeg"))]
mod running;
mod samples;
mod sound;
mod sps;
mod stills;
mod track;
mod turn;
#[cfg(feature = "webp")]
mod webp;
#[cfg(not(feature = "ffmpeg"))]
mod y4m;

use crate::clip::{ClipSpec, Fps, Frame};
use crate::container;
use crate::error::{MediaError, Result};
use crate::picture::{readable, refused};
use crate::png::Pattern;
use crate::sound::track::SoundTrack;
use crate::source::{Opened, Source};
use crate::stored::Stored;
#[cfg(any(feature = "gif", feature = "webp"))]
use image::ImageFormat;
use std::path::PathBuf;

/// The frames per second of clips without times.
const USUAL_FPS: u32 = 16;

/// Returns the frames of one clip, in order. Per frame, memory holds only a few dozen bytes: the index of an MP4 file or the
/// names of pictures.
pub trait ClipReader: Send {
    /// Returns the size of every frame, and the frames per second.
    fn spec(&self) -> ClipSpec;

    /// Returns the number of frames, if the file contains it.
    fn frames(&self) -> Option<usize>;

    /// Returns the sound of the clip, if it has one that can be read: it begins with the first frame and ends with the last
    /// one, or before.
    fn sound(&self) -> Option<SoundTrack> {
        None
    }

    /// Returns sentences for the user about what is not read or not as the file shows it; each goes on from the name of the
    /// file.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns the next frame, or `None` after the last. After an error the reader cannot be used any more.
    fn next_frame(&mut self) -> Result<Option<Frame>>;
}

/// What reads the clips that this crate does not read itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readers {
    /// The absolute path of the program `ffmpeg`; `ffprobe` must lie beside it. `None` refuses such clips. It is not used in
    /// builds with the feature `ffmpeg`, which have `FFmpeg`'s libraries.
    pub ffmpeg: Option<PathBuf>,
}

impl Readers {
    /// Opens a clip for reading:
    ///
    /// | what                                  | read by                                                                  |
    /// |---------------------------------------|--------------------------------------------------------------------------|
    /// | `clip.safetensors`                    | this crate: tensor `video` `[F, 3, H, W]`, f32, frame by frame; sound: `audio` `[channels, samples]` |
    /// | animated GIF or WebP                  | this crate, over white; frames per second from the times of all frames   |
    /// | PNG, JPEG, WebP, GIF, BMP, TIFF       | [`read_image`](crate::read_image): a clip of one frame                   |
    /// | `frame_%04d.png`, where no such file is | the numbered pictures, from the lowest number to the highest, none missing |
    /// | `frames/`, a directory                | all pictures in it by name, `frame_2` before `frame_10`                  |
    /// | MP4 with H.264 that is 8-bit 4:2:0 and progressive | the embedded decoder                                        |
    /// | any other video                       | `FFmpeg`: its libraries with the feature `ffmpeg`, else the program, which also reads sound |
    ///
    /// Pictures and animations are recognised by their first bytes, not by their names. Pictures without times have 16 frames
    /// per second; all must have one size.
    ///
    /// YUV is converted to RGB with the matrix that the file names. Without one, the matrix is that of BT.601 for less than 720
    /// rows, else that of BT.709, as in players.
    ///
    /// Bytes in memory are recognised as files are, but for `FFmpeg`, which gets a temporary file.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, holds no frames, is interlaced or HDR, or is of a format that none of the readers
    /// supports.
    pub fn open(&self, source: impl Into<Source>) -> Result<Box<dyn ClipReader>> {
        let source = source.into();
        if let Some(path) = source.path() {
            if path.is_dir() {
                return Ok(Box::new(stills::StillsReader::in_directory(path)?));
            }
            if let Some(pattern) = Pattern::parse(path).filter(|_| !path.exists()) {
                return Ok(Box::new(stills::StillsReader::numbered(&pattern)?));
            }
        }
        match source.opened()? {
            Opened::Stored(stored) => self.open_stored(&stored),
            Opened::Decoded(clip) => Ok(Box::new(frames::FramesReader::open(clip)?)),
        }
    }

    /// Opens a file or its bytes.
    fn open_stored(&self, stored: &Stored) -> Result<Box<dyn ClipReader>> {
        let start = stored.start()?;
        let still = || Ok(Box::new(stills::StillsReader::single(stored)?) as Box<dyn ClipReader>);
        if is_raw(stored, &start) {
            return Ok(Box::new(raw::RawReader::open(stored)?));
        }
        match readable(&start)? {
            #[cfg(feature = "gif")]
            Some(ImageFormat::Gif) => Ok(Box::new(gif::GifReader::open(stored)?)),
            #[cfg(feature = "webp")]
            Some(ImageFormat::WebP) => match webp::WebpReader::open(stored, &start)? {
                Some(clip) => Ok(Box::new(clip)),
                None => still(),
            },
            Some(_) => still(),
            None => self.open_video(stored, &start),
        }
    }

    /// Opens a video with the embedded reader, or another one for what that does not support.
    fn open_video(&self, stored: &Stored, start: &[u8]) -> Result<Box<dyn ClipReader>> {
        if let Some(format) = refused(start) {
            return Err(MediaError::PictureFormat { path: stored.path.clone(), format: format.into() });
        }
        let opened = match container::other_than_mp4(start) {
            Some(name) => {
                Err(MediaError::Unsupported { path: stored.path.clone(), what: format!("it is {name}, not MP4") })
            }
            None => mp4::Mp4Reader::open(stored, self.ffmpeg.as_deref()),
        };
        let why = match opened {
            Ok(reader) => return Ok(Box::new(reader)),
            Err(MediaError::Unsupported { what, .. }) => what,
            Err(MediaError::Interlaced { .. }) => "it is interlaced".into(),
            Err(error) => return Err(error),
        };
        self.open_other(stored, why)
    }

    #[cfg(feature = "ffmpeg")]
    fn open_other(&self, stored: &Stored, _why: String) -> Result<Box<dyn ClipReader>> {
        Ok(Box::new(ffmpeg::FfmpegReader::open(stored)?))
    }

    #[cfg(not(feature = "ffmpeg"))]
    fn open_other(&self, stored: &Stored, why: String) -> Result<Box<dyn ClipReader>> {
        match &self.ffmpeg {
            Some(ffmpeg) => Ok(Box::new(program::ProgramReader::open(stored, ffmpeg, &why)?)),
            None => Err(MediaError::Unsupported { path: stored.path.clone(), what: why }),
        }
    }
}

/// Opens a clip for reading with the readers of this crate alone: see [`Readers::open`].
///
/// # Errors
/// As of [`Readers::open`].
pub fn open(source: impl Into<Source>) -> Result<Box<dyn ClipReader>> {
    Readers::default().open(source)
}

/// Returns whether these are raw frames: a file by its name, bytes by the header that begins after its length.
fn is_raw(stored: &Stored, start: &[u8]) -> bool {
    match stored.bytes() {
        Some(_) => start.get(8) == Some(&b'{'),
        None => stored.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors")),
    }
}

/// Returns the frames per second of `frames` frames that last `total` units altogether, with `units` per second. Files round
/// times to units, so a usual speed that gives these times is preferred. Without times, it is [`USUAL_FPS`].
#[cfg(any(feature = "gif", feature = "webp"))]
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

/// Returns a note if frames are shown for `least` to `most` units, with `units` per second, and read as `fps`. Cameras waver
/// by a few hundredths, and files round to units.
fn uneven(least: u64, most: u64, units: f64, fps: Fps) -> Option<String> {
    let [slow, fast] = [most, least].map(|length| units / length.max(1) as f64);
    let note = || {
        let even = fps.as_f64();
        format!("its frames are shown at {slow:.3} to {fast:.3} per second: they are taken at an even {even:.3}")
    };
    (most > least.saturating_add(least / 2).saturating_add(1)).then(note)
}

/// Returns the `matrix_coefficients` of ITU-T H.273 for a clip that names none: BT.601 up to standard definition, else BT.709.
/// Chromium and others draw the line at 720 rows.
fn usual_matrix(height: usize) -> u8 {
    if height < 720 { 6 } else { 1 }
}

/// Returns `text` with what moves a terminal's cursor or turns its lines as escapes.
pub(crate) fn shown(text: &str) -> String {
    let plain = |character: char| matches!(character, '\'' | '"' | '\\');
    text.chars().fold(String::new(), |mut text, character| {
        if plain(character) {
            text.push(character);
        } else {
            text.extend(character.escape_debug());
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(feature = "gif", feature = "webp"))]
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

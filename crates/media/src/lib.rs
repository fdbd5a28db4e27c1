//! Writes clips (MP4, PNG sequences, GIF, WebP and raw frames) behind one trait, and reads clips and pictures; MP4 files and raw
//! frames have sound.
//!
//! [`create`] chooses the format by the name of the file. Frames are written one by one, so memory does not grow with the
//! length of the clip. Nothing appears under the final name until [`ClipWriter::finish`] has written and synced everything;
//! a writer that is dropped before that leaves nothing behind.
//!
//! ```
//! use kinora_media::{ClipSpec, Fps, Frame, WriteOptions, create, read_recipe};
//!
//! # fn main() -> kinora_media::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("clip.mp4");
//! let spec = ClipSpec { width: 64, height: 48, fps: Fps::new(16, 1)? };
//! let options = WriteOptions { recipe: Some(r#"{"seed":7}"#.into()), ..WriteOptions::default() };
//! let mut writer = create(&path, &spec, &options)?;
//! for step in 0..8 {
//!     writer.push(&Frame::new(64, 48, vec![step as f32 / 8.0; 3 * 64 * 48])?)?;
//! }
//! let written = writer.finish()?;
//! assert_eq!((written.frames, written.width, written.height), (8, 64, 48));
//! assert_eq!(read_recipe(&path)?.as_deref(), Some(r#"{"seed":7}"#));
//! # Ok(())
//! # }
//! ```

mod beside;
mod clip;
mod color;
mod container;
mod error;
#[cfg(feature = "ffmpeg")]
mod ffmpeg;
#[cfg(feature = "gif")]
mod gif;
#[cfg(feature = "h264")]
mod mp4;
#[cfg(feature = "h264")]
mod openh264;
mod output;
mod picture;
mod png;
mod raw;
mod read;
mod recipe;
mod resample;
mod sound;
mod source;
mod stored;
mod upscale;
#[cfg(feature = "webp")]
mod webp;
mod y4m;

pub use beside::SoundBeside;
pub use clip::{ClipSpec, Fps, Frame};
pub use error::{MediaError, Result};
pub use picture::{Fit, Picture, contact_sheet, picture_size};
pub use read::{ClipReader, Readers, open};
pub use recipe::read_recipe;
pub use resample::Filter;
pub use sound::Sound;
pub use sound::track::SoundTrack;
pub use source::{Source, read_image};
pub use upscale::{Cropped, Lanczos, Upscale, UpscaleTarget, Upscaled, resized};

use std::path::{Path, PathBuf};

/// The options for writing a clip.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Text to store in the file (JSON, by convention), at most a megabyte. [`read_recipe`] returns it.
    pub recipe: Option<String>,
    /// The constant quality of MP4: the quantiser of openh264, the CRF of libx264, libx265 and AV1 encoders, or the equivalent
    /// of others. 0 is best (openh264 raises it to 10, where only the rounding to 8 bits is left). The default keeps more than
    /// 38 dB of luma.
    pub quality: Option<u8>,
    /// The encoder of MP4, one of [`encoders`]. The default is libx264 if the build has it, else openh264.
    pub encoder: Option<String>,
}

/// The result of [`ClipWriter::finish`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The path of the file, or the pattern of a PNG sequence.
    pub path: PathBuf,
    /// The number of frames.
    pub frames: u64,
    /// The number of bytes on disk, of all files.
    pub bytes: u64,
    /// The width of the stored frames.
    pub width: usize,
    /// The height of the stored frames.
    pub height: usize,
    /// Notes for the user: a size that was rounded, colours that were lost.
    pub notes: Vec<String>,
}

/// Takes the frames of one clip, in order.
pub trait ClipWriter: Send {
    /// Adds a frame. After an error the writer cannot be used any more.
    fn push(&mut self, frame: &Frame) -> Result<()>;

    /// Adds the sound of the clip, which begins with the first frame. It is called at most once, before
    /// [`finish`](Self::finish); before the first frame, so that the file has it between the frames. Its end is cut off where
    /// the frames are over, and samples that are fewer are followed by silence.
    ///
    /// Returns a sentence for the user if the sound is not kept.
    ///
    /// # Errors
    /// The file of the sound cannot be opened, or its samples are none.
    fn sound(&mut self, sound: &SoundTrack) -> Result<Option<String>> {
        let _ = sound;
        Ok(Some("files of this format have no sound: it is not kept".into()))
    }

    /// Completes the file and gives it its name.
    fn finish(self: Box<Self>) -> Result<Written>;
}

/// Creates a clip at `path`. The name determines the format:
///
/// | name                                   | format                                                       |
/// |----------------------------------------|--------------------------------------------------------------|
/// | `clip.mp4`                             | H.264 (or what the encoder makes), 8-bit 4:2:0, BT.709; with the feature `h264` or `ffmpeg`. Sound: Opus with the feature `opus`, or the packets of another MP4 file |
/// | `frame_%04d.png`, `clip.png`           | PNG sequence; `clip.png` means `clip_%04d.png`, unless there is only one frame |
/// | `frames/`, an existing directory       | PNG sequence `frame_%04d.png` in it                          |
/// | `clip.gif`                             | animated GIF, 256 colours per frame                          |
/// | `clip.webp`                            | animated WebP, lossless                                      |
/// | `clip.y4m`                             | uncompressed YUV 4:2:0, 8 bits, BT.709; without a recipe     |
/// | `clip.safetensors`                     | tensor `video` `[F, 3, H, W]`, f32, not rounded; sound: `audio` `[channels, samples]`, f32, and `sample_rate` in the metadata |
///
/// GIF and WebP are in builds with the features of these names. An existing file is replaced at the end.
///
/// # Errors
/// The directory, permissions, free space, size, options and encoder are checked here, before the first frame.
pub fn create(path: impl AsRef<Path>, spec: &ClipSpec, options: &WriteOptions) -> Result<Box<dyn ClipWriter>> {
    let path = path.as_ref();
    check(spec, options)?;
    if path.is_dir() || path.as_os_str().to_string_lossy().ends_with(std::path::is_separator) {
        return Ok(Box::new(png::PngWriter::create(&path.join("frame_%04d.png"), spec, options)?));
    }
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    Ok(match extension.as_deref() {
        Some("mp4") => mp4_writer(path, spec, options)?,
        Some("png") => Box::new(png::PngWriter::create(path, spec, options)?),
        #[cfg(feature = "gif")]
        Some("gif") => Box::new(gif::GifWriter::create(path, spec, options)?),
        #[cfg(not(feature = "gif"))]
        Some("gif") => return Err(MediaError::NotInBuild { format: "GIF".into(), feature: "gif" }),
        #[cfg(feature = "webp")]
        Some("webp") => Box::new(webp::WebpWriter::create(path, spec, options)?),
        #[cfg(not(feature = "webp"))]
        Some("webp") => return Err(MediaError::NotInBuild { format: "WebP".into(), feature: "webp" }),
        Some("y4m") => Box::new(y4m::Y4mWriter::create(path, spec, options)?),
        Some("safetensors") => Box::new(raw::RawWriter::create(path, spec, options)?),
        _ => return Err(MediaError::UnknownFormat { path: path.to_path_buf() }),
    })
}

/// Returns the names of the MP4 encoders in this build.
pub fn encoders() -> Vec<String> {
    let names = Vec::new();
    #[cfg(feature = "h264")]
    let names = [names, vec![mp4::ENCODER.to_owned()]].concat();
    #[cfg(feature = "ffmpeg")]
    let names = [names, ffmpeg::encoders()].concat();
    names
}

fn mp4_writer(path: &Path, spec: &ClipSpec, options: &WriteOptions) -> Result<Box<dyn ClipWriter>> {
    let available = encoders();
    let default = available.iter().find(|name| *name == "libx264").or(available.first());
    let Some(default) = default else { return Err(MediaError::NotInBuild { format: "MP4".into(), feature: "h264" }) };
    let name = options.encoder.as_ref().unwrap_or(default);
    #[cfg(feature = "h264")]
    if name == mp4::ENCODER {
        return Ok(Box::new(mp4::Mp4Writer::create(path, spec, options)?));
    }
    #[cfg(feature = "ffmpeg")]
    if available.iter().any(|known| known == name) {
        return Ok(Box::new(ffmpeg::FfmpegWriter::create(path, spec, options, name)?));
    }
    Err(MediaError::UnknownEncoder { name: name.clone(), available })
}

fn check(spec: &ClipSpec, options: &WriteOptions) -> Result<()> {
    let &ClipSpec { width, height, .. } = spec;
    if width == 0 || height == 0 || width.checked_mul(height).is_none_or(|area| area > 1 << 32) {
        let limit = "each side must be at least 1, and the area at most 2^32 pixels";
        return Err(MediaError::Size { format: "a file", width, height, limit });
    }
    let bytes = options.recipe.as_ref().map_or(0, String::len) as u64;
    if bytes > recipe::MAX_BYTES {
        return Err(MediaError::RecipeTooLong { bytes, limit: recipe::MAX_BYTES });
    }
    if options.recipe.as_ref().is_some_and(|recipe| recipe.contains('\0')) {
        return Err(MediaError::RecipeNul);
    }
    Ok(())
}

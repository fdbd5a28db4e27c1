//! [`Source`]: a picture or a clip that is read, from a file or from memory.

use crate::clip::Fps;
use crate::error::{MediaError, Result};
use crate::picture::{Picture, read_over_white};
use crate::sound::track::SoundTrack;
use crate::stored::Stored;
use kinora_files::{path_of_text, path_text};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Before the hash of something in memory, where it is written down.
const IN_MEMORY: &str = "memory:sha256:";

/// A picture or a clip that is read: a path, the bytes of a file, a decoded picture, or frames. Copies share what is in memory.
///
/// ```
/// use kinora_media::{Fps, Picture, Source};
///
/// # fn main() -> kinora_media::Result<()> {
/// let file = Source::from("first.png");
/// let bytes = Source::from(Picture::new(2, 1, vec![0; 6])?.png_bytes()?); // of any file that is read
/// let picture = Source::from(Picture::new(2, 1, vec![0; 6])?);
/// let clip = Source::frames(vec![Picture::new(2, 1, vec![0; 6])?; 5], Fps::new(16, 1)?)?;
/// assert_eq!(file.path(), Some("first.png".as_ref()));
/// assert_ne!(picture, bytes); // what is in memory is told apart by its SHA-256
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Source(pub(crate) Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    Path(PathBuf),
    Memory {
        content: Content,
        /// The SHA-256, in hexadecimal digits.
        hash: String,
        /// The name that errors have for it.
        name: PathBuf,
    },
    /// Something that was in memory, and of which only the hash was written down.
    Lost(String),
}

#[derive(Clone)]
pub(crate) enum Content {
    Bytes(Arc<[u8]>),
    Decoded(Decoded),
}

/// Frames, of which there is one at least, and all have one size.
#[derive(Clone)]
pub(crate) struct Decoded {
    pub(crate) frames: Arc<[Picture]>,
    /// One picture has none.
    pub(crate) fps: Option<Fps>,
    pub(crate) recipe: Option<String>,
    pub(crate) sound: Option<SoundTrack>,
}

/// What is to be read: a file or its bytes, or what is decoded already.
pub(crate) enum Opened<'a> {
    Stored(Stored),
    Decoded(&'a Decoded),
}

impl Source {
    /// Returns a source of frames, which have one size.
    ///
    /// # Errors
    /// No frames, frames of different sizes, and a frame without 3 * width * height values.
    pub fn frames(frames: Vec<Picture>, fps: Fps) -> Result<Self> {
        let first = frames.first().ok_or_else(|| MediaError::NoPictures { path: "<frames>".into() })?;
        let expected = (first.width, first.height);
        for (index, frame) in frames.iter().enumerate() {
            frame.check()?;
            let got = (frame.width, frame.height);
            if got != expected {
                return Err(MediaError::FrameSize { index: index as u64, got, expected });
            }
        }
        Ok(Self::of_frames(frames, Some(fps), "<frames>"))
    }

    fn of_frames(frames: Vec<Picture>, fps: Option<Fps>, name: &str) -> Self {
        let rate = fps.map(|fps| fps.to_string()).unwrap_or_default();
        let mut hash = Sha256::new().chain_update(rate);
        for Picture { width, height, rgb } in &frames {
            hash = hash.chain_update(format!(" {width}x{height} ")).chain_update(rgb);
        }
        Self::in_memory(Content::Decoded(Decoded { frames: frames.into(), fps, recipe: None, sound: None }), hash, name)
    }

    fn in_memory(content: Content, hash: Sha256, name: &str) -> Self {
        let hash = hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        Self(Kind::Memory { content, hash, name: name.into() })
    }

    /// Returns the same with the recipe that a clip in memory was made by; files have their own.
    #[must_use]
    pub fn with_recipe(mut self, recipe: String) -> Self {
        if let Kind::Memory { content: Content::Decoded(clip), .. } = &mut self.0 {
            clip.recipe = Some(recipe);
        }
        self
    }

    /// Returns the same with the sound of a clip in memory, from its first frame on; files have their own.
    #[must_use]
    pub fn with_sound(mut self, sound: impl Into<SoundTrack>) -> Self {
        if let Kind::Memory { content: Content::Decoded(clip), .. } = &mut self.0 {
            clip.sound = Some(sound.into());
        }
        self
    }

    /// Returns the same with a name that errors and notices have for it, if it is in memory.
    #[must_use]
    pub fn named(mut self, to: &str) -> Self {
        if let Kind::Memory { name, .. } = &mut self.0 {
            *name = to.into();
        }
        self
    }

    /// Returns the path, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Path(path) => Some(path),
            _ => None,
        }
    }

    /// Returns the name that errors and notices have for it: the path, where there is one.
    pub fn label(&self) -> PathBuf {
        match &self.0 {
            Kind::Path(path) => path.clone(),
            Kind::Memory { name, .. } => name.clone(),
            Kind::Lost(hash) => [IN_MEMORY, hash].concat().into(),
        }
    }

    /// Returns the same with an absolute path.
    #[must_use]
    pub fn absolute(&self) -> Self {
        match self.path().map(std::path::absolute) {
            Some(Ok(path)) => path.into(),
            _ => self.clone(),
        }
    }

    /// Returns the text by which a recipe names it: the path, or the SHA-256 of what is in memory. That of bytes is the one of a file
    /// with these bytes; that of frames is made of rate, sizes and values.
    pub fn text(&self) -> String {
        match &self.0 {
            Kind::Path(path) => path_text(path),
            Kind::Memory { hash, .. } | Kind::Lost(hash) => [IN_MEMORY, hash].concat(),
        }
    }

    /// Returns the source that `text` names. What was in memory is not there any more: reading it is an error.
    pub fn of_text(text: &str) -> Self {
        let hash = text.strip_prefix(IN_MEMORY).filter(|hash| is_sha256(hash));
        hash.map_or_else(|| path_of_text(text).into(), |hash| Self(Kind::Lost(hash.into())))
    }

    /// Returns what is to be read.
    pub(crate) fn opened(&self) -> Result<Opened<'_>> {
        match &self.0 {
            Kind::Path(path) => Ok(Opened::Stored(Stored::file(path))),
            Kind::Memory { content: Content::Bytes(bytes), name, .. } => {
                Ok(Opened::Stored(Stored::in_memory(name, Arc::clone(bytes))))
            }
            Kind::Memory { content: Content::Decoded(clip), .. } => Ok(Opened::Decoded(clip)),
            Kind::Lost(hash) => Err(MediaError::Lost { hash: hash.clone() }),
        }
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// What is in memory is told apart by its hash.
impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Path(a), Self::Path(b)) => a == b,
            (Self::Memory { hash: a, .. } | Self::Lost(a), Self::Memory { hash: b, .. } | Self::Lost(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Kind {}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.text()).finish()
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self(Kind::Path(path))
    }
}

impl From<&PathBuf> for Source {
    fn from(path: &PathBuf) -> Self {
        path.clone().into()
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        path.to_path_buf().into()
    }
}

/// A path.
impl From<&str> for Source {
    fn from(path: &str) -> Self {
        PathBuf::from(path).into()
    }
}

/// The bytes of a picture's or a clip's file, of any format that is read.
impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Self {
        let hash = Sha256::new_with_prefix(&bytes);
        Self::in_memory(Content::Bytes(bytes.into()), hash, "<bytes>")
    }
}

/// A decoded picture.
impl From<Picture> for Source {
    fn from(picture: Picture) -> Self {
        Self::of_frames(vec![picture], None, "<picture>")
    }
}

impl From<&Source> for Source {
    fn from(source: &Source) -> Self {
        source.clone()
    }
}

/// Reads a picture: PNG, JPEG, WebP, GIF (the first frame of an animation), BMP or TIFF, recognised by the content of the
/// file, not by its name.
///
/// The EXIF orientation is applied, and transparent pixels are blended with white
/// (`round((alpha * value + (255 - alpha) * 255) / 255)`). Grey becomes RGB; values of 16 bits are rounded to 8. Colours are
/// taken as sRGB, whatever profile the file has.
///
/// # Errors
/// The file cannot be read, is cut short or damaged, is larger than 8192 pixels a side, or is of another format. HEIC, AVIF
/// and JPEG XL are refused by name. A picture in memory without 3 * width * height values, and several frames.
pub fn read_image(source: impl Into<Source>) -> Result<Picture> {
    let source = source.into();
    match source.opened()? {
        Opened::Stored(stored) => read_over_white(&stored).map(|(picture, _)| picture),
        Opened::Decoded(clip) => match &*clip.frames {
            [picture] => picture.check().map(|()| picture.clone()),
            _ => Err(MediaError::NotAPicture { path: source.label(), what: "it is several frames" }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(value: u8) -> Picture {
        Picture::new(2, 1, vec![value; 6]).expect("a picture")
    }

    #[test]
    fn what_is_in_memory_is_known_by_its_hash() {
        let [a, b] = [1, 2].map(|value| Source::from(picture(value)));
        assert!(a == Source::from(picture(1)).named("image") && a != b);
        assert_ne!(a, Source::frames(vec![picture(1)], Fps::new(16, 1).expect("a rate")).expect("frames"));
        // As `sha256sum` has it.
        let abc = "memory:sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Source::from(b"abc".to_vec()).text(), abc);
        assert_eq!(Source::of_text(abc), Source::from(b"abc".to_vec()));
        let lost = read_image(Source::of_text(abc)).expect_err("only its hash");
        assert!(lost.to_string().contains(abc) && lost.hint().is_some(), "{lost}");
        assert_eq!(Source::of_text("memory:sha256:ab").path(), Some(Path::new("memory:sha256:ab")));
    }

    #[test]
    fn frames_have_one_size() {
        let fps = Fps::new(16, 1).expect("a rate");
        let wide = Picture::new(3, 1, vec![0; 9]).expect("a picture");
        assert!(matches!(Source::frames(vec![picture(0), wide], fps), Err(MediaError::FrameSize { index: 1, .. })));
        assert!(matches!(Source::frames(Vec::new(), fps), Err(MediaError::NoPictures { .. })));
        let short = Picture { rgb: vec![0; 5], ..picture(0) };
        assert!(matches!(read_image(short.clone()), Err(MediaError::FrameData { .. })));
        assert!(matches!(Source::frames(vec![short], fps), Err(MediaError::FrameData { .. })));
    }
}

//! Clips as numbered PNG files. The files are written into a hidden folder in the folder of their targets and moved to the
//! targets together, after the last one.

use crate::clip::{ClipSpec, Frame};
use crate::color::rgb8;
use crate::error::{MediaError, Result};
use crate::output::not_writable;
use crate::{ClipWriter, WriteOptions, Written};
use kinora_files::{HiddenFolder, folder_of, sync_folder};
use png::{BitDepth, ColorType, Encoder, EncodingError, SrgbRenderingIntent};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

pub(crate) struct PngWriter {
    spec: ClipSpec,
    recipe: Option<String>,
    pattern: Pattern,
    /// The path of the file of a clip of one frame, if the name has no number in it.
    single: Option<PathBuf>,
    files: HiddenFolder,
    /// Dropped after `files`, which lie in it.
    _directory: NewDirectory,
    frames: u64,
    bytes: u64,
}

impl PngWriter {
    pub(crate) fn create(path: &Path, spec: &ClipSpec, options: &WriteOptions) -> Result<Self> {
        let &ClipSpec { width, height, .. } = spec;
        if width.max(height) > i32::MAX as usize {
            return Err(MediaError::Size { format: "PNG", width, height, limit: "each side is at most 2147483647" });
        }
        let (pattern, single) = match Pattern::parse(path) {
            Some(pattern) => (pattern, None),
            None => (Pattern::numbered(path), Some(path.to_path_buf())),
        };
        let directory = if single.is_none() { NewDirectory::create(folder_of(path))? } else { NewDirectory(None) };
        let files = HiddenFolder::create_in(folder_of(path)).map_err(|source| not_writable(path, source))?;
        files.probe_space().map_err(|source| MediaError::io("write", path, source))?;
        let recipe = options.recipe.clone();
        Ok(Self { spec: *spec, recipe, pattern, single, files, _directory: directory, frames: 0, bytes: 0 })
    }

    fn target(&self, index: u64) -> PathBuf {
        match &self.single {
            Some(path) if self.frames == 1 => path.clone(),
            _ => self.pattern.path(index),
        }
    }
}

impl ClipWriter for PngWriter {
    fn push(&mut self, frame: &Frame) -> Result<()> {
        self.spec.check(frame, self.frames)?;
        let path = self.files.path(&self.frames.to_string());
        let write = || {
            let file = BufWriter::new(File::create(&path)?);
            encode(file, frame, self.recipe.as_deref())?.sync_all()?;
            Ok(fs::metadata(&path)?.len())
        };
        let bytes = write().map_err(|error| failed(&self.pattern.path(self.frames), error))?;
        self.bytes += bytes;
        self.frames += 1;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        let pattern = self.pattern.as_path();
        if self.frames == 0 {
            return Err(MediaError::NoFrames { path: pattern });
        }
        for index in 0..self.frames {
            let target = self.target(index);
            let moved = self.files.persist(&index.to_string(), &target);
            moved.map_err(|source| MediaError::io("write", &target, source))?;
        }
        sync_folder(folder_of(&pattern));
        let path = if self.frames == 1 { self.target(0) } else { pattern };
        let mut notes = Vec::new();
        if self.single.is_some() && self.frames > 1 {
            notes.push(format!("a PNG holds one frame; the clip is in {}", path.display()));
        }
        if self.pattern.path(self.frames).exists() {
            notes.push(format!("older frames remain from {} on", self.pattern.path(self.frames).display()));
        }
        let ClipSpec { width, height, .. } = self.spec;
        Ok(Written { path, frames: self.frames, bytes: self.bytes, width, height, notes })
    }
}

/// The directory of the frames if this writer created it; removed on drop if it is empty.
struct NewDirectory(Option<PathBuf>);

impl NewDirectory {
    fn create(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self(None));
        }
        fs::create_dir(path).map_err(|source| not_writable(path, source))?;
        Ok(Self(Some(path.to_path_buf())))
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_dir(path);
        }
    }
}

/// A path with one `%d` or `%0Nd` in its file name.
pub(crate) struct Pattern {
    directory: PathBuf,
    before: String,
    digits: usize,
    after: String,
}

impl Pattern {
    pub(crate) fn parse(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (before, rest) = name.split_once('%')?;
        let (digits, after) = rest.split_once('d')?;
        let digits = match digits.strip_prefix('0') {
            Some(digits) => digits.parse().ok().filter(|&digits| digits <= 20)?,
            None if digits.is_empty() => 1,
            None => return None,
        };
        Some(Self { directory: folder_of(path).to_path_buf(), before: before.into(), digits, after: after.into() })
    }

    /// Returns the pattern `clip_%04d.png` for `clip.png`.
    fn numbered(path: &Path) -> Self {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Self { directory: folder_of(path).to_path_buf(), before: format!("{stem}_"), digits: 4, after: ".png".into() }
    }

    pub(crate) fn path(&self, index: u64) -> PathBuf {
        let Self { directory, before, digits, after } = self;
        directory.join(format!("{before}{index:0digits$}{after}"))
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the number of a file of this pattern, or `None` for any other name.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        let Self { before, digits, after, .. } = self;
        let number = name.strip_prefix(before.as_str())?.strip_suffix(after.as_str())?.parse().ok()?;
        (name == format!("{before}{number:0digits$}{after}")).then_some(number)
    }

    pub(crate) fn as_path(&self) -> PathBuf {
        let Self { directory, before, digits, after } = self;
        directory.join(format!("{before}%0{digits}d{after}"))
    }
}

fn encode(mut file: BufWriter<File>, frame: &Frame, recipe: Option<&str>) -> Result<File, EncodingError> {
    encode_rgb8(&mut file, frame.width, frame.height, &rgb8(frame), recipe)?;
    Ok(file.into_inner().map_err(io::IntoInnerError::into_error)?)
}

/// Writes interleaved RGB `[H, W, 3]` as a PNG file with the recipe in a comment.
pub(crate) fn encode_rgb8(
    file: impl Write,
    width: usize,
    height: usize,
    rgb: &[u8],
    recipe: Option<&str>,
) -> Result<(), EncodingError> {
    let mut encoder = Encoder::new(file, width as u32, height as u32);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_source_srgb(SrgbRenderingIntent::Perceptual);
    if let Some(recipe) = recipe {
        encoder.add_itxt_chunk("Comment".into(), recipe.into())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()
}

fn failed(path: &Path, error: EncodingError) -> MediaError {
    match error {
        EncodingError::IoError(source) => MediaError::io("write", path, source),
        other => MediaError::encoder("the PNG encoder", "write", other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_number_frames() {
        let path = |name: &str| Pattern::parse(Path::new(name)).map(|pattern| pattern.path(7));
        assert_eq!(path("a/frame_%04d.png"), Some("a/frame_0007.png".into()));
        assert_eq!(path("a/%d.png"), Some("a/7.png".into()));
        for plain in ["a/frame.png", "a%/frame.png", "50%.png", "%x4d.png", "%4d.png", "%0999999999999d.png"] {
            assert_eq!(path(plain), None, "{plain}");
        }
        let pattern = Pattern::parse(Path::new("a/frame_%04d.png"));
        let number = |name: &str| pattern.as_ref().and_then(|pattern| pattern.number(name));
        assert_eq!((number("frame_0007.png"), number("frame_12345.png")), (Some(7), Some(12345)));
        for other in ["frame_007.png", "frame_00007.png", "frame_+007.png", "frame_.png", "frame_0007.jpg", "0007"] {
            assert_eq!(number(other), None, "{other}");
        }
        assert_eq!(Pattern::numbered(Path::new("a/clip.png")).as_path(), Path::new("a/clip_%04d.png"));
    }
}

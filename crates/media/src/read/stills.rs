//! Clips whose frames are picture files: one picture, numbered pictures, or all pictures of a directory. Pictures are read one
//! at a time; only their names are kept.

use super::{ClipReader, USUAL_FPS};
use crate::clip::{ClipSpec, Fps, Frame};
use crate::error::{MediaError, Result};
use crate::picture::{Picture, read_image};
use crate::png::Pattern;
use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

/// The endings of picture files in a directory.
const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"];

pub(crate) struct StillsReader {
    paths: Vec<PathBuf>,
    /// The first picture, which is read for the size.
    first: Option<Picture>,
    spec: ClipSpec,
    next: usize,
}

impl StillsReader {
    /// Opens a clip of one frame.
    pub(crate) fn single(path: &Path) -> Result<Self> {
        Self::new(vec![path.to_path_buf()])
    }

    /// Opens the files of `pattern`, from the lowest existing number to the highest; none may be missing.
    pub(crate) fn numbered(pattern: &Pattern) -> Result<Self> {
        let whole = pattern.as_path();
        let mut numbers: Vec<u64> =
            names_in(pattern.directory())?.iter().filter_map(|name| pattern.number(name)).collect();
        numbers.sort_unstable();
        if let Some(gap) = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1) {
            let what = format!("`{}` is missing", pattern.path(gap[0] + 1).display());
            return Err(MediaError::Damaged { path: whole, what });
        }
        if numbers.is_empty() {
            return Err(MediaError::NoPictures { path: whole });
        }
        Self::new(numbers.into_iter().map(|number| pattern.path(number)).collect())
    }

    /// Opens all pictures in a directory, sorted by name with numbers as numbers. Hidden files are left out.
    pub(crate) fn in_directory(directory: &Path) -> Result<Self> {
        let is_picture = |name: &String| {
            let extension = Path::new(name).extension().map(|extension| extension.to_string_lossy().to_lowercase());
            !name.starts_with('.') && extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
        };
        let mut names: Vec<String> = names_in(directory)?.into_iter().filter(is_picture).collect();
        names.sort_by(|a, b| by_number(a, b).then_with(|| a.cmp(b)));
        if names.is_empty() {
            return Err(MediaError::NoPictures { path: directory.to_path_buf() });
        }
        Self::new(names.into_iter().map(|name| directory.join(name)).collect())
    }

    fn new(paths: Vec<PathBuf>) -> Result<Self> {
        let first = paths.first().map(read_image).transpose()?;
        let (width, height) = first.as_ref().map_or((0, 0), |first| (first.width, first.height));
        let spec = ClipSpec { width, height, fps: Fps::new(USUAL_FPS, 1)? };
        Ok(Self { paths, first, spec, next: 0 })
    }
}

impl ClipReader for StillsReader {
    fn spec(&self) -> ClipSpec {
        self.spec
    }

    fn frames(&self) -> Option<usize> {
        Some(self.paths.len())
    }

    fn next_frame(&mut self) -> Result<Option<Frame>> {
        let Some(path) = self.paths.get(self.next) else { return Ok(None) };
        let picture = match self.first.take() {
            Some(first) => first,
            None => read_image(path)?,
        };
        let (got, expected) = ((picture.width, picture.height), (self.spec.width, self.spec.height));
        if got != expected {
            return Err(MediaError::FrameSize { index: self.next as u64, got, expected });
        }
        self.next += 1;
        Ok(Some(picture.to_frame()))
    }
}

/// Returns the names of the files in a directory. Names that are not Unicode are left out: neither a pattern nor an extension
/// matches them.
fn names_in(directory: &Path) -> Result<Vec<String>> {
    let failed = |source| MediaError::io("read", directory, source);
    let entries = fs::read_dir(directory).map_err(failed)?;
    let names = entries.map(|entry| Ok(entry.map_err(failed)?.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect()
}

/// Compares names with runs of digits as numbers, so that `frame_2` comes before `frame_10`.
fn by_number(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let order = match (take_number(&mut a), take_number(&mut b)) {
            // Without leading zeros, the longer number is the larger one.
            (Some(x), Some(y)) => x.len().cmp(&y.len()).then_with(|| x.cmp(y)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => match (a.split_first(), b.split_first()) {
                (Some((x, rest_a)), Some((y, rest_b))) => {
                    (a, b) = (rest_a, rest_b);
                    x.cmp(y)
                }
                (x, y) => return x.is_some().cmp(&y.is_some()),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Removes the digits from the front of `text` and returns them without leading zeros.
fn take_number<'a>(text: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(len);
    *text = rest;
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    (len > 0).then_some(&digits[zeros..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_by_their_numbers() {
        let mut names = ["b1", "a10.png", "a2.png", "a02.png", "a.png", "a2b3", "a2b20", "10", "9"];
        names.sort_by(|a, b| by_number(a, b).then_with(|| a.cmp(b)));
        assert_eq!(names, ["9", "10", "a02.png", "a2.png", "a2b3", "a2b20", "a10.png", "a.png", "b1"]);
    }
}

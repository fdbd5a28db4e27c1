//! Clips whose frames are picture files: one picture, numbered pictures, or all pictures of a directory. Pictures are read one
//! at a time; only their names are kept.

use super::{ClipReader, USUAL_FPS, shown};
use crate::clip::{ClipSpec, Fps, Frame};
use crate::error::{MediaError, Result};
use crate::picture::{Picture, notes_of, picture_size, read_over_white};
use crate::png::Pattern;
use crate::stored::Stored;
use std::cmp::Ordering;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The endings of picture files in a directory.
const EXTENSIONS: [&str; 10] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp", "tif", "tiff"];

/// The endings of pictures that are not read. A directory with one is refused: without it, the clip would lack frames.
const REFUSED: [&str; 6] = ["avif", "heic", "heif", "jxl", "jp2", "exr"];

pub(crate) struct StillsReader {
    /// The first picture, which is read for the size.
    first: Option<Picture>,
    /// The files of the others that are not read yet.
    rest: std::vec::IntoIter<PathBuf>,
    count: usize,
    spec: ClipSpec,
    notes: Vec<String>,
}

impl StillsReader {
    /// Opens a clip of one frame.
    pub(crate) fn single(stored: &Stored) -> Result<Self> {
        Self::new(stored, Vec::new(), None)
    }

    /// Opens the files of `pattern`, from the lowest existing number to the highest; none may be missing.
    pub(crate) fn numbered(pattern: &Pattern) -> Result<Self> {
        let whole = pattern.as_path();
        let mut numbers: Vec<u64> =
            names_in(pattern.directory())?.iter().filter_map(|name| pattern.number(name.to_str()?)).collect();
        numbers.sort_unstable();
        if let Some(gap) = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1) {
            let what = format!("`{}` is missing", pattern.path(gap[0] + 1).display());
            return Err(MediaError::Damaged { path: whole, what });
        }
        if numbers.is_empty() {
            return Err(MediaError::NoPictures { path: whole });
        }
        Self::of_files(numbers.into_iter().map(|number| pattern.path(number)), None)
    }

    /// Opens all pictures in a directory, sorted by name with numbers as numbers. Hidden files are left out.
    pub(crate) fn in_directory(directory: &Path) -> Result<Self> {
        let is_hidden = |name: &OsString| name.as_encoded_bytes().starts_with(b".");
        let is_one_of = |name: &OsString, endings: &[&str]| {
            let extension = Path::new(name).extension().map(|extension| extension.to_string_lossy().to_lowercase());
            !is_hidden(name) && extension.is_some_and(|extension| endings.contains(&extension.as_str()))
        };
        let names = names_in(directory)?;
        if let Some(name) = names.iter().find(|name| is_one_of(name, &REFUSED)) {
            let path = directory.join(name);
            let format = path.extension().map(|extension| extension.to_string_lossy().to_uppercase());
            return Err(MediaError::PictureFormat { path, format: format.unwrap_or_default() });
        }
        let (mut names, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| is_one_of(name, &EXTENSIONS));
        let mut others: Vec<_> = others.into_iter().filter(|name| !is_hidden(name)).collect();
        others.sort();
        let note = others.first().map(|first| {
            let (count, first) = (others.len(), shown(&first.to_string_lossy()));
            format!("{count} of its files or folders are no pictures and not read, such as `{first}`")
        });
        let bytes = |name: &OsString| name.as_encoded_bytes().to_vec();
        names.sort_by(|a, b| by_number(&bytes(a), &bytes(b)).then_with(|| a.cmp(b)));
        if names.is_empty() {
            return Err(MediaError::NoPictures { path: directory.to_path_buf() });
        }
        Self::of_files(names.into_iter().map(|name| directory.join(name)), note)
    }

    /// Opens these files, of which there is one at least.
    fn of_files(mut paths: impl Iterator<Item = PathBuf>, note: Option<String>) -> Result<Self> {
        let first = paths.next().expect("there is one at least");
        Self::new(&Stored::file(&first), paths.collect(), note)
    }

    /// Opens these pictures; their sizes are compared before any but the first is decoded.
    fn new(stored: &Stored, rest: Vec<PathBuf>, note: Option<String>) -> Result<Self> {
        let (first, is_transparent) = read_over_white(stored)?;
        let expected = (first.width, first.height);
        for path in &rest {
            let got = picture_size(path)?;
            if got != expected {
                return Err(MediaError::UnequalSize { path: path.clone(), got, expected });
            }
        }
        let spec = ClipSpec { width: first.width, height: first.height, fps: Fps::new(USUAL_FPS, 1)? };
        let mut notes = notes_of(stored)?;
        notes.extend(is_transparent.then(|| "its transparent parts lie over white".to_owned()));
        notes.extend(note);
        Ok(Self { first: Some(first), count: 1 + rest.len(), rest: rest.into_iter(), spec, notes })
    }
}

impl ClipReader for StillsReader {
    fn spec(&self) -> ClipSpec {
        self.spec
    }

    fn frames(&self) -> Option<usize> {
        Some(self.count)
    }

    /// Returns the notes of the first picture.
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn next_frame(&mut self) -> Result<Option<Frame>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first.to_frame()));
        }
        let Some(path) = self.rest.next() else { return Ok(None) };
        let (picture, _) = read_over_white(&Stored::file(&path))?;
        let (got, expected) = ((picture.width, picture.height), (self.spec.width, self.spec.height));
        if got != expected {
            return Err(MediaError::UnequalSize { path, got, expected });
        }
        Ok(Some(picture.to_frame()))
    }
}

/// Returns the names of the files in a directory.
fn names_in(directory: &Path) -> Result<Vec<OsString>> {
    let failed = |source| MediaError::io("read", directory, source);
    let entries = fs::read_dir(directory).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name())).collect()
}

/// Compares names with runs of digits as numbers, so that `frame_2` comes before `frame_10`.
fn by_number(mut a: &[u8], mut b: &[u8]) -> Ordering {
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
        names.sort_by(|a, b| by_number(a.as_bytes(), b.as_bytes()).then_with(|| a.cmp(b)));
        assert_eq!(names, ["9", "10", "a02.png", "a2.png", "a2b3", "a2b20", "a10.png", "a.png", "b1"]);
    }
}

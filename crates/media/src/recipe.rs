//! Reading the recipe from a clip, where it is stored as a comment.
//!
//! | format       | place                                                     |
//! |--------------|-----------------------------------------------------------|
//! | MP4          | `moov/udta/meta/ilst/©cmt` (`comment` in ffprobe) |
//! | PNG          | an `iTXt` chunk with the keyword `Comment`                 |
//! | GIF          | a comment extension                                       |
//! | WebP         | `dc:description` in the XMP chunk                          |
//! | safetensors  | `recipe` in the header's `__metadata__`                    |
//!
//! Files are not trusted: sizes in them are checked against the file, at most [`MAX_BYTES`] of text are read into memory, and
//! the number of steps is bounded.

use crate::error::{MediaError, Result};
use crate::source::Opened;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

#[cfg(test)]
mod hostile;

/// The longest recipe that is written or read.
pub(crate) const MAX_BYTES: u64 = 1 << 20;

/// The most boxes, chunks or blocks visited in one file.
const MAX_STEPS: usize = 1_000_000;

/// The longest safetensors header that is parsed.
const MAX_HEADER: u64 = 16 << 20;

/// The XMP packet of a WebP file before and after the text.
pub(crate) const XMP: [&str; 2] = [
    "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\
     <rdf:Description xmlns:dc=\"http://purl.org/dc/elements/1.1/\"><dc:description><rdf:Alt>\
     <rdf:li xml:lang=\"x-default\">",
    "</rdf:li></rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta>",
];

const XML_ESCAPES: [(&str, &str); 3] = [("<", "&lt;"), (">", "&gt;"), ("&", "&amp;")];

/// Returns the recipe in the clip, as it was given to [`create`](crate::create), or `None` if the file has none or is of another
/// format; of frames in memory the one that [`Source::with_recipe`](crate::Source::with_recipe) gave.
///
/// # Errors
/// The file cannot be read, is cut short or damaged, or claims a recipe of more than a megabyte.
pub fn read_recipe(clip: impl Into<crate::Source>) -> Result<Option<String>> {
    match clip.into().opened()? {
        Opened::Stored(stored) => read_from(stored.open()?, &stored.path),
        Opened::Decoded(clip) => Ok(clip.recipe.clone()),
    }
}

/// Returns the recipe in `file`; errors name `path`.
fn read_from(mut file: impl Read + Seek, path: &Path) -> Result<Option<String>> {
    let len = file.seek(SeekFrom::End(0)).map_err(|source| MediaError::io("read", path, source))?;
    let mut source = Source { file, len, path, steps: 0, position: len };
    let mut magic = [0; 12];
    source.read_at(0, &mut magic[..len.min(12) as usize])?;
    match &magic {
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => mp4(&mut source),
        [0x89, b'P', b'N', b'G', 13, 10, 26, 10, ..] => png(&mut source),
        [b'G', b'I', b'F', b'8', ..] => gif(&mut source),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => webp(&mut source),
        [_, _, _, _, _, _, _, _, b'{', ..] => safetensors(&mut source),
        _ => Ok(None),
    }
}

/// Escapes `text` for XML.
#[cfg(feature = "webp")]
pub(crate) fn escape_xml(text: &str) -> String {
    XML_ESCAPES.iter().rev().fold(text.to_owned(), |text, (plain, escaped)| text.replace(plain, escaped))
}

fn mp4(source: &mut Source<impl Read + Seek>) -> Result<Option<String>> {
    let mut range = 0..source.len;
    for kind in [b"moov", b"udta", b"meta", b"ilst", b"\xa9cmt", b"data"] {
        let Some(child) = find_box(source, range, *kind)? else {
            return if kind == b"moov" { Err(source.damaged("it has no index (moov)")) } else { Ok(None) };
        };
        range = if kind == b"meta" { skip_meta_version(source, child)? } else { child };
    }
    // Four bytes of type and four of locale stand before the text.
    let text = range.start.saturating_add(8).min(range.end)..range.end;
    source.text(text).map(Some)
}

/// Returns the range of the payload of the first box of this kind in `range`.
fn find_box(source: &mut Source<impl Read + Seek>, mut range: Range<u64>, kind: [u8; 4]) -> Result<Option<Range<u64>>> {
    while range.end - range.start >= 8 {
        source.step()?;
        let header: [u8; 8] = source.array(range.start)?;
        let [size, name] = [&header[..4], &header[4..]];
        let mut payload = range.start + 8;
        let size = match u32::from_be_bytes([size[0], size[1], size[2], size[3]]) {
            0 => range.end - range.start,
            1 => {
                payload += 8;
                u64::from_be_bytes(source.array(range.start + 8)?)
            }
            size => u64::from(size),
        };
        let end = range.start.checked_add(size).filter(|&end| payload <= end && end <= range.end);
        let Some(end) = end else {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(source.damaged(format!("box `{}` at {} has size {size}", name.escape_debug(), range.start)));
        };
        if name == kind {
            return Ok(Some(payload..end));
        }
        range.start = end;
    }
    Ok(None)
}

/// Returns the range of the children of `meta`. ISO files have a version and flags before them, older `QuickTime` files do not.
fn skip_meta_version(source: &mut Source<impl Read + Seek>, range: Range<u64>) -> Result<Range<u64>> {
    if range.end - range.start < 8 {
        return Ok(range);
    }
    let start: [u8; 8] = source.array(range.start)?;
    Ok(if start.ends_with(b"hdlr") { range } else { range.start + 4..range.end })
}

fn png(source: &mut Source<impl Read + Seek>) -> Result<Option<String>> {
    let mut position = 8;
    while position < source.len {
        source.step()?;
        let [a, b, c, d, kind @ ..] = source.array::<8>(position)?;
        let (start, size) = (position + 8, u64::from(u32::from_be_bytes([a, b, c, d])));
        if &kind == b"iTXt" {
            // Keyword, NUL, compression flag and method, language, NUL, translated keyword, NUL, text.
            let prefix = b"Comment\0\0\0\0\0";
            if size >= prefix.len() as u64 && &source.array::<12>(start)? == prefix {
                return source.text(start + 12..start + size).map(Some);
            }
        }
        if &kind == b"IEND" {
            break;
        }
        position = start + size + 4;
    }
    Ok(None)
}

fn gif(source: &mut Source<impl Read + Seek>) -> Result<Option<String>> {
    let [flags] = source.array(10)?;
    let mut position = 13 + colour_table_len(flags);
    loop {
        source.step()?;
        match source.array::<1>(position)? {
            [0x21] => {
                let [label] = source.array(position + 1)?;
                let (text, end) = sub_blocks(source, position + 2, label == 0xfe)?;
                if let Some(text) = text {
                    return source.utf8(text).map(Some);
                }
                position = end;
            }
            [0x2c] => {
                let [flags] = source.array(position + 9)?;
                position = sub_blocks(source, position + 10 + colour_table_len(flags) + 1, false)?.1;
            }
            _ => return Ok(None),
        }
    }
}

/// Reads a chain of blocks of up to 255 bytes: returns its bytes if they are wanted, and its end.
fn sub_blocks(
    source: &mut Source<impl Read + Seek>,
    mut position: u64,
    wanted: bool,
) -> Result<(Option<Vec<u8>>, u64)> {
    let mut bytes = wanted.then(Vec::new);
    loop {
        source.step()?;
        let [size] = source.array(position)?;
        let block = position + 1..position + 1 + u64::from(size);
        position = block.end;
        if size == 0 {
            return Ok((bytes, position));
        }
        if let Some(bytes) = &mut bytes {
            bytes.extend(source.bytes(block)?);
            check_len(bytes.len() as u64)?;
        }
    }
}

fn colour_table_len(flags: u8) -> u64 {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

fn webp(source: &mut Source<impl Read + Seek>) -> Result<Option<String>> {
    let mut position = 12;
    while position < source.len {
        source.step()?;
        let [kind @ .., a, b, c, d] = source.array::<8>(position)?;
        let (start, size) = (position + 8, u64::from(u32::from_le_bytes([a, b, c, d])));
        if &kind == b"XMP " {
            let packet = source.text(start..start + size)?;
            return Ok(between(&packet, XMP).map(unescape_xml));
        }
        position = start + size + size % 2;
    }
    Ok(None)
}

fn safetensors(source: &mut Source<impl Read + Seek>) -> Result<Option<String>> {
    let size = u64::from_le_bytes(source.array(0)?);
    if size > MAX_HEADER {
        return Ok(None);
    }
    let header = source.bytes(8..8 + size)?;
    let header: serde_json::Value =
        serde_json::from_slice(&header).map_err(|error| source.damaged(format!("its header: {error}")))?;
    Ok(header["__metadata__"]["recipe"].as_str().map(str::to_owned))
}

fn between<'a>(text: &'a str, [before, after]: [&str; 2]) -> Option<&'a str> {
    let (_, text) = text.split_once(before)?;
    Some(text.split_once(after)?.0)
}

fn unescape_xml(text: &str) -> String {
    XML_ESCAPES.iter().fold(text.to_owned(), |text, (plain, escaped)| text.replace(escaped, plain))
}

/// Refuses more text than the longest recipe, with a margin for the XML around it.
fn check_len(bytes: u64) -> Result<()> {
    if bytes > MAX_BYTES + 1024 { Err(MediaError::RecipeTooLong { bytes, limit: MAX_BYTES }) } else { Ok(()) }
}

/// A file whose reads are checked against its length.
struct Source<'a, R> {
    file: R,
    len: u64,
    path: &'a Path,
    steps: usize,
    position: u64,
}

impl<R: Read + Seek> Source<'_, R> {
    fn read_at(&mut self, position: u64, out: &mut [u8]) -> Result<()> {
        // A relative seek keeps what is buffered.
        let moved = self.file.seek_relative(position as i64 - self.position as i64);
        self.position = position + out.len() as u64;
        match moved.and_then(|()| self.file.read_exact(out)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.damaged("it is cut short")),
            Err(source) => Err(MediaError::io("read", self.path, source)),
        }
    }

    fn array<const N: usize>(&mut self, position: u64) -> Result<[u8; N]> {
        let mut out = [0; N];
        if position.checked_add(N as u64).is_none_or(|end| end > self.len) {
            return Err(self.damaged("it is cut short"));
        }
        self.read_at(position, &mut out)?;
        Ok(out)
    }

    fn bytes(&mut self, range: Range<u64>) -> Result<Vec<u8>> {
        if range.end > self.len {
            return Err(self.damaged("it is cut short"));
        }
        let mut out = vec![0; (range.end - range.start) as usize];
        self.read_at(range.start, &mut out)?;
        Ok(out)
    }

    fn text(&mut self, range: Range<u64>) -> Result<String> {
        check_len(range.end - range.start)?;
        let bytes = self.bytes(range)?;
        self.utf8(bytes)
    }

    fn utf8(&self, bytes: Vec<u8>) -> Result<String> {
        String::from_utf8(bytes).map_err(|_| self.damaged("its recipe is not UTF-8"))
    }

    fn step(&mut self) -> Result<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS { Err(self.damaged("it has too many parts")) } else { Ok(()) }
    }

    fn damaged(&self, what: impl Into<String>) -> MediaError {
        MediaError::Damaged { path: self.path.to_path_buf(), what: what.into() }
    }
}

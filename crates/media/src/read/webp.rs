//! Animated WebP (<https://developers.google.com/speed/webp/docs/riff_container>), frame by frame, over white.

use super::{ClipReader, speed, uneven};
use crate::clip::{ClipSpec, Frame};
use crate::error::{MediaError, Result};
use crate::picture::{Picture, check_stored_size, over_white, riff_len};
use crate::stored::{Stored, Stream};
use image_webp::{DecodingError, WebPDecoder};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The most memory for a chunk of metadata, in bytes.
const MEMORY_LIMIT: usize = 1 << 24;

pub(crate) struct WebpReader {
    path: PathBuf,
    decoder: WebPDecoder<BufReader<Stream>>,
    spec: ClipSpec,
    done: usize,
    note: Option<String>,
}

impl WebpReader {
    /// Opens the file, which begins with `start`; returns `None` if it holds a still picture.
    pub(crate) fn open(stored: &Stored, start: &[u8]) -> Result<Option<Self>> {
        let (path, io) = (stored.path.as_path(), |error| stored.failed(error));
        let mut file = stored.open()?;
        // The decoder fills up what is missing of a lossy frame.
        let len = file.seek(SeekFrom::End(0)).map_err(io)?;
        file.rewind().map_err(io)?;
        if riff_len(start).is_none_or(|claimed| claimed > len) {
            return Err(MediaError::Damaged { path: path.to_path_buf(), what: "it is cut short".into() });
        }
        let failed = |error| failed(path, error);
        let mut decoder = WebPDecoder::new(BufReader::new(file)).map_err(failed)?;
        let (width, height) = decoder.dimensions();
        let (width, height) = (width as usize, height as usize);
        check_stored_size(width, height, path)?;
        if !decoder.is_animated() {
            return Ok(None);
        }
        decoder.set_memory_limit(MEMORY_LIMIT);
        // The colour that the file names is a hint; players leave it transparent.
        decoder.set_background_color([0; 4]).map_err(failed)?;
        let fps = speed(decoder.num_frames().into(), decoder.loop_duration(), 1000)?;
        let spec = ClipSpec { width, height, fps };
        let (least, most) = durations(stored.open()?, len).map_err(io)?;
        let note = uneven(least, most, 1000.0, fps);
        Ok(Some(Self { path: path.to_path_buf(), decoder, spec, done: 0, note }))
    }

    fn count(&self) -> usize {
        self.decoder.num_frames() as usize
    }
}

impl ClipReader for WebpReader {
    fn spec(&self) -> ClipSpec {
        self.spec
    }

    fn frames(&self) -> Option<usize> {
        Some(self.count())
    }

    fn notes(&self) -> Vec<String> {
        self.note.iter().cloned().collect()
    }

    fn next_frame(&mut self) -> Result<Option<Frame>> {
        if self.done == self.count() {
            return Ok(None);
        }
        let ClipSpec { width, height, .. } = self.spec;
        let alpha = self.decoder.has_alpha();
        let mut pixels = vec![0; width * height * if alpha { 4 } else { 3 }];
        let decoder = &mut self.decoder;
        contained(&self.path, || decoder.read_frame(&mut pixels))?.map_err(|error| failed(&self.path, error))?;
        let rgb = if alpha { over_white(&pixels) } else { pixels };
        self.done += 1;
        Ok(Some(Picture { width, height, rgb }.to_frame()))
    }
}

/// Returns the shortest and the longest duration of the frames (`ANMF`) of a file of `len` bytes, in milliseconds.
fn durations(file: Stream, len: u64) -> io::Result<(u64, u64)> {
    let (mut file, mut at, mut found) = (BufReader::new(file), 12, (u64::MAX, 0));
    // A chunk: its kind, its length, its content, filled up to an even length. A frame has its duration after 12 bytes.
    while at + 24 <= len {
        let mut chunk = [0; 24];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut chunk)?;
        let &[k, i, n, d, a, b, c, e, ..] = &chunk;
        if [k, i, n, d] == *b"ANMF" {
            let duration = u64::from(u32::from_le_bytes([chunk[20], chunk[21], chunk[22], 0]));
            found = (found.0.min(duration), found.1.max(duration));
        }
        at += 8 + u64::from(u32::from_le_bytes([a, b, c, e])).next_multiple_of(2);
    }
    Ok(found)
}

/// Runs the decoder and turns its panic into an error: it indexes past the end of some damaged transparency chunks. The
/// decoder must not be used after a panic.
fn contained<T>(path: &Path, decode: impl FnOnce() -> T) -> Result<T> {
    let damaged = |_| MediaError::Damaged { path: path.to_path_buf(), what: "a frame cannot be decoded".into() };
    catch_unwind(AssertUnwindSafe(decode)).map_err(damaged)
}

fn failed(path: &Path, error: DecodingError) -> MediaError {
    let damaged = |what: String| MediaError::Damaged { path: path.to_path_buf(), what };
    match error {
        DecodingError::IoError(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
            damaged("it is cut short".into())
        }
        DecodingError::IoError(source) => MediaError::io("read", path, source),
        other => damaged(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_decoder_is_a_damaged_file() {
        let path = Path::new("a.webp");
        assert!(matches!(contained(path, || 7), Ok(7)));
        let empty: &[u8] = &[];
        let failed = contained(path, || empty[std::hint::black_box(3)]);
        assert!(matches!(failed, Err(MediaError::Damaged { .. })));
    }
}

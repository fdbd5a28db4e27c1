//! [`Cursor`]: the numbers and texts of a GGUF header, read one after the other.

use crate::data::Data;

/// The longest header that is read, in bytes: the vocabulary of a text encoder has a few million.
const LONGEST_HEADER: usize = 1 << 27;
/// The longest text that is kept, in bytes.
const LONGEST_TEXT: usize = 1 << 20;
/// The number of bytes that are read at a time.
const PIECE: usize = 1 << 16;

/// The result of reading a part; the error is the end of a sentence about the file.
pub(super) type Read<T> = Result<T, String>;

/// A position in a header.
pub(super) struct Cursor<'a> {
    data: &'a Data,
    at: usize,
    piece: Vec<u8>,
    piece_start: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(data: &'a Data, at: usize) -> Self {
        Self { data, at, piece: Vec::new(), piece_start: 0 }
    }

    /// The position, in bytes from the file's start.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The number of bytes that are left in the file.
    pub(super) fn left(&self) -> usize {
        self.data.len().saturating_sub(self.at)
    }

    /// Goes on by `count` bytes, which lie in the file.
    pub(super) fn skip(&mut self, count: usize) -> Read<()> {
        if count > self.left() {
            return Err(format!("the file is cut short: its header goes on behind its {} bytes", self.data.len()));
        }
        self.at += count;
        if self.at > LONGEST_HEADER {
            return Err(format!("its header is longer than {LONGEST_HEADER} bytes"));
        }
        Ok(())
    }

    /// The next `N` bytes.
    pub(super) fn bytes<const N: usize>(&mut self) -> Read<[u8; N]> {
        let start = self.at;
        self.skip(N)?;
        if start < self.piece_start || start + N > self.piece_start + self.piece.len() {
            self.piece.resize(PIECE.min(self.data.len() - start), 0);
            self.piece_start = start;
            self.data.read(start, &mut self.piece).map_err(|error| error.to_string())?;
        }
        let from = start - self.piece_start;
        let bytes = self.piece.get(from..from + N).and_then(|bytes| bytes.first_chunk::<N>());
        bytes.copied().ok_or_else(|| "its header cannot be read".to_string())
    }

    pub(super) fn u32(&mut self) -> Read<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    pub(super) fn u64(&mut self) -> Read<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    /// A number of things of which each takes at least `bytes` bytes: no more than there is room for.
    pub(super) fn count(&mut self, bytes: usize, of: &str) -> Read<usize> {
        let count = self.u64()?;
        let room = self.left() / bytes;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= room)
            .ok_or_else(|| format!("it says that it has {count} {of}, for which it is too short"))
    }

    /// A text.
    pub(super) fn text(&mut self) -> Read<String> {
        let length = self.count(1, "bytes of a text")?;
        if length > LONGEST_TEXT {
            return Err(format!("a text in its header has {length} bytes, at most {LONGEST_TEXT} are read"));
        }
        let start = self.at;
        self.skip(length)?;
        let bytes = self.data.get(start..start + length).ok_or("its header cannot be read")?;
        String::from_utf8(bytes.into_owned()).map_err(|_| "a text in its header is not UTF-8".to_string())
    }

    /// Goes on behind a text.
    pub(super) fn skip_text(&mut self) -> Read<()> {
        let length = self.count(1, "bytes of a text")?;
        self.skip(length)
    }
}

//! The boxes of an ISO base media file (ISO/IEC 14496-12, 4.2).
//!
//! Sizes in the file are checked against the file and against the enclosing box.

use crate::container::FIRST_BOXES;
use crate::stored::Stream;
use std::io::{self, Read, Seek, SeekFrom};

/// The largest index (`moov`) that is read into memory, enough for many hours of video.
const MAX_INDEX: u64 = 32 << 20;

/// The most boxes visited before the index.
const MAX_BOXES: usize = 100_000;

/// A box in memory.
pub(crate) struct Child<'a> {
    pub(crate) kind: [u8; 4],
    /// The whole box, header included.
    pub(crate) whole: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// The reason why no index could be read.
pub(crate) enum NoIndex {
    /// The file cannot be read.
    Io(io::Error),
    /// The file is not an MP4 file.
    OtherFormat,
    /// The file is damaged, with the reason.
    Damaged(String),
}

/// Reads the payload of the index (`moov`) of a file of `len` bytes.
pub(crate) fn read_index(file: &mut Stream, len: u64) -> Result<Vec<u8>, NoIndex> {
    let mut index = None;
    visit(file, len, *b"moov", |_, payload| {
        index = Some(payload);
        false
    })?;
    index.ok_or_else(|| NoIndex::Damaged("it has no index (moov): it may be cut short".into()))
}

/// Calls `take` with the start and the payload of every box of this kind in a file of `len` bytes, until it returns false.
pub(crate) fn visit(
    file: &mut Stream,
    len: u64,
    wanted: [u8; 4],
    mut take: impl FnMut(u64, Vec<u8>) -> bool,
) -> Result<(), NoIndex> {
    let mut start = 0;
    for count in 0..MAX_BOXES {
        let mut header = [0; 16];
        let available = (len - start).min(16) as usize;
        file.seek(SeekFrom::Start(start)).map_err(NoIndex::Io)?;
        file.read_exact(&mut header[..available]).map_err(NoIndex::Io)?;
        let header = &header[..available];
        if count == 0 && !FIRST_BOXES.iter().any(|kind| header.get(4..8) == Some(&kind[..])) {
            return Err(NoIndex::OtherFormat);
        }
        if available == 0 {
            break;
        }
        let (kind, skip, size) = parse(header, len - start).map_err(NoIndex::Damaged)?;
        if kind == wanted {
            let size = size - skip;
            if size > MAX_INDEX {
                let what = format!("its index (moov) is {size} bytes long, at most {MAX_INDEX} are read");
                return Err(NoIndex::Damaged(what));
            }
            let mut payload = vec![0; size as usize];
            file.seek(SeekFrom::Start(start + skip)).map_err(NoIndex::Io)?;
            file.read_exact(&mut payload).map_err(NoIndex::Io)?;
            if !take(start, payload) {
                break;
            }
        }
        start += size;
    }
    Ok(())
}

/// Returns the boxes in `bytes`.
pub(crate) fn children(mut bytes: &[u8]) -> Result<Vec<Child<'_>>, String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (kind, skip, size) = parse(bytes, bytes.len() as u64)?;
        let (whole, rest) = bytes.split_at(size as usize);
        found.push(Child { kind, whole, payload: &whole[skip as usize..] });
        bytes = rest;
        // QuickTime may end a list of boxes with a zero.
        if bytes == [0; 4] {
            break;
        }
    }
    Ok(found)
}

/// Returns the payload of the first box of this kind among `boxes`.
pub(crate) fn find<'a>(boxes: &[Child<'a>], kind: [u8; 4]) -> Option<&'a [u8]> {
    boxes.iter().find(|child| child.kind == kind).map(|child| child.payload)
}

/// Returns the kind, the length of the header and the length of the box that starts with `header`; `available` bytes are left.
fn parse(header: &[u8], available: u64) -> Result<([u8; 4], u64, u64), String> {
    let &[a, b, c, d, kind @ ..] = header.first_chunk::<8>().ok_or("a box is cut short")?;
    let (skip, size) = match (u32::from_be_bytes([a, b, c, d]), header.get(8..16)) {
        (0, _) => (8, available),
        (1, Some(&[a, b, c, d, e, f, g, h])) => (16, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        (1, _) => return Err("a box is cut short".into()),
        (size, _) => (8, u64::from(size)),
    };
    if size < skip || size > available {
        let name = String::from_utf8_lossy(&kind).into_owned();
        return Err(format!("box `{}` has size {size}, {available} bytes are left", name.escape_debug()));
    }
    Ok((kind, skip, size))
}
